"""Performance figures: the same as empyrical's and quantstats' for books of every spacing, and worked by hand."""

from __future__ import annotations

import importlib.util
import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphapivot import figures
from alphapivot.calendar import bar_ends

D = Decimal
_spec = importlib.util.spec_from_file_location("figures_oracle", Path(__file__).with_name("figures_oracle.py"))
oracle = importlib.util.module_from_spec(_spec)  # importlib mode knows no package to import it from
_spec.loader.exec_module(oracle)
START = datetime(2026, 1, 1, 22, tzinfo=UTC)
FIGURES = ("cagr", "volatility", "sharpe", "sortino")


def marks(equity, *, start=START, days=None):
    days = range(len(equity)) if days is None else days
    stamps = pd.DatetimeIndex([start + timedelta(days=d) for d in days])
    return pd.DataFrame({"as_of": stamps, "equity": [D(str(e)) for e in equity]})


@pytest.mark.parametrize("number", range(len(oracle.CASES)))
def test_figures_agree_with_empyrical_and_quantstats(number):
    theirs, growth = json.loads(oracle.FILE.read_text())[number], oracle.marks(*oracle.CASES[number])
    year = oracle.SPACING[oracle.CASES[number][1]][1]
    days = figures.daily(pd.DataFrame({"as_of": growth.index.tz_localize("UTC"), "equity": 1e5 * growth.to_numpy()}))
    returns = days["ret"].dropna().to_numpy()
    found = {name: float(getattr(figures, name)(returns, year)) for name in FIGURES} | {
        "total_return": days["growth"].iloc[-1] - 1,
        "max_drawdown": days["deepest"].min(),
        "value_at_risk": figures.value_at_risk(returns),
        "expected_shortfall": figures.expected_shortfall(returns),
        "best_day": returns.max(),
        "worst_day": returns.min(),
    }
    found["calmar"] = found["cagr"] / -found["max_drawdown"]
    for library in ("empyrical", "quantstats"):
        assert {name: found[name] for name in theirs[library]} == pytest.approx(theirs[library], rel=1e-8), library
    months = figures.monthly(days).to_numpy().ravel()  # row by row, hence in the order of time
    np.testing.assert_allclose(months[~np.isnan(months)], theirs["months"], rtol=1e-8)
    rolled = figures.rolling_sharpe(pd.Series(returns), round(year / 4), year).dropna()
    np.testing.assert_allclose(rolled.iloc[::30], theirs["rolling"], rtol=1e-7)


@pytest.mark.parametrize("spacing", oracle.SPACING)
def test_a_year_has_as_many_periods_as_the_marks_say(spacing):
    growth = oracle.marks(0, spacing)
    days = figures.daily(pd.DataFrame({"as_of": growth.index.tz_localize("UTC"), "equity": growth.to_numpy()}))
    assert figures.a_year(pd.DatetimeIndex(days.index)) == pytest.approx(oracle.SPACING[spacing][1], rel=3e-3)


def test_a_short_record_is_measured_in_the_days_that_its_calendars_had():
    could = bar_ends.days(["XNYS"], "1d", datetime(2024, 7, 1, tzinfo=UTC))
    assert figures.a_year(could) == pytest.approx(251.5, abs=1.5)
    week = pd.date_range("2024-06-10", periods=5)  # Monday to Friday
    assert figures.a_year(week) == pytest.approx(365.25)
    assert figures.a_year(week, could) == pytest.approx(figures.a_year(could))
    # marked every other session: half as often as it could have been
    assert figures.a_year(week[::2], could) == pytest.approx(figures.a_year(could) / 2)
    weekly = bar_ends.days(["XNYS"], "1w", datetime(2024, 7, 1, tzinfo=UTC))
    assert figures.a_year(weekly) == pytest.approx(365.25 / 7, rel=3e-3)
    forex = bar_ends.days(["24/5", "XNYS"], "1h", datetime(2024, 7, 1, tzinfo=UTC))
    assert figures.a_year(forex) == pytest.approx(365.25 * 5 / 7, rel=5e-3)
    one = pd.DatetimeIndex(["2024-06-10"])
    assert figures.a_year(one, could) == figures.a_year(could)
    assert math.isnan(figures.a_year(one))


