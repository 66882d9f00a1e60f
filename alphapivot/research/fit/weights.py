"""
Weights of forecasts and of instruments, fitted to past results only and shrunk. Pure.

- *Best*: the weights of one sample that are best by mean and variance (Markowitz 1952): the largest Sharpe ratio, none
  negative, summing to one. With few forecasts every set of non-zero weights is tried, so the answer is exact.
- *Diversified*: the weights whose whole has the largest Sharpe ratio where each alone has the same (the most
  diversified portfolio: Choueifaty and Coignard 2008, Toward maximum diversification), none negative, summing to one.
- *Resampled*: their mean over samples drawn with replacement, in blocks of BLOCK days (Michaud 1998, Efficient Asset
  Management; Carver 2015, Systematic Trading, chapter 4).
- *Shrunk*: half way to equal weights, which few fits beat on days to come (DeMiguel, Garlappi and Uppal 2009, Optimal
  versus naive diversification).
- *Walk*: fitted again at the end of each year to all days so far, and in force from the next day on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Estimate = Callable[[Floats], Floats]  # samples x days x names -> samples x names
TWINS = 0.05  # taken off correlations, so that two names of one market share its weight
SWEEPS = 200  # of coordinate descent: weights stand still to 1e-8 long before
LARGEST = Decimal("2.5")  # multiplier (Carver 2015): in a crisis all markets move together
BLOCK = 60  # days of a drawn block: slow forecasts earn and lose in spells
DRAWS = 200
SHRINK = 0.5
LEAST = 500  # days that a fit takes
MOST = 12  # forecasts: their subsets are tried one by one


@dataclass(frozen=True)
class Fit:
    """``weights``: mean over the samples, summing to one; ``low`` and ``high``: of nine samples in ten."""

    weights: pd.Series
    low: pd.Series
    high: pd.Series


def best(results: Floats) -> Floats:
    """
    The best weights of each sample: S x T x N daily results -> S x N. Equal ones where no forecast earned anything.
    """
    count = results.shape[2]
    if count > MOST:
        raise ValueError(f"{count} forecasts; expected at most {MOST}")
    mean = results.mean(axis=1)
    away = results - mean[:, None, :]
    spread = np.einsum("sti,stj->sij", away, away) / results.shape[1]
    spread += 1e-9 * np.eye(count) * np.trace(spread, axis1=1, axis2=2)[:, None, None] / count  # twins have an inverse
    chosen, highest = np.full(mean.shape, 1.0 / count), np.zeros(len(mean))
    for subset in chain.from_iterable(combinations(range(count), size) for size in range(1, count + 1)):
        at = np.array(subset)
        some = np.linalg.solve(spread[:, at[:, None], at], mean[:, at, None])[:, :, 0]
        earned = (some * mean[:, at]).sum(axis=1)  # the squared Sharpe ratio
        better = (some >= 0).all(axis=1) & (earned > highest)
        highest = np.where(better, earned, highest)
        full = np.zeros_like(mean)
        full[:, at] = some
        total = full.sum(axis=1, keepdims=True)
        chosen = np.where(better[:, None], full / np.where(total > 0, total, 1.0), chosen)
    return chosen


def diversified(results: Floats) -> Floats:
    """
    The most diversified weights of results in deviations: S x T x N -> S x N. What has no results in a sample gets
    none. With correlations C, brought a little towards none, they are those of the smallest w'Cw / 2 - sum(w), found by
    cyclic coordinate descent.
    """
    away = results - results.mean(axis=1, keepdims=True)
    size = np.sqrt((away**2).sum(axis=1))
    there = size > 0
    away = away / np.where(there, size, 1.0)[:, None, :]
    related = (1 - TWINS) * np.einsum("sti,stj->sij", away, away)  # off the diagonal, which is 1
    weights = there / np.maximum(there.sum(axis=1, keepdims=True), 1)
    for _ in range(SWEEPS):
        before = weights.copy()
        for n in range(results.shape[2]):
            others = (related[:, n, :] * weights).sum(axis=1) - related[:, n, n] * weights[:, n]
            weights[:, n] = np.where(there[:, n], np.maximum(1.0 - others, 0.0), 0.0)
        if np.abs(weights - before).max(initial=0.0) < 1e-8:
            break
    total = weights.sum(axis=1, keepdims=True)
    made: Floats = weights / np.where(total > 0, total, 1.0)
    return made


def multiplier(weights: pd.Series, results: pd.DataFrame) -> Decimal:
    """
    The diversification multiplier: 1 / sqrt(w'Cw), C the correlations of ``results`` with negative ones as 0, at most
    2.5 (Carver 2015, Systematic Trading, chapter 11).
    """
    related = results[list(weights.index)].corr().clip(lower=0.0).fillna(0.0).to_numpy(np.float64, copy=True)
    np.fill_diagonal(related, 1.0)
    share = weights.to_numpy(np.float64)
    return min(Decimal(repr(round(float(share @ related @ share) ** -0.5, 2))), LARGEST)


def resampled(results: pd.DataFrame, estimate: Estimate = best, seed: int = 0, draws: int = DRAWS) -> Fit:
    """The shrunk weights of ``results`` (days x names); a day on which one has none counts as 0 for it."""
    values = results.fillna(0.0).to_numpy(np.float64)
    found = (1 - SHRINK) * estimate(values[_drawn(len(values), seed, draws)]) + SHRINK / values.shape[1]
    low, high = np.quantile(found, [0.05, 0.95], axis=0)
    return Fit(*(pd.Series(part, results.columns) for part in (found.mean(axis=0), low, high)))


def walk(results: pd.DataFrame, estimate: Estimate = best, seed: int = 0, draws: int = DRAWS) -> pd.DataFrame:
    """
    One row for each fit: the day of its last result -> weights. Those of a row are in force from the next day on.
    """
    ends = results.groupby(pd.DatetimeIndex(results.index).year).tail(1).index
    fits = {
        end: resampled(results.loc[:end], estimate, seed, draws).weights
        for end in ends
        if len(results.loc[:end]) >= LEAST and end < results.index[-1]
    }
    return pd.DataFrame(fits, index=results.columns).T


def in_force(weights: pd.DataFrame, days: pd.Index) -> pd.DataFrame:
    """
    The weights on each of ``days``: those of the newest fit up to that day, so that a position of its close has them
    and earns from the next day on; missing before the first.
    """
    return weights.reindex(weights.index.union(days)).ffill().reindex(days)


def apart(a: pd.Series, b: pd.Series, seed: int = 0, draws: int = 1000) -> tuple[float, float, float]:
    """
    The annual Sharpe ratio of ``a`` less that of ``b`` (daily results of the same days), and between what it lies in
    nine of ten samples of blocks drawn from both at once (Ledoit and Wolf 2008, Robust performance hypothesis testing).
    """
    both = pd.concat([a, b], axis=1).dropna().to_numpy(np.float64)
    drawn = _sharpe(both[_drawn(len(both), seed, draws)])
    low, high = np.quantile(drawn[:, 0] - drawn[:, 1], [0.05, 0.95])
    whole = _sharpe(both[None])[0]
    return float(whole[0] - whole[1]), float(low), float(high)


def _drawn(days: int, seed: int, draws: int) -> npt.NDArray[np.int64]:
    """draws x days: rows of samples made of whole blocks."""
    starts = np.random.default_rng(seed).integers(0, max(days - BLOCK, 0) + 1, size=(draws, -(-days // BLOCK)))
    return (starts[:, :, None] + np.arange(min(BLOCK, days))).reshape(draws, -1)[:, :days]


def _sharpe(results: Floats) -> Floats:
    """S x T x 2 -> S x 2, of a year of 256 days."""
    deviation = results.std(axis=1, ddof=1)
    ratio: Floats = results.mean(axis=1) / np.where(deviation > 0, deviation, 1.0) * 16
    return ratio
