"""Trend against a plain reference written from the textbooks, and on markets whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from pillars.base import Panel
from pillars.kit.sample import sample_bars
from pillars.trend import Trend

PRICES = ["open", "high", "low", "close"]


def path(close, spread=0.0):
    """Bars of one symbol whose range is the close +- ``spread``."""
    close = np.asarray(close, float)
    ts = pd.date_range("2020-01-01", periods=len(close), tz="UTC").as_unit("us")
    fixed = {"symbol": "A", "market": "spot", "contract": "", "interval": "1d", "source": "x"}
    prices = {"open": close, "high": close + spread, "low": close - spread, "close": close}
    return pd.DataFrame({"ts": ts, **prices, "volume": np.nan, "open_interest": np.nan}).assign(**fixed)


def upside_down(bars, about):
    """The mirrored path: high and low change places."""
    turned = {"open": "open", "high": "low", "low": "high", "close": "close"}
    return bars.assign(**{name: about(bars[of]) for name, of in turned.items()})


def ema(values, n):
    """Seeded with the mean of the first n."""
    out, known = [None] * len(values), None
    for i, x in enumerate(values):
        if i == n - 1:
            known = sum(values[:n]) / n
        elif i >= n:
            known += 2 / (n + 1) * (x - known)
        out[i] = known
    return out


def wilder(bars, n):
    """(ATR, +DI, -DI, ADX) at the last bar, by Wilder's worksheet as TA-Lib seeds it."""
    high, low, close = (bars[c].tolist() for c in ("high", "low", "close"))
    ranges, ups, downs = [], [], []
    for i in range(1, len(close)):
        ranges.append(max(high[i], close[i - 1]) - min(low[i], close[i - 1]))
        up, down = high[i] - high[i - 1], low[i - 1] - low[i]
        ups.append(up if up > down and up > 0 else 0.0)
        downs.append(down if down > up and down > 0 else 0.0)
    average = sum(ranges[:n]) / n
    for r in ranges[n:]:
        average += (r - average) / n
    # the sums begin with n - 1 values and are reduced by a share before each further one
    total = [sum(column[: n - 1]) for column in (ranges, ups, downs)]
    strengths = []
    for row in zip(ranges[n - 1 :], ups[n - 1 :], downs[n - 1 :], strict=True):
        total = [t - t / n + x for t, x in zip(total, row, strict=True)]
        plus, minus = 100 * total[1] / total[0], 100 * total[2] / total[0]
        strengths.append(100 * abs(plus - minus) / (plus + minus))
    adx = sum(strengths[:n]) / n
    for x in strengths[n:]:
        adx += (x - adx) / n
    return average, plus, minus, adx


def cut(x):
    return max(-1.0, min(1.0, x))


@pytest.mark.parametrize(
    "trend",
    [
        Trend(),
        Trend(
            fast=5,
            mid=12,
            slow=30,
            adx=10,
            channel=55,
            atr=20,
            stack_full=1.5,
            di_full=40,
            adx_full=60,
            distance_full=9,
        ),
        Trend(stack_weight=10, strength_weight=20, breakout_weight=30, distance_weight=40),
    ],
)
@pytest.mark.parametrize("count", [120, 173, 260])
def test_every_part_agrees_with_a_reference_from_the_textbooks(trend, count):
    bars = sample_bars(100, symbols=1, seed=count).iloc[:count]
    close = bars["close"].tolist()
    fast, mid, slow = (ema(close, n)[-1] for n in (trend.fast, trend.mid, trend.slow))
    range_ = wilder(bars, trend.atr)[0]
    _, plus, minus, adx = wilder(bars, trend.adx)
    top, bottom = bars["high"].iloc[-trend.channel :].max(), bars["low"].iloc[-trend.channel :].min()
    gap = trend.stack_full * range_
    expected = {
        "stack": trend.stack_weight * (cut((fast - mid) / gap) + cut((mid - slow) / gap)) / 2,
        "strength": trend.strength_weight * cut((plus - minus) / trend.di_full) * cut(adx / trend.adx_full),
        "breakout": trend.breakout_weight * (2 * (close[-1] - bottom) / (top - bottom) - 1),
        "distance": trend.distance_weight * cut((close[-1] - slow) / (trend.distance_full * range_)),
    }
    made = trend.parts(Panel.of(bars))
    assert {name: column[-1] for name, column in made.parts.items()} == pytest.approx(expected, rel=1e-9)
    assert made.features["adx"][-1] == pytest.approx(adx, rel=1e-9)


def test_a_steady_rise_is_all_long_and_a_steady_fall_all_short():
    up = Trend().score(Panel.of(path(100 + np.arange(120.0), 0.1)))["score"]
    down = Trend().score(Panel.of(path(300 - np.arange(120.0), 0.1)))["score"]
    # the place in the channel: 20 bars rise by 19, and half a range is left above the close
    assert up.iloc[-1] == pytest.approx(75 + 25 * (1 - 2 * 0.1 / 19.2), abs=0.01)
    assert down.iloc[-1] == -up.iloc[-1]


def test_the_score_is_unknown_until_the_slow_mean_is_full_and_known_from_then_on():
    score = Trend().score(Panel.of(sample_bars(100, symbols=1)))["score"]
    assert score.iloc[:49].isna().all()
    assert score.iloc[49:].notna().all()


def test_each_part_stays_within_its_weight():
    trend = Trend()
    for name, part in trend.parts(Panel.of(sample_bars(500))).parts.items():
        weight = getattr(trend, f"{name}_weight")
        assert np.nanmax(np.abs(part)) <= weight * (1 + 1e-12)
        # the sample has strong trends: each part is used
        assert np.nanmax(part) > 0.8 * weight
        assert np.nanmin(part) < -0.8 * weight


def test_a_mirrored_path_mirrors_the_score():
    bars = sample_bars(300)
    there = Trend().parts(Panel.of(bars)).score()
    back = Trend().parts(Panel.of(upside_down(bars, lambda price: 700 - price))).score()
    np.testing.assert_allclose(there, -back, atol=1e-8)


def test_the_adjustment_of_a_futures_series_changes_nothing():
    bars = sample_bars(300)
    moved = bars.assign(offset=-400.0, **{name: bars[name] - 400 for name in PRICES})
    plain, adjusted = (Trend().parts(Panel.of(b)).score() for b in (bars, moved))
    np.testing.assert_allclose(plain, adjusted, atol=1e-7)


def test_a_close_only_series_is_scored_by_its_closes():
    bars = sample_bars(100)
    closes = dict.fromkeys(PRICES, bars["close"])
    alone = Trend().score(Panel.of(bars.assign(open=np.nan, high=np.nan, low=np.nan)))
    pd.testing.assert_frame_equal(alone, Trend().score(Panel.of(bars.assign(**closes))))
    assert alone["score"].notna().sum() > 600


def test_rules_are_offered_the_named_features():
    made = Trend().parts(Panel.of(sample_bars(100)))
    assert {"open", "high", "low", "close", "ema_fast", "ema_mid", "ema_slow", "adx", "plus_di", "minus_di"} < {
        *made.features
    }
    assert {len(column) for column in made.features.values()} == {3 * 350}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"fast": 30}, "fast < mid < slow expected, got 30, 20, 50"),
        ({"stack_weight": 31}, "must sum to 100, they sum to 101"),
        ({"slow": 0}, "slow"),
        ({"slwo": 60}, "slwo"),
        ({"distance_full": float("nan")}, "distance_full"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Trend(**keys)
