"""
Performance figures from equity: one definition of each for backtests, reports, searches and the tables of ``api``.

Returns are those between the ends of a book's days, from its first mark on; drawdowns are measured at every mark.
Arrays may hold one book or several (periods by books); a figure that is unknown is NaN. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
TAIL = 0.05  # of value at risk and expected shortfall
FEWEST = 20  # fewer returns have no tail of that size
FLAT = 1e-15  # a smaller deviation is rounding
YEAR = 365.25  # days


def daily(marks: pd.DataFrame, flows: Iterable[tuple[Any, Decimal]] = ()) -> pd.DataFrame:
    """
    One row a day (a mark at midnight belongs to the day that ends): equity, gross, net and open_trades of its last
    mark, flow (deposits), ret, growth, drawdown (0 or negative) at that mark, ``deepest`` of all its marks, and
    ``high``: True if one of them reached the high so far.

    ``marks``: as_of, equity and maybe gross, net, open_trades, one row per as_of. ``flows``: (instant, amount); those
    up to the first mark are part of it. Returns compound from mark to mark: (equity - deposits since) / equity before
    - 1. A day without equity before has no return, nor has the first one if it holds only the first mark.
    """
    ordered = marks.sort_values("as_of", ignore_index=True)
    ends = pd.DatetimeIndex(ordered.pop("as_of"))
    for name in ordered.columns.intersection(["equity", "gross", "net", "open_trades"]):
        ordered[name] = pd.to_numeric(ordered[name].astype(object).where(ordered[name].notna(), np.nan)).astype(float)
    deposits = np.zeros(len(ordered))
    for at, amount in flows:
        place = int(ends.searchsorted(pd.Timestamp(at)))
        if 0 < place < len(ordered):
            deposits[place] += float(amount)
    days = Days.of(ends, ordered["equity"].to_numpy(), deposits)
    table = ordered.iloc[days.last].set_index(days.index)
    return table.assign(
        flow=np.add.reduceat(deposits, days.first) if len(deposits) else deposits,
        ret=days.ret, growth=days.growth, drawdown=days.drawdown, deepest=days.deepest, high=days.high,
    )  # fmt: skip


@dataclass(frozen=True)
class Days:
    """The days of marks: the places of each one's ``first`` and ``last`` mark, and the columns of ``daily``."""

    index: pd.DatetimeIndex
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    ret: Floats
    growth: Floats
    drawdown: Floats
    deepest: Floats
    high: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, ends: pd.DatetimeIndex, equity: Floats, deposits: Floats | float = 0.0) -> Days:
        """``ends``: the instants of marks, ascending."""
        index = day_of(ends)
        first = np.flatnonzero(np.append(True, index[1:] != index[:-1])[: len(index)])
        last = np.append(first[1:], len(index))[: len(first)] - 1
        before = np.append(np.nan, equity[:-1])[: len(equity)]
        with np.errstate(divide="ignore", invalid="ignore"):
            ret = np.maximum((equity - deposits) / np.where(before > 0, before, np.nan) - 1.0, -1.0)
        known = ~np.isnan(ret)
        grown = 1.0 + np.where(known, ret, 0.0)
        growth = np.cumprod(grown).astype(np.float64)
        drawdown = growth / np.maximum.accumulate(growth) - 1.0
        if not len(first):
            return cls(index, first, last, growth, growth, growth, growth, known)
        returned = np.where(np.logical_or.reduceat(known, first), np.multiply.reduceat(grown, first) - 1.0, np.nan)
        return cls(
            index[first].rename("day"),
            first,
            last,
            returned,
            growth[last],
            drawdown[last],
            np.minimum.reduceat(drawdown, first),
            np.maximum.reduceat(drawdown, first) >= 0,
        )


