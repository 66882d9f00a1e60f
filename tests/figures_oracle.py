"""
Writes figures_oracle.json: what empyrical-reloaded and quantstats (both Apache-2.0) say of returns made by a formula,
for books that are marked each weekday, each week, each third day, each day, and each hour.

Their pins conflict with ours, so they run in an environment of their own:

    python -m venv oracle && oracle/bin/pip install empyrical-reloaded==0.7.1 quantstats==0.0.86
    oracle/bin/python tests/figures_oracle.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd

FILE = Path(__file__).with_name("figures_oracle.json")
# the marks of a book, and how many of its periods a year has: 5 of 7 days, 52.18 weeks, every third of 365.25 days, and
# 6 of 7 days for currencies, which trade from Sunday evening to Friday
SPACING = {"weekdays": ("B", 365.25 * 5 / 7), "weeks": ("W-FRI", 365.25 / 7), "third days": ("3D", 365.25 / 3)}
SPACING |= {"every day": ("D", 365.25), "hours": ("h", 365.25), "currency hours": ("h", 365.25 * 6 / 7)}
CASES = [(seed, spacing) for seed in range(2) for spacing in SPACING]
COUNT = 700  # marks that return something, by day
START = "2019-12-31T22:00"


def marks(seed: int, spacing: str) -> pd.Series:
    """The growth of a book at its marks, the first of them 1; it looks like a market's and needs no random numbers."""
    hourly = SPACING[spacing][0] == "h"
    stamps = pd.date_range(START, periods=1 + COUNT * (24 if hourly else 1), freq=SPACING[spacing][0])
    if spacing == "currency hours":  # open from Sunday 22:00 to Friday 22:00
        week = stamps.day_of_week * 24 + stamps.hour
        stamps = stamps[(week <= 4 * 24 + 22) | (week > 6 * 24 + 22)]
    size = 0.003 if hourly else 0.012
    ret = [
        0.0004 / (24 if hourly else 1) + size * math.sin((k + 1) ** 2 * (0.37 + seed)) * math.cos(k / 50)
        for k in range(len(stamps) - 1)
    ]
    return pd.Series([1.0, *(1 + pd.Series(ret)).cumprod()], stamps)


def returns(growth: pd.Series) -> pd.Series:
    """From one day's last mark to the next day's, the first day's from the first mark."""
    days = growth.index - pd.Timedelta(microseconds=1)
    last = growth.groupby(days.normalize()).last()
    first = pd.Series([growth.iloc[0]], [last.index[0] - pd.Timedelta(days=1)])
    return pd.concat([first, last]).pct_change().iloc[1 if last.iloc[0] != growth.iloc[0] else 2 :]


def said(seed: int, spacing: str) -> dict[str, object]:
    import empyrical  # only in the oracle's own environment
    import quantstats.stats as quantstats

    growth = marks(seed, spacing)
    own, year = returns(growth), SPACING[spacing][1]
    rolled = empyrical.roll_sharpe_ratio(own, round(year / 4), annualization=year)
    cagr = float(empyrical.annual_return(own, annualization=year))
    deepest = float(empyrical.max_drawdown(growth.pct_change().iloc[1:]))  # of all marks
    return {
        "empyrical": {
            "total_return": float(empyrical.cum_returns_final(own)),
            "cagr": cagr,
            "volatility": float(empyrical.annual_volatility(own, annualization=year)),
            "sharpe": float(empyrical.sharpe_ratio(own, annualization=year)),
            "sortino": float(empyrical.sortino_ratio(own, annualization=year)),
            "calmar": cagr / -deepest,
            "max_drawdown": deepest,
            "value_at_risk": float(empyrical.value_at_risk(own, 0.05)),
            "expected_shortfall": float(empyrical.conditional_value_at_risk(own, 0.05)),
        },
        "quantstats": {
            "total_return": float(quantstats.comp(own)),
            "volatility": float(quantstats.volatility(own, periods=year)),
            "sharpe": float(quantstats.sharpe(own, periods=year)),
            "sortino": float(quantstats.sortino(own, periods=year)),
            "max_drawdown": float(quantstats.max_drawdown(growth)),
            "best_day": float(quantstats.best(own)),
            "worst_day": float(quantstats.worst(own)),
        },
        "months": empyrical.aggregate_returns(own, "monthly").tolist(),
        "rolling": rolled.iloc[::30].tolist(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps([said(*case) for case in CASES], indent=1) + "\n")
