"""Momentum against a plain reference, TA-Lib's oscillators among its features, and markets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import talib
from pydantic import ValidationError

from pillars.base import Panel
from pillars.kit.sample import sample_bars
from pillars.momentum import Momentum
from pillars.trend import Trend

PRICES = ["open", "high", "low", "close"]


def crossover(close, fast, at):
    return np.mean(close[at - fast + 1 : at + 1]) - np.mean(close[at - 4 * fast + 1 : at + 1])


@pytest.mark.parametrize("m", [Momentum(), Momentum(fast=9, volatility=30, full=2)])
@pytest.mark.parametrize("count", [325, 380, 441])
def test_every_part_agrees_with_a_plain_reference(m, count):
    bars = sample_bars(300, symbols=1, seed=count).iloc[:count]
    close, last = bars["close"].to_numpy(), count - 1
    deviation = np.mean(np.diff(close)[-m.volatility :] ** 2) ** 0.5
    expected = {}
    for name, fast in (("acceleration", m.fast), ("acceleration_slow", 2 * m.fast)):
        if last - fast - 4 * fast + 1 < 0:
            continue
        gained = (crossover(close, fast, last) - crossover(close, fast, last - fast)) / (deviation * fast**0.5)
        expected[name] = 50 * np.clip(gained / m.full, -1, 1)
    made = m.parts(Panel.of(bars))
    assert {name: made.parts[name][-1] for name in expected} == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_the_oscillators_for_rules_are_talibs():
    bars = sample_bars(300, symbols=1)
    close = bars["close"].to_numpy()
    made = Momentum().parts(Panel.of(bars)).features
    np.testing.assert_array_equal(made["rsi"], talib.RSI(close, 14))
    for name, column in zip(("macd", "macd_signal", "macd_histogram"), talib.MACD(close, 12, 26, 9), strict=True):
        np.testing.assert_array_equal(made[name], column)


def test_a_trend_that_runs_on_at_one_pace_has_no_momentum_and_one_that_turns_has():
    steady = sample_bars(300, symbols=1).iloc[:500].reset_index(drop=True)
    line = 100 + np.arange(500.0)
    at_pace = Momentum().parts(Panel.of(steady.assign(close=line))).score()
    assert at_pace[-1] == pytest.approx(0, abs=1e-6)
    turned = line - 2 * np.maximum(np.arange(500) - 460, 0)
    assert Momentum().parts(Panel.of(steady.assign(close=turned))).score()[-1] < -90


def test_it_says_something_else_than_trend():
    bars = sample_bars(2500)
    trend, momentum = (kind().parts(Panel.of(bars)).score() for kind in (Trend, Momentum))
    known = ~np.isnan(trend + momentum)
    assert np.corrcoef(trend[known], momentum[known])[0, 1] < 0.6


def test_the_score_is_unknown_until_the_longest_window_is_full_and_known_from_then_on():
    score = Momentum(fast=8).score(Panel.of(sample_bars(100, symbols=1)))["score"]
    first = 4 * 16 + 16 - 1
    assert score.iloc[:first].isna().all()
    assert score.iloc[first:].notna().all()


def test_each_part_stays_within_its_weight():
    for part in Momentum().parts(Panel.of(sample_bars(500))).parts.values():
        assert np.nanmax(np.abs(part)) <= 50 * (1 + 1e-12)
        assert np.nanmax(part) > 40
        assert np.nanmin(part) < -40


def test_a_mirrored_path_mirrors_the_score():
    bars = sample_bars(300)
    there, back = (Momentum().parts(Panel.of(b)).score() for b in (bars, bars.assign(close=700 - bars["close"])))
    np.testing.assert_allclose(there, -back, atol=1e-7)


def test_the_adjustment_of_a_futures_series_changes_nothing():
    bars = sample_bars(300)
    moved = bars.assign(offset=-400.0, **{name: bars[name] - 400 for name in PRICES})
    plain, adjusted = (Momentum().parts(Panel.of(b)).score() for b in (bars, moved))
    np.testing.assert_allclose(plain, adjusted, atol=1e-7)


@pytest.mark.parametrize(("keys", "message"), [({"fast": 1}, "fast"), ({"full": 0}, "full"), ({"roc": 20}, "roc")])
def test_parameters_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Momentum(**keys)
