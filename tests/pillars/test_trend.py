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


def mean(values):
    return sum(values) / len(values)


def place(close, n, i):
    """The place of close i among the n closes up to it, -1 to 1."""
    window = close[i - n + 1 : i + 1]
    return 2 * (close[i] - min(window)) / (max(window) - min(window)) - 1


@pytest.mark.parametrize(
    "trend",
    [
        Trend(),
        Trend(fast=5, channel=24, volatility=20, cross_full=0.8),
        Trend(fast=10, channel=30, cross_weight=10, breakout_weight=90),
    ],
)
@pytest.mark.parametrize("count", [410, 473, 560])
def test_every_part_agrees_with_a_plain_reference(trend, count):
    bars = sample_bars(300, symbols=1, seed=count).iloc[:count]
    close = bars["close"].tolist()
    changes = np.diff(close)[-trend.volatility :]
    deviation = mean((changes**2).tolist()) ** 0.5
    expected = {}
    for name, k in (("fast", 1), ("mid", 2), ("slow", 4)):
        fast, channel = k * trend.fast, k * trend.channel
        crossed = (mean(close[-fast:]) - mean(close[-4 * fast :])) / (deviation * fast**0.5)
        expected[f"cross_{name}"] = trend.cross_weight / 3 * cut(crossed / trend.cross_full)
        places = [place(close, channel, i) for i in range(count - channel // 4, count)]
        expected[f"breakout_{name}"] = trend.breakout_weight / 3 * mean(places)
    made = trend.parts(Panel.of(bars))
    assert {name: column[-1] for name, column in made.parts.items()} == pytest.approx(expected, rel=1e-9)


def test_the_features_for_rules_are_those_of_the_textbooks():
    bars = sample_bars(100, symbols=1).iloc[:173]
    made, trend = Trend().parts(Panel.of(bars)).features, Trend()
    range_, plus, minus, adx = wilder(bars, trend.adx)
    got = [made[name][-1] for name in ("atr", "plus_di", "minus_di", "adx")]
    assert got == pytest.approx([range_, plus, minus, adx], rel=1e-9)
    assert made["mean_mid"][-1] == pytest.approx(bars["close"].iloc[-64:].mean())
    assert made["channel_high"][-1] == bars["high"].iloc[-80:].max()


def test_crossovers_of_a_random_walk_have_one_size_at_all_speeds():
    close = 1000 + np.cumsum(np.random.default_rng(1).normal(size=60_000))
    made = Trend().parts(Panel.of(path(close)))
    for name in ("fast", "mid", "slow"):
        typical = np.nanmean(np.abs(made.parts[f"cross_{name}"])) / 20
        assert typical == pytest.approx(0.5, abs=0.05)  # clipped at full: twice that


def test_a_steady_rise_is_all_long_and_a_steady_fall_all_short():
    up = Trend().score(Panel.of(path(100 + np.arange(420.0), 0.1)))["score"]
    down = Trend().score(Panel.of(path(600 - np.arange(420.0), 0.1)))["score"]
    assert up.iloc[-1] == 100
    assert down.iloc[-1] == -100


def test_the_score_is_unknown_until_the_longest_window_is_full_and_known_from_then_on():
    score = Trend(fast=5, channel=20).score(Panel.of(sample_bars(100, symbols=1)))["score"]
    first = 80 + 20 - 1 - 1  # channel 4 x 20, averaged over 20 bars
    assert score.iloc[:first].isna().all()
    assert score.iloc[first + 1 :].notna().all()


def test_each_part_stays_within_its_share_of_the_weight():
    for name, part in Trend().parts(Panel.of(sample_bars(900))).parts.items():
        share = (60 if name.startswith("cross") else 40) / 3
        assert np.nanmax(np.abs(part)) <= share * (1 + 1e-12)
        assert np.nanmax(part) > 0.7 * share
        assert np.nanmin(part) < -0.7 * share


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
    alone = Trend(fast=5, channel=20).score(Panel.of(bars.assign(open=np.nan, high=np.nan, low=np.nan)))
    pd.testing.assert_frame_equal(alone, Trend(fast=5, channel=20).score(Panel.of(bars.assign(**closes))))
    assert alone["score"].notna().sum() > 600


def test_rules_are_offered_the_named_features():
    made = Trend().parts(Panel.of(sample_bars(100)))
    assert {"open", "high", "low", "close", "mean_fast", "mean_mid", "mean_slow", "adx", "plus_di", "minus_di"} < {
        *made.features
    }
    assert {len(column) for column in made.features.values()} == {3 * 350}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"channel": 7}, "channel"),
        ({"cross_weight": 61}, "must sum to 100, they sum to 101"),
        ({"slow": 50}, "slow"),
        ({"chanel": 60}, "chanel"),
        ({"cross_full": float("nan")}, "cross_full"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Trend(**keys)