def test_the_first_day_of_an_intraday_book_counts_from_its_first_mark():
    at = pd.to_datetime(["2026-01-02T10:00Z", "2026-01-02T16:00Z", "2026-01-05T10:00Z", "2026-01-05T16:00Z"])
    days = figures.daily(pd.DataFrame({"as_of": at, "equity": [100_000, 86_298, 88_000, 86_298]}))
    assert days["ret"].tolist() == pytest.approx([-0.13702, 0.0])
    assert days["growth"].iloc[-1] - 1 == pytest.approx(-0.13702)  # as the money says: -13,702 of 100,000
    # the high and the low of 5 January lie within it, its return is 0
    assert days["deepest"].tolist() == pytest.approx([-0.13702, -0.13702])


def test_a_drawdown_within_a_day_counts_though_the_day_ends_at_its_high():
    at = pd.date_range("2026-01-02T10:00Z", periods=6, freq="6h")
    days = figures.daily(pd.DataFrame({"as_of": at, "equity": [100, 80, 110, 99, 121, 121]}))
    assert days["drawdown"].iloc[-1] == 0
    assert days["deepest"].min() == pytest.approx(-0.2)
    assert days["high"].tolist() == [True, True]


def test_deposits_are_no_profit_and_midnight_belongs_to_the_day_that_ends():
    frame = marks([1000, 1100, 1650, 1650], start=datetime(2026, 1, 2, tzinfo=UTC))
    days = figures.daily(frame, [(START, D(77)), (datetime(2026, 1, 3, 12, tzinfo=UTC), D(440))])
    assert [d.isoformat()[:10] for d in days.index] == ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
    assert days["flow"].tolist() == [0, 0, 440, 0]  # what came before the first mark is part of it
    assert days["ret"].tolist()[1:] == pytest.approx([0.1, 0.1, 0.0])
    assert days["growth"].iloc[-1] == pytest.approx(1.21)


def test_the_last_of_several_marks_of_a_day_counts():
    frame = marks([1000, 5, 1100])
    frame["as_of"] = pd.DatetimeIndex([START, START + timedelta(hours=20), START + timedelta(hours=24)])
    assert figures.daily(frame)["equity"].tolist() == [1000, 1100]


def test_a_drawdown_lasts_from_its_high_until_that_is_reached_again():
    days = figures.daily(marks([100, 110, 99, 104.5, 110, 108.9], days=[0, 1, 2, 5, 9, 12]))
    assert days["deepest"].min() == pytest.approx(-0.1)
    assert days["drawdown"].iloc[-1] == pytest.approx(-0.01)
    assert figures.longest_drawdown(days) == 8  # from day 1 to day 9
    assert figures.longest_drawdown(figures.daily(marks([100, 110, 99, 104], days=[0, 1, 2, 30]))) == 29
    assert figures.longest_drawdown(figures.daily(marks([1, 2, 3]))) == 0


def test_losing_everything_ends_the_returns():
    days = figures.daily(marks([100, 50, -10, 20, 40, 50, 60]))
    assert days["ret"].isna().tolist() == [True, False, False, True, False, False, False]
    assert (days["growth"].iloc[2:] == 0).all()
    returns = days["ret"].dropna().to_numpy()
    assert (figures.total(returns), figures.cagr(returns, 252), figures.max_drawdown(returns)) == (-1.0, -1.0, -1.0)


def test_value_at_risk_and_expected_shortfall_worked_by_hand():
    returns = np.array([k / 1000 for k in range(-20, 21)])  # -2.0 % to 2.0 % in steps of 0.1 %
    assert figures.value_at_risk(returns) == pytest.approx(-0.018)  # 5 % of the way through 41 of them
    assert figures.expected_shortfall(returns) == pytest.approx((-0.020 - 0.019 - 0.018) / 3)
    assert math.isnan(figures.value_at_risk(returns[:19]))
    assert math.isnan(figures.expected_shortfall(returns[:19]))


def test_what_never_varies_has_no_ratio():
    flat = np.zeros((10, 2))
    for ratio in (figures.sharpe, figures.sortino, figures.calmar):
        assert np.isnan(ratio(flat, 252)).all()
    assert (figures.volatility(flat, 252) == 0).all()
    assert math.isnan(figures.sharpe(np.array([0.01])))


def test_periods_have_the_name_of_their_length():
    spaced = {252: "day", 313: "day", 365.25: "day", 52.18: "week", 12: "month", 121.75: "period", math.nan: "period"}
    assert {year: figures.period(year) for year in spaced} == spaced
