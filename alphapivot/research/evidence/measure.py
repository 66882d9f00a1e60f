"""
What a forecast would have earned: daily positions in proportion to it and to 1 / deviation, before and after costs.

- *Scaled*: a forecast over its mean absolute value so far, of all markets, cut at +-2 (Carver's forecasts / 10): only
  the past scales it.
- *Position*: the scaled forecast over the deviation of a day's change, so that each market carries the same risk; held
  from the day's close, so that the next day's change is earned. It follows the forecast only when it is more than a
  tenth of a usual position away (Carver's buffer, Systematic Trading, chapter 11).
- *Vetoes*: while one stands, a position is neither opened nor made larger; it may be reduced and closed.
- *Whole*: the sum over the markets known that day over the root of their number, as if they were independent. No money,
  lots or margins: what is measured is the forecast, not an account.
- *Costs*: each change of position pays half the spread and the commission, each roll pays both twice.
- *Sharpe*: mean over standard deviation x root of 256 days (Sharpe 1994), its error root((1 + S^2 / 2) / n) (Lo 2002).
- *Turns*: changes of position a year over twice the mean position: how often all of it is bought and sold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from alphapivot.research.evidence import costs
from alphapivot.research.evidence.rules import Prices

DAYS = 256
CUT = 2.0
BUFFER = 0.1
LEAST = 250  # days before a forecast is scaled, and of a Sharpe


@dataclass(frozen=True)
class Account:
    """Daily results of the whole in deviations, gross and net; round turns a year; and each market's net results."""

    gross: pd.Series
    net: pd.Series
    turns: float
    markets: pd.DataFrame


def scaled(forecast: pd.DataFrame) -> pd.DataFrame:
    """The forecast in units of its own mean absolute value up to the day before, of all markets, cut at +-2."""
    size, count = forecast.abs().sum(axis=1).cumsum(), forecast.notna().sum(axis=1).cumsum()
    usual = (size / count).where((forecast.notna().any(axis=1)).cumsum() >= LEAST).shift()
    return forecast.div(usual.where(usual > 0), axis=0).clip(-CUT, CUT)


def account(
    forecast: pd.DataFrame, prices: Prices, rolled: pd.DataFrame, vetoed: pd.DataFrame | None = None
) -> Account:
    """
    The results of a forecast (not yet scaled). ``rolled``: True where the front contract is a new one; ``vetoed``: True
    where a veto stands.
    """
    vetoes = prices.close.isna() if vetoed is None else vetoed
    return results(_buffered(scaled(forecast), prices.deviation, vetoes), prices, rolled)


def results(held: pd.DataFrame, prices: Prices, rolled: pd.DataFrame) -> Account:
    """The results of the units ``held`` from each day's close on (NaN: nothing is known yet); ``rolled`` as above."""
    change = prices.moved()
    side = pd.DataFrame({s: prices.side(str(s)) or np.nan for s in held}, index=held.index, dtype=float)
    side = side.fillna(costs.UNKNOWN * prices.deviation)
    traded = held.fillna(0.0).diff().abs()
    gross = held.shift() * change
    net = gross - (traded + 2 * held.abs().fillna(0.0) * rolled) * side.fillna(0.0)
    known = held.shift().notna() & change.notna()
    count = known.sum(axis=1)

    def whole(results: pd.DataFrame) -> pd.Series[float]:
        summed: pd.Series[float] = (results.where(known).sum(axis=1) / np.sqrt(count))[count > 0]
        return summed

    years = known.sum().sum() / DAYS
    risk = held.abs() * prices.deviation
    in_risk, size = (
        (traded * prices.deviation).sum().sum(),
        np.nanmean(risk.where(known).to_numpy()) if years else np.nan,
    )
    return Account(whole(gross), whole(net), float(in_risk / years / size / 2) if years else np.nan, net.where(known))


def _buffered(target: pd.DataFrame, deviation: pd.DataFrame, vetoed: pd.DataFrame) -> pd.DataFrame:
    """Units held: ``target`` over the deviation, followed only beyond a tenth of a usual position, vetoes aside."""
    barred = vetoed.to_numpy(bool)
    wanted, width = (target / deviation).to_numpy(), (BUFFER / deviation).to_numpy()
    held, out = np.full(wanted.shape[1], np.nan), np.empty(wanted.shape)
    for day in range(len(wanted)):
        near = np.clip(held, wanted[day] - width[day], wanted[day] + width[day])
        near = np.where(np.isnan(held), wanted[day], near)
        near = np.where(barred[day], np.clip(near, np.fmin(held, 0.0), np.fmax(held, 0.0)), near)
        # a day without a price holds what was held
        held = np.where(np.isnan(wanted[day]), held, near)
        out[day] = held
    # and a forecast that has ended for a month is none
    gone = target.notna().rolling(20, min_periods=1).sum() == 0
    return pd.DataFrame(out, target.index, target.columns).mask(gone)


def sharpe(results: pd.Series) -> tuple[float, float]:
    """(annual Sharpe ratio, its standard error); NaN with fewer than 250 days."""
    if len(results) < LEAST or results.std() == 0:
        return np.nan, np.nan
    daily = results.mean() / results.std()
    return float(daily * DAYS**0.5), float(np.sqrt((1 + daily**2 / 2) / len(results) * DAYS))


def difference(a: pd.Series, b: pd.Series) -> tuple[float, float]:
    """
    (annual Sharpe ratio of ``a`` less that of ``b``, its standard error) on the days of both; NaN with fewer than 250.

    The error is that of Jobson and Korkie (1981) as Memmel corrected it (Finance Letters, 2003).
    """
    both = pd.concat([a, b], axis=1, join="inner").dropna().to_numpy(float)
    if len(both) < LEAST or (both.std(axis=0) == 0).any():
        return np.nan, np.nan
    one, other = both.mean(axis=0) / both.std(axis=0, ddof=1)
    rho = np.corrcoef(both.T)[0, 1]
    variance = 2 - 2 * rho + (one**2 + other**2 - 2 * one * other * rho**2) / 2
    return float((one - other) * DAYS**0.5), float(np.sqrt(max(variance, 0.0) / len(both) * DAYS))


def decades(results: pd.Series) -> dict[str, float]:
    """Decade -> Sharpe ratio."""
    groups = results.groupby(pd.DatetimeIndex(results.index).year // 10 * 10)
    return {f"{decade}s": sharpe(part)[0] for decade, part in groups}


def correlation(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """Of two forecasts about zero, over all markets and days where both are known."""
    x, y = a.to_numpy().ravel(), b.reindex_like(a).to_numpy().ravel()
    both = np.isfinite(x) & np.isfinite(y)
    size = np.sqrt((x[both] ** 2).sum() * (y[both] ** 2).sum())
    return float((x[both] * y[both]).sum() / size) if size else np.nan
