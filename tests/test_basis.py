"""Basis and carry at one instant, by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from alphapivot import basis

NAN = float("nan")
TS = np.datetime64("2013-12-13T21:00:00", "us")
YEAR_ON = TS + basis.YEAR


def one(spot, future, expiry=YEAR_ON, **own):
    found = basis.measure(np.array([TS]), np.array([spot]), np.array([future]), np.array([expiry]), **own)
    return tuple(found.iloc[0])


def test_a_future_five_percent_above_spot_with_a_year_to_go_costs_the_logarithm_of_it():
    assert one(100.0, 105.0) == (5.0, pytest.approx(math.log(1.05)), "")


def test_carry_is_a_years_whatever_is_left():
    quarter = TS + basis.YEAR / 4
    assert one(100.0, 99.0, quarter)[1] == pytest.approx(4 * math.log(0.99))


def test_a_fund_that_is_a_tenth_of_the_index_is_scaled():
    # SPY and March's E-mini on 13 December 2013
    found = one(178.11, 1768.75, np.datetime64("2014-03-21T13:30:00", "us"), scale=10)
    assert found[0] == pytest.approx(1768.75 - 1781.1)


@pytest.mark.parametrize(
    ("spot", "future", "expiry", "reason"),
    [
        (NAN, 105.0, YEAR_ON, "no spot at this instant"),
        (100.0, NAN, YEAR_ON, "no future at this instant"),
        (18.0, -37.63, YEAR_ON, "a price is not positive"),
        (100.0, 105.0, np.datetime64("NaT"), "no expiry"),
        (100.0, 105.0, TS + np.timedelta64(23, "h"), "expired"),
        (100.0, 105.0, TS - np.timedelta64(3, "D"), "expired"),
    ],
)
def test_what_cannot_be_known_is_null_with_its_reason(spot, future, expiry, reason):
    gap, carry, why = one(spot, future, expiry)
    assert why == reason
    assert math.isnan(carry)
    assert math.isnan(gap) == (math.isnan(spot) or math.isnan(future))


def test_without_expiries_there_is_a_basis_and_no_carry():
    found = basis.measure(np.array([TS, TS]), np.array([100.0, NAN]), np.array([105.0, 105.0]))
    expected = pd.DataFrame(
        {"basis": [5.0, NAN], "carry": [NAN, NAN], "reason": ["no expiry", "no spot at this instant"]}
    ).astype({"reason": "str"})
    pd.testing.assert_frame_equal(found, expected)
