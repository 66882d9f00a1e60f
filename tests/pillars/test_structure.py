"""Structure: skewness against pandas, and maps drawn by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from pillars.base import Panel
from pillars.kit.sample import sample_bars
from pillars.structure import Structure

PRICES = ["open", "high", "low", "close"]
SMALL = Structure(swing=2, memory=40, profile=10, bins=10, hold=4, fail=2, atr=3, window=30, volatility=5)


def path(close, spread=0.5, volume=1e5):
    close = np.asarray(close, float)
    ts = pd.date_range("2020-01-01", periods=len(close), tz="UTC").as_unit("us")
    fixed = {"symbol": "A", "market": "spot", "contract": "", "interval": "1d", "source": "x"}
    prices = {"open": close, "high": close + spread, "low": close - spread, "close": close}
    return pd.DataFrame({"ts": ts, **prices, "volume": volume, "open_interest": np.nan}).assign(**fixed)


def zigzag(up, down, legs, start=100.0):
    """Legs of ``up`` rising bars and ``down`` falling ones, by 1 each."""
    return start + np.cumsum(np.tile(np.r_[np.ones(up), -np.ones(down)], legs))


def parts(bars, pillar=SMALL):
    return pillar.parts(Panel.of(bars))


@pytest.mark.parametrize("structure", [Structure(), Structure(window=50, volatility=20, cut=2, full=0.5)])
@pytest.mark.parametrize("count", [403, 470])
def test_the_asymmetry_is_minus_the_skewness_of_scaled_changes(structure, count):
    close = sample_bars(300, symbols=1, seed=count)["close"].iloc[:count].to_numpy()
    changes = np.diff(close)
    n = structure.volatility
    before = np.array([np.mean(changes[i - n : i] ** 2) ** 0.5 for i in range(n, len(changes))])
    scaled = np.clip(changes[n:] / before, -structure.cut, structure.cut)
    made = parts(path(close), structure)
    for name, window in (("asymmetry", structure.window), ("asymmetry_slow", 2 * structure.window)):
        # pandas gives the sample's skewness: without its correction for bias
        skewness = pd.Series(scaled[-window:]).skew() * (window - 2) / (window * (window - 1)) ** 0.5
        assert made.parts[name][-1] == pytest.approx(-50 * np.clip(skewness / structure.full, -1, 1), rel=1e-7)


def test_small_rises_and_large_falls_are_long_and_the_mirror_is_short():
    steps = np.tile(np.r_[np.full(9, 1.0), -8.0], 50)
    made = Structure().score(Panel.of(path(1000 + np.cumsum(steps))))["score"]
    back = Structure().score(Panel.of(path(1000 - np.cumsum(steps))))["score"]
    assert made.iloc[-1] == 100
    assert back.iloc[-1] == -100


def test_one_bad_bar_does_not_decide():
    rng = np.random.default_rng(5)
    steps = rng.normal(size=500)
    calm = Structure().parts(Panel.of(path(1000 + np.cumsum(steps)))).score()[-1]
    steps[450] = -500
    bad = Structure().parts(Panel.of(path(1000 + np.cumsum(steps)))).score()[-1]
    assert abs(bad - calm) < 85
    assert Structure(cut=100).parts(Panel.of(path(1000 + np.cumsum(steps)))).score()[-1] == 100


def test_a_swing_that_is_not_confirmed_yet_changes_nothing():
    """No repainting: the bar that makes a new high, and what is said of it, are the same whatever comes after."""
    close = zigzag(6, 3, 6)
    top = len(close) - 4  # the last rising bar
    for cut in range(top, len(close)):
        known = parts(path(close[: cut + 1])).features["swing_high"][-1]
        confirmed = cut >= top + SMALL.swing
        assert known == close[top if confirmed else top - 9] + 0.5


def test_without_volume_the_profile_is_one_of_time():
    bars = sample_bars(200)
    timed = Structure().parts(Panel.of(bars.assign(volume=np.nan)))
    even = Structure().parts(Panel.of(bars.assign(volume=1.0)))
    for name, column in timed.features.items():
        np.testing.assert_allclose(column, even.features[name], err_msg=name)
    weighed = Structure().parts(Panel.of(bars))
    assert np.nanmean(np.abs(weighed.features["poc"] - timed.features["poc"])) > 0


def test_the_map_of_past_levels_by_hand():
    base = zigzag(5, 5, 4)
    out = np.r_[base, base[-1] + np.arange(1, 9)]  # through the highs of the zigzag
    made = parts(path(out, spread=0.1)).features
    crossed = np.flatnonzero((made["breakout"] == 1) & (made["breakout_age"] == 0))[-1]
    level = made["swing_high"][crossed - 1]
    assert out[crossed - 1] <= level < out[crossed]
    failed = parts(path(np.r_[out[: crossed + 1], level - 1, level - 1.5], spread=0.1)).features
    assert failed["breakout"][-2:].tolist() == [-1, -1]
    assert np.isnan(made["resistance"][-1])
    assert made["support"][-1] == pytest.approx(105.1)


def test_a_mirrored_path_mirrors_the_score():
    bars = sample_bars(300)
    there, back = (Structure().parts(Panel.of(b)).score() for b in (bars, bars.assign(close=700 - bars["close"])))
    np.testing.assert_allclose(there, -back, atol=1e-7)


def test_the_adjustment_of_a_futures_series_changes_nothing():
    bars = sample_bars(200)
    moved = bars.assign(offset=-400.0, **{name: bars[name] - 400 for name in PRICES})
    plain, adjusted = (Structure().parts(Panel.of(b)).score() for b in (bars, moved))
    assert np.nanquantile(np.abs(plain - adjusted), 0.999) < 1e-6


def test_features_are_computed_when_asked_for(monkeypatch):
    def never(*_, **__):
        raise AssertionError("nobody asked for the profile")

    monkeypatch.setattr("pillars.structure.levels.profile", never)
    made = Structure().parts(Panel.of(sample_bars(300)))
    assert np.isfinite(made.features["swing_high"][-1])
    with pytest.raises(AssertionError, match="nobody asked"):
        made.features["poc"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"swing": 40, "memory": 80}, "memory > 2 x swing expected, got 80 and 40"),
        ({"value_share": 1}, "value_share"),
        ({"window": 10}, "window"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Structure(**keys)
