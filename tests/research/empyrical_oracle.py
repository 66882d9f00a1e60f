"""
Writes empyrical.json: what empyrical-reloaded (Apache-2.0) says of returns that a formula makes.

Its pins conflict with ours (peewee, through yfinance), so it runs in an environment of its own:

    python -m venv oracle && oracle/bin/pip install empyrical-reloaded==0.7.1
    oracle/bin/python tests/research/empyrical_oracle.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd

FILE = Path(__file__).with_name("empyrical.json")
CASES = [(seed, weekends) for seed in range(4) for weekends in (False, True)]
WINDOW = 63


def returns(seed: int, weekends: bool) -> pd.Series:
    """699 daily returns that look like a market's and need no generator of random numbers."""
    days = pd.date_range("2020-01-02", periods=699, freq="D" if weekends else "B")
    return pd.Series(
        [0.0004 + 0.012 * math.sin((k + 1) ** 2 * (0.37 + seed)) * math.cos(k / 50) for k in range(699)], days
    )


def said(seed: int, weekends: bool) -> dict[str, object]:
    import empyrical  # only in the oracle's own environment

    own, year = returns(seed, weekends), 365 if weekends else 252
    rolled = empyrical.roll_sharpe_ratio(own, WINDOW, annualization=year)
    return {
        "figures": {
            "total_return": float(empyrical.cum_returns_final(own)),
            "cagr": float(empyrical.annual_return(own, annualization=year)),
            "volatility": float(empyrical.annual_volatility(own, annualization=year)),
            "sharpe": float(empyrical.sharpe_ratio(own, annualization=year)),
            "sortino": float(empyrical.sortino_ratio(own, annualization=year)),
            "calmar": float(empyrical.calmar_ratio(own, annualization=year)),
            "max_drawdown": float(empyrical.max_drawdown(own)),
        },
        "months": empyrical.aggregate_returns(own, "monthly").tolist(),
        "rolling": rolled.iloc[::30].tolist(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps([said(*case) for case in CASES], indent=1) + "\n")
