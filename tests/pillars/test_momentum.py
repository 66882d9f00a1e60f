"""Momentum against a plain reference written from the textbooks, and on markets whose answer is known."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from pillars.base import Panel
from pillars.kit.sample import sample_bars
from pillars.momentum import Momentum

PRICES = ["open", "high", "low", "close"]
COUNTS = (110, 140, 155, 179, 260, 340)
QUICK = {"rsi": 7, "macd_fast": 5, "macd_slow": 17, "macd_signal": 4, "roc": 9, "volatility": 30, "squeeze": 12}


def upside_down(bars, about):
    """The mirrored path: high and low change places."""
    turned = {"open": "open", "high": "low", "low": "high", "close": "close"}
    return bars.assign(**{name: about(bars[of]) for name, of in turned.items()})


def ema(values, n):
    """Seeded with the mean of the first n; only the values from there on."""
    out = [sum(values[:n]) / n]
    for x in values[n:]:
        out.append(out[-1] + 2 / (n + 1) * (x - out[-1]))
    return out


def smoothed(values, n):
    """Wilder's smoothing, seeded with the mean of the first n; only the values from there on."""
    out = [sum(values[:n]) / n]
    for x in values[n:]:
        out.append((out[-1] * (n - 1) + x) / n)
    return out


def average_range(bars, n):
    rows = list(zip(bars["high"], bars["low"], bars["close"], strict=True))
    return smoothed([max(h, c0) - min(low, c0) for (_, _, c0), (h, low, _) in itertools.pairwise(rows)], n)


def squeezes(bars, m):
    """For each bar from the ``squeeze``-th change on: is a squeeze on?"""
    close, ranges = bars["close"].tolist(), average_range(bars, m.squeeze)
    first = len(close) - len(ranges)
    windows = [close[i + 1 - m.squeeze : i + 1] for i in range(first, len(close))]
    return [
        m.squeeze_deviations * statistics.pstdev(window) < m.squeeze_atr * range_
        for window, range_ in zip(windows, ranges, strict=True)
    ]


def cut(x):
    return max(-1.0, min(1.0, x))


@pytest.mark.parametrize(
    "m",
    [
        Momentum(),
        Momentum(**QUICK, rsi_full=35, macd_full=1.1, roc_full=3, squeeze_atr=2, release=5, release_full=4, atr=9),
        Momentum(rsi_weight=10, macd_weight=20, roc_weight=30, release_weight=40, squeeze_deviations=1.5, release=20),
    ],
)
@pytest.mark.parametrize("count", COUNTS)
def test_every_part_agrees_with_a_reference_from_the_textbooks(m, count):
    bars = sample_bars(100, symbols=1, seed=count).iloc[:count]
    close = bars["close"].tolist()
    changes = [b - a for a, b in itertools.pairwise(close)]
    gain, loss = (smoothed([max(sign * x, 0) for x in changes], m.rsi)[-1] for sign in (1, -1))
    # the fast mean of a MACD is seeded at the start of the slow one
    fast, slow = ema(close[m.macd_slow - m.macd_fast :], m.macd_fast), ema(close, m.macd_slow)
    line = [f - s for f, s in zip(fast, slow, strict=True)]
    histogram = line[-1] - ema(line, m.macd_signal)[-1]
    range_ = average_range(bars, m.atr)[-1]
    deviation = math.sqrt(sum(x * x for x in changes[-m.volatility :]) / m.volatility * m.roc)
    on = squeezes(bars, m)
    age = on[::-1].index(True) if True in on else m.release + 1
    fresh = (m.release + 1 - age) / m.release if 1 <= age <= m.release else 0.0
    top, bottom = bars["high"].iloc[-m.squeeze :].max(), bars["low"].iloc[-m.squeeze :].min()
    middle = ((top + bottom) / 2 + statistics.fmean(close[-m.squeeze :])) / 2
    expected = {
        "rsi": m.rsi_weight * cut((100 * gain / (gain + loss) - 50) / m.rsi_full),
        "macd": m.macd_weight * cut(histogram / (m.macd_full * range_)),
        "roc": m.roc_weight * cut((close[-1] - close[-1 - m.roc]) / (m.roc_full * deviation)),
        "release": m.release_weight * fresh * cut((close[-1] - middle) / (m.release_full * range_)),
    }
    made = m.parts(Panel.of(bars))
    assert {name: column[-1] for name, column in made.parts.items()} == pytest.approx(expected, rel=1e-8, abs=1e-9)
    assert made.features["squeezed"][-1] == on[-1]


def test_the_reference_cases_hold_releases_and_squeezes():
    """Without them, the test above would say nothing of the release."""
    states = [squeezes(sample_bars(100, symbols=1, seed=count).iloc[:count], Momentum()) for count in COUNTS]
    assert any(state[-1] for state in states)
    assert any(True in state[-9:-1] and not state[-1] for state in states)


def test_a_release_counts_in_full_at_first_and_then_less_with_each_bar():
    # sixty quiet bars with wide ranges, then a run of closes that widens the deviations
    close = np.append(np.full(80, 100.0) + 0.01 * (np.arange(80) % 2), 100 + 2.0 * np.arange(1, 21))
    ts = pd.date_range("2020-01-01", periods=100, tz="UTC").as_unit("us")
    fixed = {"symbol": "A", "market": "spot", "contract": "", "interval": "1d", "source": "x"}
    prices = {"open": close, "high": close + 0.5, "low": close - 0.5, "close": close}
    bars = pd.DataFrame({"ts": ts, **prices, "volume": np.nan, "open_interest": np.nan}).assign(**fixed)
    made = Momentum(release=4, release_full=0.01).parts(Panel.of(bars))
    first = np.flatnonzero(made.features["squeezed"][80:] == 0)[0] + 80
    assert (made.parts["release"][60:first] == 0).all()
    np.testing.assert_allclose(made.parts["release"][first : first + 6], 15 * np.array([1, 0.75, 0.5, 0.25, 0, 0]))


def test_the_score_is_unknown_until_the_longest_window_is_full_and_known_from_then_on():
    score = Momentum().score(Panel.of(sample_bars(100, symbols=1)))["score"]
    assert score.iloc[:60].isna().all()
    assert score.iloc[60:].notna().all()


def test_each_part_stays_within_its_weight():
    momentum = Momentum()
    for name, part in momentum.parts(Panel.of(sample_bars(500))).parts.items():
        weight = getattr(momentum, f"{name}_weight")
        assert np.nanmax(np.abs(part)) <= weight * (1 + 1e-12)
        # the sample has strong moves: each part is used
        assert np.nanmax(part) > 0.8 * weight
        assert np.nanmin(part) < -0.8 * weight


def test_a_mirrored_path_mirrors_the_score():
    bars = sample_bars(300)
    there = Momentum().parts(Panel.of(bars)).score()
    back = Momentum().parts(Panel.of(upside_down(bars, lambda price: 700 - price))).score()
    np.testing.assert_allclose(there, -back, atol=1e-7)


def test_the_adjustment_of_a_futures_series_changes_nothing():
    bars = sample_bars(300)
    moved = bars.assign(offset=-400.0, **{name: bars[name] - 400 for name in PRICES})
    plain, adjusted = (Momentum().parts(Panel.of(b)).score() for b in (bars, moved))
    np.testing.assert_allclose(plain, adjusted, atol=1e-7)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"macd_fast": 30}, "macd_fast < macd_slow expected, got 30, 26"),
        ({"rsi_weight": 20}, "must sum to 100, they sum to 90"),
        ({"release": 0}, "release"),
        ({"rsi_ful": 20}, "rsi_ful"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Momentum(**keys)
