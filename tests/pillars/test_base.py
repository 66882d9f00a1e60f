"""Panel, Parts and Pillar.score: nothing is mixed, carried over a gap, or let through wrong."""

from __future__ import annotations

from typing import Any, ClassVar

import numba
import numpy as np
import pandas as pd
import pytest
import talib

from alphapivot.data import rolls
from alphapivot.errors import DataError
from pillars.base import SIGNAL, Features, Panel, Parts, Pillar
from pillars.kit.sample import sample_bars

NAN = np.nan


def panel(*closes):
    """A panel of one symbol per list of closes, a bar a day."""
    frames = []
    for i, close in enumerate(closes):
        ts = pd.date_range("2024-01-01", periods=len(close), tz="UTC").as_unit("us")
        frames.append(pd.DataFrame({"symbol": f"S{i}", "ts": ts, "close": np.array(close, float)}))
    bars = pd.concat(frames, ignore_index=True).assign(market="spot", contract="", interval="1d", source="x")
    return Panel.of(bars.assign(open=NAN, high=NAN, low=NAN, volume=NAN, open_interest=NAN))


def test_a_panel_sorts_by_symbol_and_ts_and_cuts_a_slice_for_each():
    bars = sample_bars(10)
    one, other = Panel.of(bars), Panel.of(bars.sample(frac=1, random_state=3))
    assert one.symbols == other.symbols == ("S0", "S1", "S2")
    np.testing.assert_array_equal(one.close, other.close)
    np.testing.assert_array_equal(one.ts, other.ts)
    np.testing.assert_array_equal(one.close[one.bounds[1] : one.bounds[2]], bars.loc[bars["symbol"] == "S1", "close"])


def test_adjusted_futures_are_taken_as_they_are_and_know_their_raw_close():
    two = [sample_bars(10, symbols=1, seed=s).assign(symbol="F", market="futures", contract=f"C{s}") for s in (1, 2)]
    bars, roll_at = pd.concat(two), two[0]["ts"].iloc[100]
    keys = {
        "symbol": "F",
        "previous": ["", "C1"],
        "contract": ["C1", "C2"],
        "spread": [0.0, 7.0],
        "offset": [0.0, -7.0],
    }
    rolled = pd.DataFrame(
        {"ts": pd.DatetimeIndex(["1970-01-01", roll_at.tz_convert(None)], tz="UTC").as_unit("us"), **keys}
    )
    p = Panel.of(rolls.adjust(bars, rolled.astype({"symbol": "str", "contract": "str"})))
    raw = np.append(two[0]["close"].iloc[:101], two[1]["close"].iloc[101:])
    np.testing.assert_allclose(p.raw_close, raw)
    np.testing.assert_allclose(p.close, np.append(raw[:101], raw[101:] - 7))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: pd.concat([b, b.iloc[[5]]]), r"two bars of S0 1d 2010-01-11T21:00:00Z"),
        (lambda b: pd.concat([b, b.assign(market="futures")]), "two bars of S0 .* one market and contract"),
        (lambda b: pd.concat([b, b.assign(interval="1h")]), "got intervals 1d, 1h; expected one"),
        (lambda b: b.assign(high=np.where(b.index == 5, np.inf, b["high"])), r"high of S0 1d 2010-01-11T.* is inf"),
        (lambda b: b.assign(volume=-np.inf), "volume of S0 1d .* is -inf; expected a finite number"),
        (lambda b: b.assign(offset=NAN), "offset of S0 1d .* is nan"),
        (lambda b: b.assign(ts=b["ts"].dt.tz_localize(None)), "ts must be aware"),
    ],
)
def test_a_bar_that_cannot_be_right_is_refused_by_name(spoil, message):
    with pytest.raises(DataError, match=message):
        Panel.of(spoil(sample_bars(10)))


