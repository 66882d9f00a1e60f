"""What is maximised, of daily returns; and a trial made of its equity. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.research.tune import walkforward
from alphapivot.research.tune.store import Trial

Floats = npt.NDArray[np.float64]
Objective = Literal["sharpe", "sortino", "calmar", "growth"]
OBJECTIVES: dict[Objective, str] = {
    "sharpe": "mean over standard deviation of daily returns, as of a year",
    "sortino": "mean over downside deviation of daily returns, as of a year",
    "calmar": "annual growth over the largest drawdown",
    "growth": "compound annual growth",
}


def objective(returns: Floats, name: str, a_year: float) -> Floats:
    """Of each column of daily returns (days by trials); NaN where it does not vary."""
    varies = returns.std(axis=0) > 1e-15
    mean = returns.mean(axis=0)
    if name == "sharpe":
        spread = returns.std(axis=0, ddof=1) if len(returns) > 1 else np.zeros_like(mean)
    elif name == "sortino":
        spread = np.sqrt((np.minimum(returns, 0.0) ** 2).mean(axis=0))
    else:
        grown = growth(returns, a_year)
        if name == "growth":
            return np.where(varies, grown, np.nan)
        spread, mean = drawdown(returns), grown / np.sqrt(a_year)  # the factor below is for daily numbers
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(varies & (spread > 1e-15), mean / spread * np.sqrt(a_year), np.nan)


def growth(returns: Floats, a_year: float) -> Floats:
    """Compound annual growth; -1 where all was lost."""
    whole = np.prod(1 + np.maximum(returns, -1.0), axis=0)
    grown: Floats = whole ** (a_year / max(len(returns), 1)) - 1
    return grown


def drawdown(returns: Floats) -> Floats:
    """The largest fall from the highest equity, as a share of it."""
    worth = np.vstack([np.ones(returns.shape[1]), np.cumprod(1 + returns, axis=0)])
    fall: Floats = (1 - worth / np.maximum.accumulate(worth, axis=0)).max(axis=0)
    return fall


def summed(
    number: int,
    values: Mapping[str, str],
    config_hash: str,
    at: pd.DatetimeIndex,
    equity: Floats,
    cash: float,
    *,
    trades: int,
    held: int = 0,
    halted: datetime | None = None,
) -> Trial:
    """A trial of its equity at each instant, from ``cash`` on: the last of each UTC day counts, midnight its end."""
    series = pd.Series(equity, at).groupby(_days(at)).last()
    worth = np.append(cash, series.to_numpy(np.float64))
    returns = np.where(worth[:-1] > 0, worth[1:] / np.where(worth[:-1] > 0, worth[:-1], 1.0) - 1, 0.0)
    days = [ts.date() for ts in series.index]
    column, year = returns[:, None], a_year(days)
    return Trial(
        number, values, config_hash, float(objective(column, "sharpe", year)[0]), float(growth(column, year)[0]),
        max(0.0, float(drawdown(column)[0])), trades, held, halted, days, returns,
    )  # fmt: skip


def held(decided: pd.Series, left: pd.Series, at: pd.DatetimeIndex) -> int:
    """
    Within how many of the days on which anything is decided (``at``: all those instants) 95 % of the trades were over;
    ``decided`` and ``left``: of each that is over.
    """
    lasted = (left - decided).dt.total_seconds().to_numpy(np.float64) / 86_400
    return walkforward.longest(np.ceil(lasted * _session_share(at)).astype(np.int64))


def _days(at: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """An instant at midnight belongs to the day that ends, as in the reports."""
    return (at - pd.Timedelta(1, "us")).floor("D")


def _session_share(at: pd.DatetimeIndex) -> float:
    """Days on which anything is decided, of all days."""
    days = _days(at).unique()
    return min(1.0, len(days) / max(1, (days[-1] - days[0]).days + 1))


def a_year(days: Sequence[date]) -> float:
    """How many such days a year has."""
    span = (days[-1] - days[0]).days + 1
    return 365.25 * len(days) / span if len(days) > 1 else 252.0
