"""Structure on maps drawn by hand, and its parts recomputed from its features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from pillars.base import Panel
from pillars.kit.sample import sample_bars
from pillars.structure import Structure

PRICES = ["open", "high", "low", "close"]
SMALL = Structure(swing=2, memory=40, profile=10, bins=10, hold=4, fail=2, atr=3)


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


def test_higher_highs_and_higher_lows_are_long_and_lower_ones_short():
    up, down = parts(path(zigzag(6, 3, 6))), parts(path(200 - zigzag(6, 3, 6)))
    # each swing point is 3 above the one before; the range of a bar is 1.5: 2 ATR are 3
    assert up.features["atr"][-1] == pytest.approx(1.5, abs=0.01)
    assert up.parts["swings"][-1] == pytest.approx(30, abs=0.1)
    assert down.parts["swings"][-1] == pytest.approx(-30, abs=0.1)


def test_equal_highs_and_lows_have_no_direction():
    made = parts(path(zigzag(5, 5, 6)))
    assert made.parts["swings"][-1] == pytest.approx(0, abs=1e-9)


def test_a_swing_that_is_not_confirmed_yet_changes_nothing():
    """No repainting: the bar that makes a new high, and what is said of it, are the same whatever comes after."""
    close = zigzag(6, 3, 6)
    top = len(close) - 4  # the last rising bar
    for cut in range(top, len(close)):
        known = parts(path(close[: cut + 1])).features["swing_high"][-1]
        confirmed = cut >= top + SMALL.swing
        assert known == close[top if confirmed else top - 9] + 0.5


def test_the_parts_are_what_the_docstring_says_of_the_features():
    bars = sample_bars(200)
    s = Structure()
    made, close = s.parts(Panel.of(bars)), bars["close"].to_numpy()
    f = made.features
    late = np.arange(len(close)) % 550 > 200
    room_up = np.fmin(f["resistance"] - close, s.room_full * f["atr"])
    room_down = np.fmin(close - f["support"], s.room_full * f["atr"])
    np.testing.assert_allclose(made.parts["room"][late], (20 * (room_up - room_down) / (room_up + room_down))[late])
    far = np.where(close > f["poc"], f["value_high"] - f["poc"], f["poc"] - f["value_low"])
    np.testing.assert_allclose(made.parts["value"][late], (25 * np.clip((close - f["poc"]) / far, -1, 1))[late])
    np.testing.assert_allclose(
        made.parts["breakout"][late], (25 * f["breakout"] * (1 - f["breakout_age"] / s.hold))[late]
    )


def test_beyond_the_value_area_the_place_counts_in_full():
    close = np.r_[np.tile([100, 101, 100, 99], 5), 110.0]
    assert parts(path(close)).parts["value"][-1] == 25
    assert parts(path(200 - close)).parts["value"][-1] == -25


def test_a_breakout_is_long_and_a_failed_one_short():
    base = zigzag(5, 5, 4)
    out = np.r_[base, base[-1] + np.arange(1, 9)]  # through the highs of the zigzag, 5 above
    made = parts(path(out, spread=0.1))
    crossed = np.flatnonzero((made.features["breakout"] == 1) & (made.features["breakout_age"] == 0))[-1]
    assert made.parts["breakout"][crossed] == 25
    level = made.features["swing_high"][crossed - 1]
    assert out[crossed - 1] <= level < out[crossed]
    failed = parts(path(np.r_[out[: crossed + 1], level - 1, level - 1.5], spread=0.1))
    assert failed.parts["breakout"][-2:].tolist() == [-25, -25 * 3 / 4]


def test_without_volume_the_profile_is_one_of_time():
    bars = sample_bars(200)
    timed = Structure().parts(Panel.of(bars.assign(volume=np.nan)))
    even = Structure().parts(Panel.of(bars.assign(volume=1.0)))
    for name, column in timed.features.items():
        np.testing.assert_allclose(column, even.features[name], err_msg=name)
    weighed = Structure().parts(Panel.of(bars))
    assert np.nanmean(np.abs(weighed.features["poc"] - timed.features["poc"])) > 0


def test_open_sky_above_is_room():
    made = parts(path(np.r_[zigzag(5, 5, 4), 105 + np.arange(12.0)]))
    assert np.isnan(made.features["resistance"][-1])
    assert made.parts["room"][-1] >= 0


def test_a_mirrored_path_mirrors_the_score():
    bars = sample_bars(200)
    turned = {"open": "open", "high": "low", "low": "high", "close": "close"}
    mirrored = bars.assign(**{name: 700 - bars[of] for name, of in turned.items()})
    there, back = (Structure().parts(Panel.of(b)) for b in (bars, mirrored))
    for name, part in there.parts.items():
        # two bins that hold the same to a hair may change places
        assert np.nanquantile(np.abs(part + back.parts[name]), 0.99) < 1e-6, name


def test_the_adjustment_of_a_futures_series_changes_nothing():
    bars = sample_bars(200)
    moved = bars.assign(offset=-400.0, **{name: bars[name] - 400 for name in PRICES})
    plain, adjusted = (Structure().parts(Panel.of(b)).score() for b in (bars, moved))
    assert np.nanquantile(np.abs(plain - adjusted), 0.999) < 1e-6


def test_each_part_stays_within_its_weight_and_uses_it():
    s = Structure()
    for name, part in s.parts(Panel.of(sample_bars(500))).parts.items():
        weight = getattr(s, f"{name}_weight")
        assert np.nanmax(np.abs(part)) <= weight * (1 + 1e-12)
        assert np.nanmax(part) > 0.8 * weight
        assert np.nanmin(part) < -0.8 * weight


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"swing": 40, "memory": 80}, "memory > 2 x swing expected, got 80 and 40"),
        ({"value_share": 1}, "value_share"),
        ({"room_weight": 10}, "must sum to 100, they sum to 90"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Structure(**keys)
