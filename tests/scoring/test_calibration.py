"""Scalars, correlations and the multiplier: worked by hand, against numpy, and independent of later scores."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.config.sections.scoring import CompositeSettings, Timeframes
from alphapivot.frames import Composites
from alphapivot.scoring import calibration
from alphapivot.scoring.blend import calibrate
from alphapivot.scoring.calibration import Calibration
from alphapivot.scoring.composite import blended, compose
from alphapivot.scoring.waterfall import waterfall
from tasks import composite as composite_step
from tasks.local import replay
from tests.scores import change

ROOT = Path(__file__).parents[2]
WEIGHTS = {"flow": 0.2, "momentum": 0.3, "trend": 0.5}


def settings(**keys):
    return CompositeSettings(**{"weights": WEIGHTS, "calibrate": "quarterly", "min_bars": 20, "shrinkage": 0} | keys)


def instants(*texts):
    return np.array(texts, dtype="datetime64[us]")


def scores(days=800, symbols=("A", "B"), seed=1):
    """Three pillars: flow independent, momentum and trend correlated."""
    rng, ts = np.random.default_rng(seed), pd.bdate_range("2020-01-01 21:00", periods=days, tz="UTC").as_unit("us")
    frames = []
    for symbol in symbols:
        common = rng.normal(0, 30, days)
        columns = {
            "flow": rng.normal(0, 10, days),
            "momentum": common + rng.normal(0, 10, days),
            "trend": common + rng.normal(0, 20, days),
        }
        frame = pd.DataFrame({"symbol": symbol, "ts": ts, **columns})
        frame.loc[: days // 10, "momentum"] = np.nan
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


DATES = calibration.due("quarterly", np.datetime64("2020-01-01T21:00", "us"), np.datetime64("2023-02-01", "us"))


def test_dates_are_the_beginnings_of_periods_after_the_first_instant_and_up_to_the_last():
    found = calibration.due("quarterly", *instants("2020-04-01T00:00", "2021-01-01T00:00"))
    assert list(found) == list(instants("2020-07-01", "2020-10-01", "2021-01-01"))
    assert list(calibration.due("yearly", *instants("2019-12-31T23:00", "2021-06-01"))) == list(
        instants("2020-01-01", "2021-01-01")
    )
    assert list(calibration.due("monthly", *instants("1969-11-05", "1970-01-15"))) == list(
        instants("1969-12-01", "1970-01-01")
    )
    assert not calibration.due("yearly", *instants("2020-02-01", "2020-12-31")).size


def test_a_multiplier_worked_by_hand():
    # w'Cw = 0.25 + 0.25 + 2 x 0.25 x 0.28 = 0.64; 1 / sqrt = 1.25. Alone: 1
    fitted = Calibration(instants("2020-01-01"), {}, {("a", "b"): np.array([1.0, 0.28])})
    ts = instants("2019-12-31", "2020-01-01", "2020-06-01")
    weights = {"a": np.array([0.5, 0.5, 1.0]), "b": np.array([0.5, 0.5, 0.0])}
    np.testing.assert_allclose(fitted.multiplier(weights, ts, 2.5), [1.0, 1.25, 1.0], rtol=1e-15)
    np.testing.assert_allclose(fitted.multiplier(weights, ts, 1.1), [1.0, 1.1, 1.0], rtol=1e-15)


def test_negative_correlations_count_as_none():
    fitted = Calibration(instants("2020-01-01"), {}, {("a", "b"): np.array([1.0, -0.9])})
    half = {"a": np.array([0.5]), "b": np.array([0.5])}
    assert fitted.multiplier(half, instants("2021-01-01"), 2.5) == pytest.approx(2**0.5)


def test_each_date_is_fitted_from_all_that_is_earlier_and_nothing_else():
    frame = scores()
    fitted = calibration.fit(frame, DATES, settings(typical_score=25)).set_index(["kind", "subject", "effective_from"])
    for date in DATES[1:]:
        at = pd.Timestamp(date, tz="UTC")
        past = frame[frame["ts"] < at]
        for pillar in WEIGHTS:
            known = past[pillar].dropna()
            expected = min(25 / known.abs().mean(), 10) if len(known) >= 2 * 20 else 1.0
            assert fitted.loc[("scalar", pillar, at), "value"] == pytest.approx(expected, abs=1e-6)
        for a, b in (("flow", "momentum"), ("flow", "trend"), ("momentum", "trend")):
            both = past[[a, b]].dropna()
            expected = both[a] @ both[b] / np.linalg.norm(both[a]) / np.linalg.norm(both[b]) if len(both) >= 40 else 1
            assert fitted.loc[("correlation", f"{a}|{b}", at), "value"] == pytest.approx(expected, abs=1e-6)


def test_what_came_later_moves_no_bit_of_what_was_fitted():
    frame = scores()
    whole = calibration.fit(frame, DATES, settings(shrinkage=0.5))
    for count in (2, 5, 9):
        known = frame[frame["ts"] < pd.Timestamp(DATES[count - 1], tz="UTC") + pd.Timedelta(days=11)]
        part = calibration.fit(known.reset_index(drop=True), DATES[:count], settings(shrinkage=0.5))
        expected = whole[whole["effective_from"] <= part["effective_from"].max()].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, expected, check_exact=True)


def test_a_score_at_the_very_date_is_not_yet_the_past():
    frame = scores(200)
    at = pd.Timestamp(DATES[1], tz="UTC")
    late = frame.iloc[[-1]].assign(ts=at, trend=1e3)
    more = pd.concat([frame, late], ignore_index=True)
    values = [calibration.fit(f, DATES[:2], settings()).set_index(["kind", "subject"])["value"] for f in (frame, more)]
    pd.testing.assert_series_equal(*values, check_exact=True)


def test_before_enough_is_known_everything_is_one():
    fitted = calibration.fit(scores(days=60), DATES[:1], settings(min_bars=100))
    assert set(fitted["value"]) == {1.0}
    silent = scores().assign(flow=0.0)
    fitted = calibration.fit(silent, DATES, settings()).set_index(["kind", "subject"])
    assert set(fitted.loc[("scalar", "flow"), "value"]) == {1.0}
    assert set(fitted.loc[("correlation", "flow|trend"), "value"]) == {1.0}


def test_a_whisper_is_not_made_loud():
    fitted = calibration.fit(scores().assign(flow=0.01), DATES, settings()).set_index(["kind", "subject"])
    assert fitted.loc[("scalar", "flow"), "value"].max() == calibration.LARGEST


def test_correlations_are_drawn_to_their_mean():
    plain, half, whole = (
        calibration.fit(scores(), DATES, settings(shrinkage=s)).query("kind == 'correlation'").set_index("subject")
        for s in (0, 0.5, 1)
    )
    last = pd.Timestamp(DATES[-1], tz="UTC")
    a, b, c = (f[f["effective_from"] == last]["value"] for f in (plain, half, whole))
    np.testing.assert_allclose(c, a.mean(), atol=1e-6)
    np.testing.assert_allclose(b, (a + a.mean()) / 2, atol=1e-6)
    assert a["momentum|trend"] > 0.7
    assert abs(a["flow|trend"]) < 0.3


def test_the_fitted_multiplier_brings_the_mean_back_to_the_size_of_its_members():
    frame = scores(days=3000)
    fitted = calibration.of(calibration.fit(frame, DATES, settings()), settings())
    ts = instants("2023-01-15")
    weights = {p: np.array([w]) for p, w in WEIGHTS.items()}
    scaled = {p: frame[p] * fitted.scalar(p, ts)[0] for p in WEIGHTS}
    mean = sum(WEIGHTS[p] * scaled[p] for p in WEIGHTS).dropna()
    size = np.mean([np.sqrt((scaled[p] ** 2).mean()) for p in WEIGHTS])
    grown = fitted.multiplier(weights, ts, 2.5)[0] * np.sqrt((mean**2).mean())
    assert grown == pytest.approx(size, rel=0.03)


# --- in the composite -------------------------------------------------------------------------------------------------


def composed(blending, fitted, days=("2020-03-31 21:00", "2020-04-01 21:00")):
    ts = pd.DatetimeIndex(days, tz="UTC").as_unit("us")
    signals = pd.DataFrame([("trend", 40.0), ("momentum", 20.0), ("flow", -10.0)], columns=["pillar", "score"]).merge(
        pd.DataFrame({"ts": ts}), how="cross"
    )
    signals = signals.assign(symbol="A", interval="1d", gate=np.float32("nan"), veto=None)
    due = pd.DataFrame({"symbol": "A", "interval": "1d", "ts": ts, "due": ts})
    return compose(signals, due, blending, Timeframes(base="1d", weights={"1d": 1.0}), calibration=fitted)


FITTED = Calibration(
    instants("2020-04-01"),
    {"trend": np.array([1.0, 0.5]), "momentum": np.array([1.0, 2.0])},
    {
        ("flow", "momentum"): np.array([1.0, 0.0]),
        ("flow", "trend"): np.array([1.0, 0.0]),
        ("momentum", "trend"): np.array([1.0, 0.4]),
    },
)


def test_a_calibration_holds_from_its_date_on_worked_by_hand():
    # before: 0.5 x 40 + 0.3 x 20 - 0.2 x 10 = 24
    # after: 0.5 x 20 + 0.3 x 40 - 0.2 x 10 = 20; w'Cw = 0.25 + 0.09 + 0.04 + 2 x 0.15 x 0.4 = 0.5; 20 x sqrt 2 = 28.28
    composites, terms = composed(settings(), FITTED)
    assert composites["raw"].tolist() == [24, np.float32(28.28)]
    lines = waterfall(terms[terms["ts"] == terms["ts"].max()])
    assert sum(line.effect for line in lines) == lines[-1].total
    assert lines[-1].total == pytest.approx(20 * 2**0.5, abs=1e-11)


def test_what_the_config_says_goes_before_what_was_fitted():
    composites, _ = composed(settings(scalars={"trend": 1.0}, multiplier=1.5), FITTED)
    assert composites["raw"].tolist() == [36, 45]  # 1.5 x 24; 1.5 x (20 + 12 - 2)


def test_blended_scores_are_what_the_composite_weighs():
    ts = pd.DatetimeIndex(["2020-03-31 21:00"], tz="UTC").as_unit("us")
    signals = pd.DataFrame(
        {"pillar": ["trend", "trend", "momentum"], "interval": ["1d", "1w", "1w"], "score": [40.0, 80.0, 10.0]}
    ).assign(symbol="A", ts=ts[0], gate=np.float32("nan"), veto=None)
    due = pd.DataFrame({"symbol": "A", "interval": ["1d", "1w"], "ts": ts[0], "due": ts[0]})
    found = blended(signals, due, settings(), Timeframes(base="1d", weights={"1d": 0.75, "1w": 0.25}))
    assert found["trend"].tolist() == [50]
    assert found[["flow", "momentum"]].isna().all(axis=None)


# --- through the database ---------------------------------------------------------------------------------------------


@pytest.fixture
def calibrated(hub_url, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(ROOT / "tests" / "configs" / "small.ini"))
    monkeypatch.setenv("ALPHAPIVOT_COMPOSITE__CALIBRATE", "quarterly")
    monkeypatch.setenv("ALPHAPIVOT_COMPOSITE__MIN_BARS", "60")
    return process.configure()


def rows(hub, query):
    with hub.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_the_step_fits_when_a_date_is_due_and_only_then(calibrated):
    counts = []
    for day in ("2025-03-27", "2025-03-28", "2025-04-02", "2025-04-03"):
        run, receipts = replay.session(calibrated, datetime.fromisoformat(f"{day}T23:30:00Z"))
        counts.append(receipts[-2].rows.get("signals.calibration", 0))
    pillars = len(calibrated.composite.weights)
    values = pillars + pillars * (pillars - 1) // 2  # a scalar each, and a correlation for each two
    assert counts == [8 * values, 0, values, 0]  # eight quarters from 2023-04 on
    hub = hubs.connect()
    values = rows(hub, "SELECT DISTINCT kind, value FROM signals.calibration WHERE effective_from > '2025-01-01'")
    assert all((0 < v <= 10) if kind == "scalar" else (-1 < v < 1) for kind, v in values)
    assert 1.0 not in {v for _, v in values}
    again = composite_step.compose.fn(run, after=receipts[2:-2])  # without ingestion and known-at
    assert again.unchanged


def test_a_changed_past_is_fitted_again_and_the_former_version_kept(calibrated):
    run, _ = replay.session(calibrated, datetime.fromisoformat("2025-04-03T23:30:00Z"))
    hub = hubs.connect()
    before = rows(hub, "SELECT * FROM signals.calibration ORDER BY kind, subject, effective_from")
    with hub.engine.begin() as connection:
        where = "symbol = 'ALPHA' AND ts > '2024-02-01' AND pillar = 'trend'"
        assert change(connection, "signal", "score = -score", where)
        connection.execute(text("UPDATE signals.watermark SET as_of = '2024-02-01' WHERE pillar = 'composite'"))
    run, _ = replay.session(calibrated, datetime.fromisoformat("2025-04-04T23:30:00Z"))
    changed = rows(hub, "SELECT kind, effective_from::date::text FROM signals.calibration_revision ORDER BY 2")
    assert "correlation" in {kind for kind, _ in changed}
    assert changed[0][1] == "2024-04-01"
    kept = rows(hub, "SELECT * FROM signals.calibration WHERE effective_from < '2024-02-01'"
                     " ORDER BY kind, subject, effective_from")  # fmt: skip
    assert kept == [row for row in before if row[3].year < 2024 or (row[3].year == 2024 and row[3].month == 1)]
    assert calibrate(hub, calibrated, run, after=run.as_of).empty


def test_composites_are_larger_where_pillars_are_brought_to_size(calibrated, server_url, template, monkeypatch):
    replay.session(calibrated, datetime.fromisoformat("2025-04-03T23:30:00Z"))
    ours = hubs.connect().read(Composites).sort_values(["symbol", "ts"], ignore_index=True)
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("hub", template=template))
    monkeypatch.setenv("ALPHAPIVOT_COMPOSITE__CALIBRATE", "never")
    replay.session(process.configure(), datetime.fromisoformat("2025-04-03T23:30:00Z"))
    plain = hubs.connect().read(Composites).sort_values(["symbol", "ts"], ignore_index=True)
    early = ours["ts"] < "2023-04-01"
    assert ours["raw"][early].equals(plain["raw"][early])
    late = ours["ts"] > "2024-06-01"
    assert not ours["raw"][late].equals(plain["raw"][late])


def test_shards_change_no_bit_of_calibrations_and_composites(calibrated, server_url, template, monkeypatch):
    def made(shards):
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("hub", template=template))
        monkeypatch.setenv("ALPHAPIVOT_RUNTIME__SHARDS", str(shards))
        for day in ("2024-12-30", "2025-01-03"):  # at once, and then what came after it
            replay.session(process.configure(), datetime.fromisoformat(f"{day}T23:30:00Z"))
        hub = hubs.connect()
        fitted = rows(hub, "SELECT kind, subject, effective_from, value FROM signals.calibration ORDER BY 1, 2, 3")
        composites = hub.read(Composites).drop(columns="batch_id").sort_values(["symbol", "ts"], ignore_index=True)
        return fitted, composites

    (fitted, composites), (again, alike) = made(1), made(3)
    assert len({value for *_, value in fitted}) > 20
    assert fitted == again
    pd.testing.assert_frame_equal(composites, alike, check_exact=True)
    assert composites["score"].notna().sum() > 500
