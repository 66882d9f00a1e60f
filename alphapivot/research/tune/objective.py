"""Objectives of daily returns, and trials from their equity curves. Pure."""

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
    "sharpe": "mean over standard deviation of daily returns, annualised",
    "sortino": "mean over downside deviation of daily returns, annualised",
    "calmar": "annual growth over the largest drawdown",
    "growth": "compound annual growth",
}


def objective(returns: Floats, name: str, a_year: float) -> Floats:
    """The objective ``name`` of each column of daily returns (days by trials); NaN where returns do not vary."""
    varies = returns.std(axis=0) > 1e-15
    mean = returns.mean(axis=0)
    if name == "sharpe":
        spread = returns.std(axis=0, ddof=1) if len(returns) > 1 else np.zeros_like(mean)
    elif name == "sortino":
        spread = np.sqrt((np.minimum(returns, 0.0) ** 2).mean(axis=0))
    else:
        annual = growth(returns, a_year)
        if name == "growth":
            return np.where(varies, annual, np.nan)
        spread, mean = drawdown(returns), annual / np.sqrt(a_year)  # undoes the factor below, which annualises
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(varies & (spread > 1e-15), mean / spread * np.sqrt(a_year), np.nan)


def growth(returns: Floats, a_year: float) -> Floats:
    """Compound annual growth; -1 for a total loss."""
    total = np.prod(1 + np.maximum(returns, -1.0), axis=0)
    annual: Floats = total ** (a_year / max(len(returns), 1)) - 1
    return annual


def drawdown(returns: Floats) -> Floats:
    """The largest fall from the equity's high so far, as a share of it."""
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
    """A trial from its equity at each instant and its initial ``cash``; the last instant of each UTC day counts."""
    series = pd.Series(equity, at).groupby(_days(at)).last()
    worth = np.append(cash, series.to_numpy(np.float64))
    returns = np.where(worth[:-1] > 0, worth[1:] / np.where(worth[:-1] > 0, worth[:-1], 1.0) - 1, 0.0)
    days = [ts.date() for ts in series.index]
    column, year = returns[:, None], a_year(days)
    return Trial(
        number=number,
        config=values,
        config_hash=config_hash,
        sharpe=float(objective(column, "sharpe", year)[0]),
        growth=float(growth(column, year)[0]),
        drawdown=max(0.0, float(drawdown(column)[0])),
        trades=trades,
        held=held,
        halted_at=halted,
        days=days,
        returns=returns,
    )


def held(decided: pd.Series, left: pd.Series, at: pd.DatetimeIndex) -> int:
    """
    The number of trading days within which 95 % of the trades end. ``decided``, ``left``: the instants of entry
    decision and exit of each closed trade. ``at``: all instants of the backtest.
    """
    days = (left - decided).dt.total_seconds().to_numpy(np.float64) / 86_400
    return walkforward.longest(np.ceil(days * _session_share(at)).astype(np.int64))


def _days(at: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """An instant at midnight belongs to the day that ends, as in the reports."""
    return (at - pd.Timedelta(1, "us")).floor("D")


def _session_share(at: pd.DatetimeIndex) -> float:
    """Trading days as a share of calendar days."""
    days = _days(at).unique()
    return min(1.0, len(days) / max(1, (days[-1] - days[0]).days + 1))


def a_year(days: Sequence[date]) -> float:
    """The number of such days per year."""
    span = (days[-1] - days[0]).days + 1
    return 365.25 * len(days) / span if len(days) > 1 else 252.0
