"""Carry worked by hand: roll yield, basis, and markets that have neither."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from pillars.base import BESIDE, Panel
from pillars.carry import Carry
from pillars.kit.sample import sample_bars


def market(count=60, **columns):
    """A price that steps up and down by 1 each day, 365.25 days a year."""
    ts = pd.date_range("2021-01-01", periods=count, tz="UTC").as_unit("us")
    close = 100.0 + np.arange(count) % 2
    fixed = {"symbol": "A", "market": "futures", "contract": "", "interval": "1d", "source": "x"}
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    known = {"futures_close": close, **columns}
    return pd.DataFrame({"ts": ts, **prices, "volume": np.nan, "open_interest": np.nan, **known}).assign(**fixed)


def parts(bars, **keys):
    made = Carry(smooth=10, volatility=10, **keys).parts(Panel.of(bars))
    return {name: column[-1] for name, column in made.parts.items()}


ANNUAL = 365.25**0.5  # deviation a year of a price that moves by 1 a day


@pytest.mark.parametrize(("dearer", "months"), [(2.0, 3.0), (-2.0, 3.0), (1.0, 1.0), (2.0, -3.0)])
def test_the_roll_yield_is_what_the_front_earns_until_it_is_the_other(dearer, months):
    bars = market()
    got = parts(bars.assign(other_close=bars["close"] + dearer, other_months=months))
    # a dearer later contract: a long loses the difference as it comes nearer
    assert got["roll_yield"] == pytest.approx(100 * np.clip(-dearer / (months / 12) / ANNUAL, -1, 1), rel=1e-6)
    assert got["basis"] == 0


def test_the_basis_counts_where_there_is_no_second_contract():
    bars = market()
    got = parts(bars.assign(spot_close=bars["close"] - 1, front_months=2.0))
    assert got["basis"] == pytest.approx(-100 * 1 / (2 / 12) / ANNUAL, rel=1e-6)
    assert got["roll_yield"] == 0


def test_in_the_last_days_before_delivery_there_is_no_basis():
    bars = market()
    assert np.isnan(parts(bars.assign(spot_close=bars["close"] - 1, front_months=0.4))["basis"])


def test_the_yield_is_smoothed_over_what_is_known_of_its_bars():
    bars = market()
    other = (bars["close"] + np.arange(60.0)).where(np.arange(60) % 3 > 0)  # every third day is missing
    got = parts(bars.assign(other_close=other, other_months=12.0), full=20)
    ages = [i for i in range(50, 60) if i % 3 > 0]
    assert got["roll_yield"] == pytest.approx(-100 * np.mean(ages) / ANNUAL / 20, rel=1e-6)
    few = other.where(np.arange(60) % 9 == 1)
    assert np.isnan(parts(bars.assign(other_close=few, other_months=12.0))["roll_yield"])


def test_a_share_and_a_vendors_continuous_series_have_no_carry():
    spot = sample_bars(200).drop(columns=list(BESIDE))
    assert np.isnan(Carry().parts(Panel.of(spot)).score()).all()
    continuous = market()  # front prices, and neither a month nor a second contract
    assert np.isnan(Carry().parts(Panel.of(continuous.assign(spot_close=continuous["close"]))).score()).all()


def test_a_market_that_does_not_move_is_neutral():
    bars = market().assign(close=100.0, other_close=98.0, other_months=1.0)
    assert parts(bars) == {"roll_yield": 0, "basis": 0}


def test_both_sources_in_one_window_share_the_score():
    bars = market()
    early = np.arange(60) < 56
    bars = bars.assign(
        other_close=(bars["close"] + 1).where(early), other_months=12.0, spot_close=bars["close"] - 1, front_months=12.0
    )
    got = parts(bars)
    whole = -100 / ANNUAL
    assert got == pytest.approx({"roll_yield": 0.6 * whole, "basis": 0.4 * whole})


@pytest.mark.parametrize("keys", [{"smooth": 1}, {"nearest": 0}, {"span": 90}])
def test_parameters_that_make_no_sense_are_refused(keys):
    with pytest.raises(ValidationError, match=next(iter(keys))):
        Carry(**keys)
