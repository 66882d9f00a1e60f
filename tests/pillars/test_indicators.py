"""The shared maths on values worked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import talib

from pillars.base import Panel
from pillars.indicators import (
    atr,
    bars_since,
    before,
    change,
    deviation,
    extremes,
    gate,
    grade,
    ramp,
    share,
    still,
    total,
)

NAN = np.nan


def bars(high, low, close):
    ts = pd.date_range("2024-01-01", periods=len(close), tz="UTC").as_unit("us")
    df = pd.DataFrame({"ts": ts, "high": high, "low": low, "close": close})
    fixed = {"symbol": "A", "market": "spot", "contract": "", "interval": "1d", "source": "x"}
    return Panel.of(df.assign(**fixed, open=NAN, volume=NAN, open_interest=NAN))


def test_a_close_only_bar_reaches_no_further_than_its_close():
    high, low = extremes(bars([12, NAN, 13], [9, NAN, NAN], [10, 11, 12]))
    assert high.tolist() == [12, 11, 13]
    assert low.tolist() == [9, 11, 12]


def test_average_true_range_by_hand():
    # true ranges from the second bar on: 3, max(2, |15 - 11|, |13 - 11|) = 4, max(1, |10 - 14|, |9 - 14|) = 5
    p = bars([12, 13, 15, 10], [9, 10, 13, 9], [10, 11, 14, 9.5])
    # seeded with the mean of the first two, then (3.5 x 1 + 5) / 2
    np.testing.assert_allclose(atr(p, 2), [NAN, NAN, 3.5, 4.25])


def test_average_true_range_of_closes_alone_is_their_smoothed_change():
    p = bars([NAN] * 4, [NAN] * 4, [10, 12, 11, 15])
    np.testing.assert_allclose(atr(p, 2), [NAN, NAN, 1.5, 2.75])


def test_a_market_is_still_once_nothing_has_moved_in_the_whole_window():
    p = bars([5, 5, 5, 5, 6, 5], [4, 5, 5, 5, 5, 5], [5, 5, 5, 5, 5, 5])
    assert still(p, 3).tolist() == [False, False, False, True, False, False]


def test_a_ramp_is_graded_cut_and_zero_where_quiet():
    value, full = np.array([1, -3, 8, 0, NAN, 1.0]), np.array([4, 4, 4, 0, 4, NAN])
    quiet = np.array([False, False, False, True, True, True])
    np.testing.assert_array_equal(ramp(value, full, quiet), [0.25, -0.75, 1, 0, NAN, NAN])


def columns(values, lengths=None):
    """A panel of symbols with these numbers of bars, and ``values`` as a column of it."""
    p = bars([1.0] * len(values), [1.0] * len(values), [1.0] * len(values))
    bounds = np.append(0, np.cumsum(lengths or [len(values)]))
    return p.take(np.arange(len(values)), bounds, tuple(f"S{i}" for i in range(len(bounds) - 1))), np.array(
        values, float
    )


@pytest.mark.parametrize("n", [*range(1, 18), 31, 32, 33, 100, 250, 299])
def test_sums_of_windows_are_talibs_and_keep_to_their_symbol(n):
    values = np.random.default_rng(n).random(500)
    p, values = columns(values, [300, 0, 5, 195])
    got = total(p, values, n)
    for a, b in ((0, 300), (300, 305), (305, 500)):
        wanted = pd.Series(values[a:b]).rolling(n).sum().to_numpy()
        np.testing.assert_allclose(got[a:b], wanted, rtol=1e-12)
        if 1 < n <= b - a:
            np.testing.assert_allclose(got[a:b], talib.SUM(values[a:b], timeperiod=n), rtol=1e-9)
    np.testing.assert_array_equal(values, np.random.default_rng(n).random(500))


def test_a_sum_does_not_depend_on_where_the_panel_begins_and_keeps_no_residue():
    values = np.r_[1e15 * np.random.default_rng(1).random(50), np.random.default_rng(2).random(50), np.zeros(50)]
    long, short = (total(*columns(v), 20) for v in (values, values[37:]))
    np.testing.assert_array_equal(long[-90:], short[-90:])
    assert long[-1] == 0
    assert talib.SUM(values, timeperiod=20)[-1] != 0


def test_a_gap_makes_the_sums_over_it_unknown_and_no_others():
    p, values = columns([1, 2, NAN, 4, 5, 6])
    np.testing.assert_array_equal(total(p, values, 2), [NAN, 3, NAN, NAN, 9, 11])


def test_the_bar_before_is_one_of_the_same_symbol():
    p, values = columns([1, 2, 3, 5, 8], [3, 2])
    np.testing.assert_array_equal(before(p, values), [NAN, 1, 2, NAN, 5])
    np.testing.assert_array_equal(change(p, values), [NAN, 1, 1, NAN, 3])
    np.testing.assert_array_equal(change(p, values, 2), [NAN, NAN, 2, NAN, NAN])


@pytest.mark.parametrize("n", [2, 14, 60])
def test_the_deviation_is_talibs_about_zero(n):
    values = np.random.default_rng(n).normal(size=200)
    p, values = columns(values)
    about_mean, mean = talib.STDDEV(values, timeperiod=n), talib.SMA(values, timeperiod=n)
    np.testing.assert_allclose(deviation(p, values, n), np.sqrt(about_mean**2 + mean**2), rtol=1e-9)


def test_a_grade_goes_straight_from_bad_to_good_either_way():
    value = np.array([0, 1, 2, 3, 4, NAN])
    np.testing.assert_array_equal(grade(value, 1, 3), [0, 0, 0.5, 1, 1, NAN])
    np.testing.assert_array_equal(grade(value, 3, 1), [1, 1, 0.5, 0, 0, NAN])


def test_a_gate_is_the_product_over_what_is_known():
    a, b = np.array([1, 0, 0.5, NAN, NAN]), np.array([1, 1, 0, 0.5, NAN])
    np.testing.assert_allclose(gate([(1.0, a), (0.5, b)]), [1, 0, 0.25, 0.75, NAN])


def test_a_share_of_nothing_is_unknown():
    np.testing.assert_array_equal(share(np.array([1, 0, 3.0]), np.array([2, 0, NAN])), [0.5, NAN, NAN])


@pytest.mark.parametrize(
    ("event", "since"),
    [([0, 1, 0, 0, 1, 1, 0], [NAN, 0, 1, 2, 0, 0, 1]), ([0, 0], [NAN, NAN]), ([], [])],
)
def test_bars_since_an_event(event, since):
    np.testing.assert_array_equal(bars_since(np.array(event, float)), np.array(since, float))
