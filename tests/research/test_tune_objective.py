"""A trial's daily returns from its equity, worked by hand."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from alphapivot.research.tune import objective as own


def instants(*texts: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex([f"2024-03-{text}Z" for text in texts])


def test_the_last_instant_of_a_day_counts_and_midnight_is_the_end_of_the_day_before():
    at = instants("04 15:00", "04 21:00", "05 00:00", "05 21:00", "06 00:00")
    made = own.summed(7, {"a.b": "1"}, "hash", at, np.array([100.0, 102, 110, 99, 121]), trades=3)
    assert made.days == [date(2024, 3, 4), date(2024, 3, 5)]
    assert made.returns == pytest.approx([0.10, 0.10])
    assert made.drawdown == pytest.approx(0.1)  # within the second day
    assert made.growth == pytest.approx(1.21 ** (365.25 / 2) - 1)  # two days, one apart


def test_a_book_of_daily_marks_returns_nothing_on_its_first_day():
    made = own.summed(0, {}, "", instants("04 21:00", "05 21:00", "07 21:00"), np.array([100.0, 110, 99]), trades=1)
    assert made.days == [date(2024, 3, 5), date(2024, 3, 7)]
    assert made.returns == pytest.approx([0.1, -0.1])
    assert own.summed(0, {}, "", instants("04 21:00"), np.array([100.0]), trades=0).returns.tolist() == [0.0]


def test_trades_are_held_so_many_of_the_days_on_which_anything_is_decided():
    at = instants("04 21:00", "05 21:00", "06 21:00", "07 21:00", "08 21:00", "11 21:00")  # 6 of 8 days
    decided, left = (
        instants(*days).as_unit("us").asi8 for days in (("04 21:00", "04 21:00"), ("05 21:00", "08 21:00"))
    )
    assert own.held(decided, left, at) == 3  # 4 days, of which three quarters are days of trading
    assert own.held(decided[:0], left[:0], at) == 0


def test_an_account_that_lost_all_makes_no_more_returns():
    at = instants("04 21:00", "05 21:00", "06 21:00")
    made = own.summed(0, {}, "", at, np.array([50.0, 0, 0]), trades=1)
    assert made.returns.tolist() == [-1.0, 0.0]
    assert (made.growth, made.drawdown) == (-1.0, 1.0)
