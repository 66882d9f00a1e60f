"""Bars further apart than their interval are told from a market with holes."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from alphapivot.calendar import bar_ends
from alphapivot.feeds.files import spacing
from tests.feeds.test_files import fetch

SINCE, UNTIL = datetime(2024, 10, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)


def ends(calendar, interval):
    return bar_ends.bar_ends(calendar, interval, SINCE, UNTIL)  # with Thanksgiving, half days, Christmas


@pytest.mark.parametrize("calendar", ["XNYS", "24/7", "XTKS"])
@pytest.mark.parametrize("fine", ["1m", "5m", "30m", "1h", "1d"])
@pytest.mark.parametrize("coarse", ["1m", "5m", "30m", "1h", "1d", "1w"])
def test_bars_of_a_longer_interval_are_told_and_those_of_the_same_are_not(calendar, fine, coarse):
    names = list(bar_ends.INTERVALS)
    if names.index(coarse) >= names.index(fine):
        expected = "" if coarse == fine else coarse
        assert spacing.coarser(calendar, fine, ends(calendar, coarse)) == expected


def test_days_at_another_hour_than_the_close_are_days_too():
    dates = pd.bdate_range("2024-10-01", periods=30, tz="America/New_York")
    assert spacing.coarser("XNYS", "30m", dates.tz_convert("UTC")) == "1d"


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1, 0.3, 0.6])
def test_a_thin_market_and_a_night_without_bars_have_holes_and_are_no_longer_interval(share):
    rng = np.random.default_rng(7)
    every = ends("XNYS", "1m")
    assert spacing.coarser("XNYS", "1m", every[rng.random(len(every)) < share]) == ""
    day = ends("24/7", "30m")
    assert spacing.coarser("24/7", "30m", day[(day.hour >= 14) & (day.hour < 21)]) == ""


def test_daily_files_read_as_half_hours_are_a_problem_that_says_what_to_set(tmp_path):
    rows = "".join(f"{day:%Y-%m-%d},1\n" for day in pd.bdate_range("2024-07-01", "2024-07-31") if day.day != 4)
    (tmp_path / "x.csv").write_text(f"date,close\n{rows}", encoding="utf-8")
    assert not fetch(tmp_path).problems
    found = fetch(tmp_path, interval="30m", spot_interval="30m")
    assert found.bars.empty
    (only,) = found.problems
    told = "x.csv: its 22 bars from 2024-07-01 to 2024-07-31 are about 1d apart, expected bars of 30m: [instrument.X] "
    assert only.reason == f"{told}spot_interval names the interval of the files"
    assert "[timeframes] base names the interval" in fetch(tmp_path, interval="30m").problems[0].reason
