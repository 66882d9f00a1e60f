"""The shared maths on values worked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pillars.base import Panel
from pillars.indicators import atr, bars_since, extremes, ramp, still

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


@pytest.mark.parametrize(
    ("event", "since"),
    [([0, 1, 0, 0, 1, 1, 0], [NAN, 0, 1, 2, 0, 0, 1]), ([0, 0], [NAN, NAN]), ([], [])],
)
def test_bars_since_an_event(event, since):
    np.testing.assert_array_equal(bars_since(np.array(event, float)), np.array(since, float))