def test_each_never_lets_one_symbol_into_another():
    p = panel(range(1, 9), range(100, 109))
    mean = p.each(talib.SMA, p.close, timeperiod=3)
    np.testing.assert_array_equal(mean[:8], [NAN, NAN, 2, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(mean[8:], [NAN, NAN, 101, 102, 103, 104, 105, 106, 107])


def test_each_warms_up_again_after_a_gap():
    p = panel([1, 2, 3, 4, NAN, 10, NAN, NAN, 20, 21, 22], [NAN, 1, 2])
    mean = p.each(talib.SMA, p.close, timeperiod=2)
    np.testing.assert_array_equal(mean, [NAN, 1.5, 2.5, 3.5, NAN, NAN, NAN, NAN, NAN, 20.5, 21.5, NAN, NAN, 1.5])


def test_each_returns_as_many_columns_as_its_function_even_of_nothing_known():
    p = panel([NAN] * 50, [])
    lines = p.each(talib.MACD, p.close)
    assert len(lines) == 3
    assert all(np.isnan(line).all() and line.shape == (50,) for line in lines)
    assert len(Panel.of(sample_bars(10)[:0]).each(talib.MACD, np.empty(0))) == 3


def test_each_takes_numba_functions():
    @numba.njit
    def total(column):
        out = np.empty_like(column)
        running = 0.0
        for i, x in enumerate(column):
            running += x
            out[i] = running
        return out

    p = panel([1, 2, 3], [10, NAN, 30])
    np.testing.assert_array_equal(p.each(total, p.close), [1, 3, 6, 10, NAN, 30])


def test_each_refuses_a_function_that_changes_the_number_of_bars():
    p = panel([1, 2, 3])
    with pytest.raises(ValueError, match="for 3 bars"):
        p.each(lambda column: column[1:], p.close)


class Given(Pillar):
    """Gives what it is told."""

    name: ClassVar[str] = "given"
    parts_given: Any = ()
    gate: Any = None

    @property
    def history(self) -> int:
        return 1

    def parts(self, bars: Panel) -> Parts:
        gate = None if self.gate is None else np.array(self.gate)
        return Parts({f"p{i}": np.array(part) for i, part in enumerate(self.parts_given)}, gate)


def test_a_score_is_the_sum_of_its_parts_clipped_rounded_and_null_where_one_is_unknown():
    given = Given(parts_given=[[60, 60, 1, NAN, -0.001], [60, -200, 0.126, 5, 0]])
    signals = given.score(panel([1, 2, 3, 4, 5]))
    assert list(signals.columns) == SIGNAL
    assert signals["score"].dtype == np.float32
    np.testing.assert_array_equal(signals["score"], np.array([100, -100, 1.13, NAN, 0], np.float32))
    assert not np.signbit(signals["score"].iloc[4])
    assert signals["gate"].isna().all()
    assert signals["veto"].isna().all()


def test_a_gate_without_parts_has_no_score():
    signals = Given(gate=[0, 0.5, NAN]).score(panel([1, 2, 3]))
    np.testing.assert_array_equal(signals["gate"], np.array([0, 0.5, NAN], np.float32))
    assert signals["score"].isna().all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Given(parts_given=[[0, np.inf, 0]]), r"pillar given: p0 of S0 1d 2024-01-02T00:00:00Z is inf"),
        (Given(gate=[0, 1, 1.5]), "gate of S0 1d 2024-01-03.* is 1.5; expected a number from 0 to 1"),
        (Given(parts_given=[[0, 0]]), r"p0 has shape \(2,\); expected \(3,\)"),
    ],
)
def test_a_pillar_that_gives_what_cannot_be_stored_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        given.score(panel([1, 2, 3]))


def test_features_are_computed_once_and_only_when_asked_for():
    asked = []

    def made(*names):
        asked.append(names)
        return tuple(np.full(2, float(len(n))) for n in names) if len(names) > 1 else np.full(2, 1.0)

    features = Features({"plain": np.zeros(2), "one": lambda: made("one"), ("a", "bb"): lambda: made("a", "bb")})
    assert (list(features), len(features), asked) == (["plain", "one", "a", "bb"], 4, [])
    assert features["bb"].tolist() == [2, 2]
    assert features["a"].tolist() == [1, 1]
    assert features["bb"] is features["bb"]
    assert asked == [("a", "bb")]
    with pytest.raises(KeyError):
        features["none"]
