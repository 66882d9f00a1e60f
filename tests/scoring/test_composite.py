"""The composite against a slow, plain reference that is checked by hand, and its edge cases."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapivot.config.sections.scoring import CompositeSettings, Timeframes
from alphapivot.errors import DataError
from alphapivot.frames import Composites
from alphapivot.scoring.composite import TERMS, compose
from alphapivot.scoring.waterfall import waterfall

DAYS = pd.date_range("2024-01-01 21:00", periods=4, tz="UTC").as_unit("us")
DAILY = Timeframes(base="1d", weights={"1d": 1.0})
BOTH = Timeframes(base="1d", weights={"1d": 0.75, "1w": 0.25})


def blend(**keys):
    return CompositeSettings(**{"weights": {"trend": 0.6, "momentum": 0.4}} | keys)


def signal(pillar, symbol, interval, ts, score=None, *, gate=None, veto=None):
    key = {"pillar": pillar, "symbol": symbol, "interval": interval, "ts": ts}
    return key | {"score": score, "gate": gate, "veto": veto}


def frame(rows):
    df = pd.DataFrame(rows, columns=["pillar", "symbol", "interval", "ts", "score", "gate", "veto"])
    texts, numbers = ("pillar", "symbol", "interval", "veto"), ("score", "gate")
    df = df.astype(dict.fromkeys(texts, "str") | dict.fromkeys(numbers, np.float32))
    return df.assign(ts=pd.DatetimeIndex(df["ts"], tz="UTC").as_unit("us"))


def due(rows):
    df = pd.DataFrame(rows, columns=["symbol", "interval", "ts", "due"])
    instants = {c: pd.DatetimeIndex(df[c], tz="UTC").as_unit("us") for c in ("ts", "due")}
    return df.assign(**instants).astype({"symbol": "str", "interval": "str"})


def every_day(symbol="A", interval="1d", days=DAYS):
    return [(symbol, interval, day, day) for day in days]


def one(signals, blending, dues=None, timeframes=DAILY):
    composites, terms = compose(frame(signals), due(dues or [("A", "1d", DAYS[0], DAYS[0])]), blending, timeframes)
    assert len(composites) == 1
    return composites.iloc[0], terms


def reference(signals, dues, blending, timeframes):
    """The rules of ``compose`` in plain Python, one row at a time: (raw, gate, score, veto, used)."""
    stored = {(s["pillar"], s["symbol"], s["interval"], s["ts"]): s for s in signals}
    newest = {(symbol, ts, interval): at for symbol, interval, ts, at in dues}
    results = {}
    for symbol, ts in sorted({(symbol, ts) for symbol, _, ts, _ in dues}):

        def fresh(pillar, symbol=symbol, ts=ts):
            found = {i: stored.get((pillar, symbol, i, newest[symbol, ts, i])) for i in timeframes.weights}
            return {i: s for i, s in found.items() if s is not None}

        def blended(pillar, what, fresh=fresh):
            known = {i: s[what] for i, s in fresh(pillar).items() if s[what] is not None}
            if timeframes.base not in known:
                return None
            weights = {i: timeframes.weights[i] for i in known}
            return sum(weights[i] * known[i] for i in known) / sum(weights.values())

        votes = {p: blended(p, "score") for p, w in blending.weights.items() if w > 0}
        gates = {p: blended(p, "gate") for p in blending.gates}
        scaled = {p: blending.scalars.get(p, 1.0) * v for p, v in votes.items() if v is not None}
        present = {p: max(-100.0, min(100.0, v)) for p, v in scaled.items()}
        raw = None
        if present:
            raw = sum(blending.weights[p] * v for p, v in present.items()) / sum(blending.weights[p] for p in present)
        closed = {p for p, g in gates.items() if g is None}
        gate = None if closed else math.prod(1 - blending.gates[p] * (1 - g) for p, g in gates.items())
        renormalised = blending.on_missing_pillar == "renormalise" and present
        silent = {p for p in blending.optional if present and timeframes.base in fresh(p)}
        missing = closed | {p for p in votes if p not in present | dict.fromkeys(silent) and not renormalised}
        codes = {f"missing:{p}" for p in missing}
        codes |= {f"{s['veto']}:{p}" for p in {*votes, *gates} for s in fresh(p).values() if s["veto"] is not None}
        score = None if missing else raw * gate
        used = sorted(p for p in {*votes, *gates} if p not in closed and votes.get(p, 0) is not None)
        results[symbol, ts] = (raw, gate, score, ",".join(sorted(codes)) or None, ",".join(used))
    return results


def value(number):
    return None if pd.isna(number) else float(number)


def test_a_plain_case_worked_by_hand():
    # 0.6 x 50 + 0.4 x (-20) = 22; gate 1 - 0.5 x (1 - 0.4) = 0.7; 22 x 0.7 = 15.4
    signals = [
        signal("trend", "A", "1d", DAYS[0], 50),
        signal("momentum", "A", "1d", DAYS[0], -20),
        signal("quality", "A", "1d", DAYS[0], gate=0.4),
    ]
    row, _ = one(signals, blend(gates={"quality": 0.5}))
    assert (row["raw"], row["gate"], row["score"]) == (np.float32(22), np.float32(0.7), np.float32(15.4))
    assert pd.isna(row["veto"])
    assert row["pillars_used"] == "momentum,quality,trend"


def test_timeframes_scalars_and_caps_worked_by_hand():
    # trend: 0.75 x 40 + 0.25 x 80 = 50, x 3 = 150, capped 100; momentum: its week is stale, so 10 alone
    # 0.6 x 100 + 0.4 x 10 = 64
    signals = [
        signal("trend", "A", "1d", DAYS[3], 40),
        signal("trend", "A", "1w", DAYS[2], 80),
        signal("momentum", "A", "1d", DAYS[3], 10),
        signal("momentum", "A", "1w", DAYS[0], -90),
    ]
    dues = [("A", "1d", DAYS[3], DAYS[3]), ("A", "1w", DAYS[3], DAYS[2])]
    row, terms = one(signals, blend(scalars={"trend": 3.0}), dues, BOTH)
    assert row["raw"] == row["score"] == np.float32(64)
    by = terms.set_index(["pillar", "interval"])
    assert by.loc[("trend", "1d"), "contribution"] == pytest.approx(0.6 * 100 * 30 / 50)
    assert by.loc[("trend", "1w"), "contribution"] == pytest.approx(0.6 * 100 * 20 / 50)
    assert by.loc[("momentum", "1w"), "share"] == 0
    assert pd.isna(by.loc[("momentum", "1w"), "score"])
    # the reference itself agrees with both hand-worked cases
    assert reference(signals, dues, blend(scalars={"trend": 3.0}), BOTH)["A", DAYS[3]][:3] == (64.0, 1.0, 64.0)


def test_a_missing_pillar_makes_no_entry_but_raw_still_judges_open_trades():
    row, _ = one([signal("trend", "A", "1d", DAYS[0], 50)], blend())
    assert (row["raw"], value(row["score"]), row["veto"]) == (50, None, "missing:momentum")
    assert row["pillars_used"] == "trend"


def test_a_missing_pillar_is_left_out_where_the_policy_says_renormalise():
    row, _ = one([signal("trend", "A", "1d", DAYS[0], 50)], blend(on_missing_pillar="renormalise"))
    assert (row["raw"], row["score"], value(row["veto"]), row["pillars_used"]) == (50, 50, None, "trend")


def test_no_pillar_at_all_is_null_under_either_policy():
    for policy in ("no_entries", "renormalise"):
        row, _ = one([], blend(on_missing_pillar=policy))
        assert (value(row["raw"]), value(row["score"])) == (None, None)
        assert row["veto"] == "missing:momentum,missing:trend"


def test_a_missing_gate_blocks_under_either_policy():
    both = [signal(p, "A", "1d", DAYS[0], 50) for p in ("trend", "momentum")]
    for policy in ("no_entries", "renormalise"):
        row, _ = one(both, blend(gates={"risk": 0.5}, on_missing_pillar=policy))
        assert (row["raw"], value(row["gate"]), value(row["score"]), row["veto"]) == (50, None, None, "missing:risk")


def test_yesterdays_signal_is_stale_and_so_missing():
    rows = [signal("trend", "A", "1d", DAYS[1], 50), signal("momentum", "A", "1d", DAYS[0], 50)]
    row, _ = one(rows, blend(), [("A", "1d", DAYS[1], DAYS[1])])
    assert row["veto"] == "missing:momentum"


def test_a_pillar_with_only_its_higher_timeframe_fresh_is_missing():
    rows = [signal("trend", "A", i, DAYS[0], 50) for i in ("1d", "1w")] + [signal("momentum", "A", "1w", DAYS[0], 50)]
    row, _ = one(rows, blend(), [("A", "1d", DAYS[0], DAYS[0]), ("A", "1w", DAYS[0], DAYS[0])], BOTH)
    assert row["veto"] == "missing:momentum"


def test_a_higher_timeframe_that_is_not_complete_yet_moves_nothing():
    now = [signal(p, "A", "1d", DAYS[1], 40) for p in ("trend", "momentum")]
    dues = [("A", "1d", DAYS[1], DAYS[1]), ("A", "1w", DAYS[1], None)]
    unfinished = [signal("trend", "A", "1w", DAYS[3], -100)]
    with_it, _ = one(now + unfinished, blend(), dues, BOTH)
    without, _ = one(now, blend(), dues, BOTH)
    pd.testing.assert_series_equal(with_it, without)
    assert with_it["score"] == 40


def test_zero_null_and_vetoed_are_three_things():
    zero, _ = one([signal(p, "A", "1d", DAYS[0], 0) for p in ("trend", "momentum")], blend())
    null, _ = one([signal("trend", "A", "1d", DAYS[0], 0), signal("momentum", "A", "1d", DAYS[0])], blend())
    vetoed, _ = one(
        [signal("trend", "A", "1d", DAYS[0], 0, veto="illiquid"), signal("momentum", "A", "1d", DAYS[0], 0)], blend()
    )
    assert (value(zero["score"]), value(zero["veto"] if pd.isna(zero["veto"]) else 1)) == (0.0, None)
    assert (value(null["score"]), null["veto"]) == (None, "missing:momentum")
    assert (value(vetoed["score"]), vetoed["veto"]) == (0.0, "illiquid:trend")
    assert not np.signbit(zero["score"])


def test_of_a_gate_without_strength_only_the_vetoes_count():
    both = [signal(p, "A", "1d", DAYS[0], 50) for p in ("trend", "momentum")]
    row, _ = one([*both, signal("risk", "A", "1d", DAYS[0], gate=0.1)], blend(gates={"risk": 0}))
    assert (row["score"], row["gate"], row["pillars_used"]) == (50, 1, "momentum,risk,trend")
    row, _ = one([*both, signal("risk", "A", "1d", DAYS[0], gate=0.1, veto="shock")], blend(gates={"risk": 0}))
    assert (row["score"], row["veto"]) == (50, "shock:risk")
    row, _ = one(both, blend(gates={"risk": 0}))  # a check that has failed is no check that has passed
    assert (value(row["score"]), row["veto"]) == (None, "missing:risk")


def test_where_an_optional_pillar_knows_nothing_the_others_decide():
    trend, unknown = signal("trend", "A", "1d", DAYS[0], 50), signal("momentum", "A", "1d", DAYS[0])
    row, _ = one([trend, unknown], blend(optional=("momentum",)))
    assert (row["score"], row["raw"], row["pillars_used"]) == (50, 50, "trend")
    assert pd.isna(row["veto"])
    # it failed, or its signal is stale
    row, _ = one([trend], blend(optional=("momentum",)))
    assert (value(row["score"]), row["raw"], row["veto"]) == (None, 50, "missing:momentum")
    # and where nothing is known there is no score
    row, _ = one([unknown, signal("trend", "A", "1d", DAYS[0])], blend(optional=("momentum",)))
    assert (value(row["score"]), value(row["raw"])) == (None, None)
    assert row["veto"] == "missing:momentum,missing:trend"


def test_turning_every_signal_round_turns_the_composite_round():
    rng = np.random.default_rng(1)
    rows = [
        signal(p, "A", "1d", d, round(float(rng.uniform(-100, 100)), 2)) for p in ("trend", "momentum") for d in DAYS
    ]
    there, _ = compose(frame(rows), due(every_day()), blend(), DAILY)
    back, _ = compose(frame([r | {"score": -r["score"]} for r in rows]), due(every_day()), blend(), DAILY)
    np.testing.assert_array_equal(there["score"], -back["score"])


def test_the_result_is_the_frame_of_composites():
    rows = [signal("trend", "A", "1d", DAYS[0], 50, veto="x"), signal("momentum", "A", "1d", DAYS[0], 50)]
    composites, terms = compose(frame(rows), due(every_day("B") + every_day("A")), blend(), DAILY)
    Composites.validate(composites.assign(scope="live", batch_id=np.int64(1))[Composites.columns()])
    assert list(terms.columns) == list(TERMS)
    assert composites["symbol"].tolist() == ["A"] * 4 + ["B"] * 4
    assert composites["ts"].is_monotonic_increasing or composites.groupby("symbol")["ts"].is_monotonic_increasing.all()


def test_nothing_due_gives_empty_frames_of_the_right_kind():
    nothing = pd.DataFrame(columns=["symbol", "interval", "ts", "due"])
    composites, terms = compose(frame([]), nothing, blend(), DAILY)
    assert (len(composites), len(terms)) == (0, 0)
    stored = composites.assign(scope="live", batch_id=np.int64(1)).astype({"scope": "str"})
    Composites.validate(stored[Composites.columns()])


def test_unexplained_composites_are_the_same():
    rows = [signal(p, "A", "1d", DAYS[0], 50) for p in ("trend", "momentum")]
    explained, _ = compose(frame(rows), due(every_day()), blend(), DAILY)
    plain, terms = compose(frame(rows), due(every_day()), blend(), DAILY, explained=False)
    pd.testing.assert_frame_equal(explained, plain)
    assert len(terms) == 0


def test_repeated_and_lacking_rows_are_refused_by_name():
    twice = [signal("trend", "A", "1d", DAYS[0], 50), signal("trend", "A", "1d", DAYS[0], 51)]
    with pytest.raises(DataError, match=r"trend A 1d 2024-01-01T21:00:00[.]000000Z is duplicated"):
        compose(frame(twice), due(every_day()), blend(), DAILY)
    with pytest.raises(DataError, match=r"duplicate row A 2024-01-01T21:00:00[.]000000Z; expected one per symbol"):
        compose(frame([]), due(every_day() + every_day()), blend(), DAILY)
    with pytest.raises(DataError, match="1w has other instants than 1d"):
        compose(frame([]), due(every_day() + every_day(interval="1w")[:2]), blend(), BOTH)
    with pytest.raises(DataError, match="must be aware"):
        compose(frame([]), due(every_day()).assign(ts=DAYS.tz_localize(None)), blend(), DAILY)


def test_a_waterfall_of_several_instants_is_refused():
    _, terms = compose(frame([]), due(every_day()), blend(), DAILY)
    with pytest.raises(DataError, match="several"):
        waterfall(terms)


HUNDREDTHS = st.integers(-10_000, 10_000).map(lambda n: n / 100)
PILLARS = ("flow", "momentum", "quality", "trend")
SETTINGS = st.builds(
    lambda weights, gates, scalars, policy, optional: CompositeSettings(
        weights={p: w / sum(weights) for p, w in zip(("flow", "momentum", "trend"), weights, strict=True)},
        gates=gates,
        scalars=scalars,
        on_missing_pillar=policy,
        optional=optional,
    ),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.dictionaries(st.sampled_from(("quality", "trend")), st.sampled_from((0.0, 0.3, 1.0)), max_size=2),
    st.dictionaries(st.sampled_from(("momentum", "trend")), st.sampled_from((0.5, 1.7, 4.0)), max_size=2),
    st.sampled_from(("no_entries", "renormalise")),
    st.sampled_from(((), ("flow",), ("flow", "momentum"))),
)
KEYS = st.tuples(
    st.sampled_from(PILLARS), st.sampled_from("AB"), st.sampled_from(("1d", "1w")), st.sampled_from(list(DAYS))
)
SIGNALS = st.dictionaries(
    KEYS,
    st.tuples(
        st.one_of(st.none(), HUNDREDTHS),
        st.one_of(st.none(), st.integers(0, 10_000).map(lambda n: n / 10_000)),
        st.sampled_from((None, None, None, "thin", "halted")),
    ),
    max_size=60,
).map(lambda found: [signal(*key, score, gate=gate, veto=veto) for key, (score, gate, veto) in found.items()])
WEEKS = st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=8, max_size=8)


@settings(deadline=None)  # the machine is shared
@given(SIGNALS, SETTINGS, WEEKS)
def test_it_agrees_with_the_plain_reference_and_its_terms_add_up(signals, blending, weeks):
    dues = every_day("A") + every_day("B")
    dues += [
        (symbol, "1w", ts, None if at is None else DAYS[min(at, i)])
        for (symbol, i, ts), at in zip([(s, i, d) for s in "AB" for i, d in enumerate(DAYS)], weeks, strict=True)
    ]
    composites, terms = compose(frame(signals), due(dues), blending, BOTH)
    expected = reference(signals, dues, blending, BOTH)
    assert list(zip(composites["symbol"], composites["ts"], strict=True)) == list(expected)
    for row, (raw, gate, score, veto, used) in zip(composites.to_dict("records"), expected.values(), strict=True):
        for got, wanted, step in ((row["raw"], raw, 0.01), (row["gate"], gate, 0.0001), (row["score"], score, 0.01)):
            # rounding may fall either way where the exact value lies halfway
            assert (value(got) is None) == (wanted is None)
            assert wanted is None or abs(float(got) - wanted) <= step / 2 + 1e-5
        assert (None if pd.isna(row["veto"]) else row["veto"]) == veto
        assert row["pillars_used"] == used

        own_terms = terms[(terms["symbol"] == row["symbol"]) & (terms["ts"] == row["ts"])]
        contributions = own_terms["contribution"].dropna().tolist()
        assert sum(contributions) == sum(reversed(contributions)) == math.fsum(contributions)
        lines = waterfall(own_terms)
        if raw is not None and gate is not None:
            assert math.fsum(line.effect for line in lines) == lines[-1].total
            if score is not None:
                assert np.float32(round(lines[-1].total, 2)) == np.float32(row["score"])


def test_the_terms_of_many_pillars_add_up_exactly_in_any_order():
    rng, names = np.random.default_rng(3), ("flow", "momentum", "structure", "trend", "value")
    days = pd.date_range("2020-01-01 21:00", periods=300, tz="UTC").as_unit("us")
    rows = [
        signal(p, "A", i, d, round(float(rng.uniform(-100, 100)), 2), gate=round(float(rng.uniform()), 4))
        for p in (*names, "quality")
        for i in ("1d", "1w")
        for d in days
    ]
    blending = blend(weights=dict.fromkeys(names, 0.2), scalars={"flow": 1.3}, gates={"quality": 0.7, "trend": 0.3})
    dues = [(s, i, d, d) for s, _, d, _ in every_day(days=days) for i in ("1d", "1w")]
    composites, terms = compose(frame(rows), due(dues), blending, BOTH)
    for row, (_, mine) in zip(composites.to_dict("records"), terms.groupby("ts"), strict=True):
        contributions = mine["contribution"].dropna().tolist()
        assert len(contributions) == 10
        assert (
            sum(contributions) == sum(reversed(contributions)) == sum(sorted(contributions)) == math.fsum(contributions)
        )
        assert row["raw"] == np.float32(round(math.fsum(contributions), 2))
        lines = waterfall(mine)
        assert math.fsum(line.effect for line in lines) == lines[-1].total
        assert row["score"] == np.float32(round(lines[-1].total, 2))