def day_of(ends: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """The UTC day of each instant, naive; midnight ends the day before."""
    instants = ends.tz_convert("UTC").tz_localize(None).to_numpy() - np.timedelta64(1, "us")
    return pd.DatetimeIndex(instants.astype("datetime64[D]").astype("datetime64[us]"))


def a_year(days: pd.DatetimeIndex, could: pd.DatetimeIndex | None = None) -> float:
    """
    The number of periods a year, from how far apart ``days`` are. NaN if unknown.

    A record shorter than a year is measured in the days on which it ``could`` have had a mark, over a year or more:
    five days from Monday to Friday are 5 of some 252, not of 365.
    """
    span = (days[-1] - days[0]).days if len(days) else 0
    if could is not None and len(could) > 1 and span < YEAR:
        rate, within = a_year(could), int(((could > days[0]) & (could <= days[-1])).sum()) if len(days) else 0
        return rate * (len(days) - 1) / within if within else rate
    return YEAR * (len(days) - 1) / span if span else float("nan")


def period(year: float) -> str:
    """The name of a period of which there are ``year`` a year: day, week, month or period."""
    names = {"day": (200, 370), "week": (50, 54), "month": (11.5, 12.5)}
    return next((name for name, (low, high) in names.items() if low <= year <= high), "period")


def total(returns: Floats) -> Any:
    """Returns compounded."""
    return np.prod(1.0 + np.maximum(returns, -1.0), axis=0) - 1.0


def cagr(returns: Floats, year: float) -> Any:
    """The compound annual growth rate: (1 + total) ^ (year / periods) - 1."""
    return (1.0 + total(returns)) ** (year / max(len(returns), 1)) - 1.0


def volatility(returns: Floats, year: float) -> Any:
    """The standard deviation (n - 1), annualised; NaN with fewer than two returns."""
    return _deviation(returns) * np.sqrt(year)


def sharpe(returns: Floats, year: float = 1.0) -> Any:
    """Mean over standard deviation (n - 1), annualised (Sharpe 1994); NaN where returns do not vary."""
    return _ratio(returns.mean(axis=0) if len(returns) else returns.sum(axis=0), _deviation(returns), year)


def sharpe_error(returns: Floats, year: float) -> Any:
    """The standard error of ``sharpe``: root((1 + S^2 / 2) / n) for S per period, annualised (Lo 2002)."""
    return np.sqrt((1.0 + sharpe(returns) ** 2 / 2.0) / max(len(returns), 1) * year)


def sortino(returns: Floats, year: float) -> Any:
    """Mean over downside deviation, root(mean(min(r, 0)^2)), annualised (Sortino and Price 1994)."""
    down = np.sqrt((np.minimum(returns, 0.0) ** 2).mean(axis=0))
    return _ratio(returns.mean(axis=0), down, year)


def max_drawdown(returns: Floats) -> Any:
    """The deepest fall of the compounded returns from their high so far, 0 or negative."""
    growth = np.cumprod(1.0 + np.maximum(returns, -1.0), axis=0)
    worth = np.concatenate([np.ones((1, *returns.shape[1:])), growth])
    return (worth / np.maximum.accumulate(worth, axis=0) - 1.0).min(axis=0)


def calmar(returns: Floats, year: float) -> Any:
    """CAGR over the max drawdown of these returns (Young 1991); NaN without any."""
    return _ratio(cagr(returns, year), -max_drawdown(returns), 1.0)


def value_at_risk(returns: Floats) -> float:
    """
    The return that 5 % of returns fall below: their historical quantile, interpolated (Jorion, Value at Risk, 2006;
    type 7 of Hyndman and Fan 1996). NaN with fewer than 20.
    """
    return float(np.quantile(returns, TAIL)) if len(returns) >= FEWEST else float("nan")


def expected_shortfall(returns: Floats) -> float:
    """The mean of the returns up to the value at risk (Acerbi and Tasche 2002). NaN with fewer than 20."""
    worst = np.sort(returns)[: int((len(returns) - 1) * TAIL) + 1]
    return float(worst.mean()) if len(returns) >= FEWEST else float("nan")


def longest_drawdown(days: pd.DataFrame) -> int:
    """Calendar days of the longest drawdown of ``daily``, from a high until it is reached again or the end; else 0."""
    stamps = pd.Series(pd.DatetimeIndex(days.index), index=days.index)
    since = stamps - stamps.where(days["high"]).ffill()
    until = (stamps - stamps.where(days["high"]).ffill().shift()).where(days["high"] & (days["drawdown"].shift() < 0))
    return int(max(since.max(), until.max() if until.notna().any() else pd.Timedelta(0)).days)


def monthly(days: pd.DataFrame) -> pd.DataFrame:
    """Returns by year (rows) and month (columns 1 to 12) of ``daily``; NaN for months without a return."""
    returns = days["ret"].dropna()
    stamps = pd.DatetimeIndex(returns.index)
    table = (1.0 + returns).groupby([stamps.year, stamps.month]).prod() - 1.0
    wide = table.unstack()  # noqa: PD010 - a Series, which has no pivot
    return wide.reindex(columns=range(1, 13)).rename_axis(index="year", columns="month")


def rolling_sharpe(returns: pd.Series, window: int, year: float) -> pd.Series:
    """The Sharpe ratio of the last ``window`` returns; NaN before that, and where returns do not vary."""
    rolled = returns.rolling(window)
    spread = rolled.std()
    ratio: pd.Series = rolled.mean() / spread.where(spread > 1e-12)  # rolling sums leave more rounding than FLAT
    return ratio * float(np.sqrt(year))


def _deviation(returns: Floats) -> Any:
    return returns.std(axis=0, ddof=1) if len(returns) > 1 else np.full(returns.shape[1:], np.nan)


def _ratio(mean: Any, spread: Any, year: float) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(spread) > FLAT, mean / spread * np.sqrt(year), np.nan)[()]
