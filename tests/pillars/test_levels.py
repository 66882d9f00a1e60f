"""Swing points, breakouts and the volume profile: by hand, and against slow references in plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from pillars.kit import levels

NAN = np.nan


def columns(*lists):
    return [np.array(values, float) for values in lists]


def market(seed, count=300):
    rng = np.random.default_rng(seed)
    close = 50 + np.cumsum(rng.normal(0, 1, count))
    # on a grid, so that highs and lows also tie
    high, low = np.round(close + rng.random(count), 1), np.round(close - rng.random(count), 1)
    return high, low, close, np.round(1000 * rng.random(count))


def test_a_swing_is_known_only_when_its_confirmation_bars_are_complete():
    high, low, close = columns([1, 2, 5, 3, 2, 4, 6, 5, 4], [0, 1, 4, 2, 1, 3, 5, 4, 3], [1, 1, 4, 2, 2, 3, 5, 4, 4])
    top, before, bottom, _, above, below = levels.swings(high, low, close, span=2, memory=20)
    np.testing.assert_array_equal(top, [NAN, NAN, NAN, NAN, 5, 5, 5, 5, 6])
    np.testing.assert_array_equal(before, [NAN] * 8 + [5])
    np.testing.assert_array_equal(bottom, [NAN] * 6 + [1, 1, 1])
    # the close at 4 lies below both highs and above the low
    assert (above[-1], below[-1]) == (5, 1)


def test_a_swing_is_forgotten_when_it_is_too_old():
    high = np.array([1, 3, 1, 1, 1, 1, 1, 1.0])
    top = levels.swings(high, high - 1, high - 0.5, span=1, memory=4)[0]
    np.testing.assert_array_equal(top, [NAN, NAN, 3, 3, 3, 3, NAN, NAN])


def test_of_equal_highs_the_first_is_the_swing():
    high = np.array([1, 3, 3, 1, 1.0])
    assert levels.swings(high, high - 1, high, span=1, memory=9)[0].tolist()[2:] == [3, 3, 3]
    assert np.isnan(levels.swings(high[1:], high[1:] - 1, high[1:], span=1, memory=9)[0]).all()


def slow_swings(high, low, close, span, memory):
    """All six at the last bar, from the definitions."""
    last, found = len(close) - 1, {"top": [], "bottom": []}
    for j in range(span, last - span + 1):
        if j < last - memory:
            continue
        earlier, later = slice(j - span, j), slice(j + 1, j + span + 1)
        if high[j] > max(high[earlier]) and high[j] >= max(high[later]):
            found["top"].append(high[j])
        if low[j] < min(low[earlier]) and low[j] <= min(low[later]):
            found["bottom"].append(low[j])
    known = [*found["top"], *found["bottom"]]
    newest = [[NAN, NAN, *found[kind]][: -3 if len(found[kind]) else None : -1] for kind in ("top", "bottom")]
    return [
        *newest[0],
        *newest[1],
        min((k for k in known if k > close[last]), default=NAN),
        max((k for k in known if k < close[last]), default=NAN),
    ]


@pytest.mark.parametrize(("span", "memory"), [(1, 10), (2, 30), (3, 120), (5, 40)])
def test_swings_agree_with_their_definition_at_every_bar(span, memory):
    high, low, close, _ = market(span)
    got = np.array(levels.swings(high, low, close, span=span, memory=memory))
    for i in range(len(close)):
        wanted = slow_swings(high[: i + 1], low[: i + 1], close[: i + 1], span, memory)
        np.testing.assert_array_equal(got[:, i], wanted, err_msg=f"bar {i}")
    assert np.isfinite(got).mean() > 0.4


def test_a_breakout_fades_and_a_quick_return_makes_it_fail():
    close = np.array([9, 11, 12, 12, 12, 12.0])
    top, bottom = np.full(6, 10.0), np.full(6, 5.0)
    way, age = levels.breakouts(close, top, bottom, hold=3, fail=2)
    assert way.tolist() == [0, 1, 1, 1, 0, 0]
    assert age[1:4].tolist() == [0, 1, 2]

    way, age = levels.breakouts(np.array([9, 11, 9, 9, 9, 9.0]), top, bottom, hold=3, fail=2)
    assert way.tolist() == [0, 1, -1, -1, -1, 0]
    assert age[2:5].tolist() == [0, 1, 2]


def test_a_late_return_ends_a_breakout_without_turning_it():
    close = np.array([9, 11, 12, 13, 9, 9.0])
    way, _ = levels.breakouts(close, np.full(6, 10.0), np.full(6, 5.0), hold=9, fail=2)
    assert way.tolist() == [0, 1, 1, 1, 0, 0]


def test_the_level_is_the_one_known_the_bar_before():
    # the close of 12 is above the new level of 11 at once, but the old one of 10 was never crossed from below
    way, _ = levels.breakouts(np.array([12, 12, 12.0]), np.array([10, 11, 11.0]), np.zeros(3), hold=9, fail=2)
    assert way.tolist() == [0, 0, 0]


def test_breakouts_down_mirror_those_up():
    high, low, close, _ = market(3)
    top, _, bottom, *_ = levels.swings(high, low, close, span=2, memory=40)
    up, age = levels.breakouts(close, np.nan_to_num(top, nan=1e9), np.nan_to_num(bottom, nan=-1e9), hold=8, fail=4)
    down, age_down = levels.breakouts(
        -close, -np.nan_to_num(bottom, nan=-1e9), -np.nan_to_num(top, nan=1e9), hold=8, fail=4
    )
    np.testing.assert_array_equal(up, -down)
    np.testing.assert_array_equal(age, age_down)
    assert {-1, 0, 1} == set(up)


def test_a_profile_by_hand():
    # ten prices from 0 to 10: 30 in the three bins from 2 to 5, 40 in that from 4 to 5, and bars that set the range
    high, low, volume = columns([1, 5, 5, 10], [0, 2, 4, 9], [5, 30, 40, 5])
    poc, lower, upper = levels.profile(high, low, volume, np.ones(len(high)), window=4, bins=10, share=0.7)
    assert np.isnan(poc[:3]).all()
    # held: 5, 0, 10, 10, 50, 0 ... 0, 5; 70 % of 80 is 56: the bin below brings 60
    assert poc[3] == pytest.approx(4.5)
    assert (lower[3], upper[3]) == (pytest.approx(3.0), pytest.approx(5.0))


def test_a_profile_grows_both_ways_where_both_neighbours_hold_as_much():
    high, low, volume = columns([10, 6, 7], [0, 4, 3], [10, 20, 10])
    # 1 everywhere, 10 more from 4 to 6, and 2.5 from 3 to 7: the middle two hold 27 of 40 (28 are wanted), their
    # neighbours 3.5 each
    poc, lower, upper = levels.profile(high, low, volume, np.ones(len(high)), window=3, bins=10, share=0.7)
    assert poc[2] == pytest.approx(4.5)
    assert (lower[2], upper[2]) == (pytest.approx(3.0), pytest.approx(7.0))


def slow_profile(high, low, volume, bins, share):
    bottom, top = min(low), max(high)
    width = (top - bottom) / bins
    held = [0.0] * bins
    for h, lo, v in zip(high, low, volume, strict=True):
        for b in range(bins):
            begin, end = bottom + b * width, bottom + (b + 1) * width
            if h > lo:
                held[b] += v * max(0.0, min(h, end) - max(lo, begin)) / (h - lo)
            elif begin <= lo < end or (b == bins - 1 and lo >= end):
                held[b] += v
    best = max(range(bins), key=lambda b: (round(held[b], 6), -abs(2 * b + 1 - bins)))
    first = last = best
    while sum(held[first : last + 1]) < share * sum(volume) - 1e-6:
        below = held[first - 1] if first else -1.0
        above = held[last + 1] if last < bins - 1 else -1.0
        if below >= above - 1e-6 and first:
            first -= 1
        if above >= below - 1e-6 and last < bins - 1:
            last += 1
    return bottom + (best + 0.5) * width, bottom + first * width, bottom + (last + 1) * width


@pytest.mark.parametrize(("window", "bins", "share"), [(20, 10, 0.7), (60, 30, 0.7), (15, 24, 0.5), (40, 7, 0.9)])
def test_profiles_agree_with_a_slow_reference_at_every_bar(window, bins, share):
    high, low, _, volume = market(window)
    got = np.array(levels.profile(high, low, volume, np.ones(len(high)), window=window, bins=bins, share=share))
    for i in range(window - 1, len(high)):
        part = slice(i - window + 1, i + 1)
        wanted = slow_profile(high[part].tolist(), low[part].tolist(), volume[part].tolist(), bins, share)
        np.testing.assert_allclose(got[:, i], wanted, rtol=1e-9, err_msg=f"bar {i}")


def test_a_profile_of_one_price_and_of_no_volume():
    one = np.full(5, 7.0)
    for column in levels.profile(one, one, np.ones(5), np.ones(len(one)), window=3, bins=10, share=0.7):
        assert column.tolist()[2:] == [7, 7, 7]
    high, low, _, _ = market(1, 20)
    assert np.isnan(levels.profile(high, low, np.zeros(20), np.ones(len(high)), window=5, bins=10, share=0.7)[0]).all()


def test_the_value_area_holds_its_share_and_the_point_of_control():
    high, low, _, volume = market(9)
    poc, lower, upper = levels.profile(high, low, volume, np.ones(len(high)), window=60, bins=30, share=0.7)
    known = ~np.isnan(poc)
    assert known.sum() == 241
    assert np.all((lower[known] < poc[known]) & (poc[known] < upper[known]))
