"""Objectives of daily returns, and trials from their equity curves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot import figures
from alphapivot.calendar import bar_ends
from alphapivot.research.tune import walkforward
from alphapivot.research.tune.store import Trial

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Objective = Literal["sharpe", "sortino", "calmar", "growth"]
OBJECTIVES: dict[Objective, str] = {
    "sharpe": "mean over standard deviation of daily returns, annualised",
    "sortino": "mean over downside deviation of daily returns, annualised",
    "calmar": "annual growth over the largest drawdown at the days' ends",
    "growth": "compound annual growth",
}
BY_NAME: dict[Objective, Callable[[Floats, float], Any]] = {
    "sharpe": figures.sharpe,
    "sortino": figures.sortino,
    "calmar": figures.calmar,
    "growth": figures.cagr,
}


@dataclass(frozen=True)
class Judgement:
    """How a search is judged: the objective and the walk-forward. ``embargo`` in days."""

    objective: Objective = "sharpe"
    kind: walkforward.Kind = "anchored"
    folds: int = 5
    embargo: int = 5


def objective(returns: Floats, name: Objective, a_year: float) -> Floats:
    """The objective ``name`` of each column of daily returns (days by trials); NaN where returns do not vary."""
    return np.where(returns.std(axis=0) > figures.FLAT, BY_NAME[name](returns, a_year), np.nan)


def summed(
    number: int,
    values: Mapping[str, str],
    config_hash: str,
    at: pd.DatetimeIndex,
    equity: Floats,
    *,
    trades: int,
    held: int = 0,
    halted: datetime | None = None,
    could: pd.DatetimeIndex | None = None,
) -> Trial:
    """
    A trial from its equity after each instant, from the first on: nothing can have filled by then. Its days are those
    that ``figures.daily`` gives a return; without any, one of 0. ``could``: see ``figures.a_year``.
    """
    days = figures.Days.of(at, equity)
    begin = 1 if np.isnan(days.ret[0]) and len(days.ret) > 1 else 0
    returns = np.nan_to_num(days.ret[begin:])
    year = figures.a_year(days.index, could)
    return Trial(
        number=number,
        config=values,
        config_hash=config_hash,
        sharpe=float(objective(returns[:, None], "sharpe", year)[0]),
        growth=float(figures.cagr(returns, year)),
        drawdown=abs(float(days.deepest.min())),
        trades=trades,
        held=held,
        halted_at=halted,
        days=days.index[begin:].date.tolist(),
        returns=returns,
    )


def could(settings: Settings, until: datetime) -> pd.DatetimeIndex:
    """The days of a year on which a book of ``settings`` could have a mark: ``figures.a_year`` of a short record."""
    hours = (instrument.trading_hours for instrument in settings.instruments.values())
    return bar_ends.days(hours, settings.timeframes.base, until)


def most_days(settings: Settings, since: datetime, until: datetime) -> int:
    """How many days a trial over (since, until] can have, at most."""
    hours = {instrument.trading_hours for instrument in settings.instruments.values()}
    low, high, instant = bar_ends.naive(since), bar_ends.naive(until), np.timedelta64(1, "us")
    every = [bar_ends.ends_between(calendar, "1d", low, high) - instant for calendar in hours]
    return len(np.unique(np.concatenate(every).astype("datetime64[D]"))) + 1


def held(decided: Ints, left: Ints, at: pd.DatetimeIndex) -> int:
    """
    The number of trading days within which 95 % of the trades end. ``decided``, ``left``: the instants of entry
    decision and exit of each closed trade, in microseconds. ``at``: all instants of the backtest.
    """
    days = (left - decided) / 86_400e6
    return walkforward.longest(np.ceil(days * _session_share(at)).astype(np.int64))


def _session_share(at: pd.DatetimeIndex) -> float:
    """Trading days as a share of calendar days."""
    days = figures.day_of(at).unique()
    return min(1.0, len(days) / max(1, (days[-1] - days[0]).days + 1))
