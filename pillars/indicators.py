"""
Indicators shared by the pillars, on long columns of a Panel; TA-Lib's where it has them.

Conventions are TA-Lib's: an EMA of n is seeded with the mean of its first n bars, Wilder's smoothing likewise; a value
is NaN until its window is full. For gaps see ``Panel.each``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import talib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pillars.base import Column, Panel


def extremes(bars: Panel) -> tuple[Column, Column]:
    """High and low; the close for bars without them (a close-only series)."""
    return np.where(np.isnan(bars.high), bars.close, bars.high), np.where(np.isnan(bars.low), bars.close, bars.low)


def atr(bars: Panel, n: int) -> Column:
    """Average True Range of n bars in price (Wilder 1978); for close-only bars the smoothed absolute change."""
    high, low = extremes(bars)
    return np.asarray(bars.each(talib.ATR, high, low, bars.close, timeperiod=n))


def still(bars: Panel, n: int) -> npt.NDArray[np.bool_]:
    """True where the price has not moved for n bars: in a halted market averages only repeat old moves."""
    high, low = extremes(bars)
    highest, lowest = bars.each(talib.MAX, high, timeperiod=n), bars.each(talib.MIN, low, timeperiod=n)
    return np.asarray(highest == lowest)


def ramp(value: Column, full: Column | float, quiet: npt.NDArray[np.bool_]) -> Column:
    """``value`` / ``full``, clipped to [-1, 1]: graded, so that tiny changes do not flip a score; 0 where ``quiet``."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        graded = np.clip(value / full, -1.0, 1.0)
    return np.where(quiet & ~np.isnan(value) & ~np.isnan(full), 0.0, graded)


def total(bars: Panel, values: Column, n: int) -> Column:
    """
    Sum of the last n bars, each computed afresh; NaN until there are n, and while one of them is NaN.

    TA-Lib's running sum keeps a rounding residue of values that left the window: 0 would not be 0 after a market stops
    moving, and a sum would depend on where the panel begins. Adding sums of 2, 4, 8 ... bars takes log2(n) additions.
    """
    if len(values) < n:
        return np.full(len(values), np.nan)
    doubled, width, covered = values, 1, 0
    out = np.zeros(len(values))
    while True:
        if n & width:
            out[covered:] += doubled[: len(values) - covered]
            covered += width
        if 2 * width > n:
            break
        doubled = doubled.copy()
        doubled[width:] += doubled[:-width].copy()
        width *= 2
    out[bars.place < n - 1] = np.nan
    return out


def mean(bars: Panel, values: Column, n: int) -> Column:
    """Mean of the last n bars, see ``total``."""
    return total(bars, values, n) / n


def crossover(bars: Panel, fast: int, unit: Column) -> Column:
    """
    The mean of ``fast`` closes minus that of 4 x ``fast``, in ``unit`` x sqrt(fast), so that all speeds have one scale:
    0.7 in the mean on a random walk whose changes have a deviation of ``unit``.

    Carver's EWMAC (Systematic Trading, 2015, appendix B) with simple means: a simple mean of n bars is as old as an
    exponential one of span n, and forgets what is older, so that a score needs hundreds of bars and not thousands.
    """
    return ratio(mean(bars, bars.close, fast) - mean(bars, bars.close, 4 * fast), unit * np.sqrt(float(fast)))


def ratio(value: Column, unit: Column) -> Column:
    """``value`` / ``unit``; 0 where ``unit`` is 0: a market that does not move."""
    out = np.where(np.isnan(value), np.nan, 0.0)
    return np.asarray(np.divide(value, unit, out=out, where=unit != 0))


def deviation(bars: Panel, changes: Column, n: int) -> Column:
    """Root mean square of the last n ``changes``: their standard deviation about zero, since drift is small."""
    return np.asarray(np.sqrt(total(bars, changes * changes, n) / n))


def share(part: Column, whole: Column) -> Column:
    """``part`` / ``whole``; NaN where ``whole`` is not above 0."""
    return np.asarray(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))


def before(bars: Panel, values: Column) -> Column:
    """The value one bar earlier."""
    earlier = np.roll(values, 1)
    earlier[bars.bounds[:-1]] = np.nan
    return earlier


def lagged(bars: Panel, values: Column, n: int) -> Column:
    """The value n bars earlier; missing for n bars after a gap in the values."""
    return np.asarray(bars.each(_shifted, values, n=n))


def _shifted(values: Column, n: int) -> Column:
    return np.concatenate([np.full(min(n, len(values)), np.nan), values[: max(len(values) - n, 0)]])


def change(bars: Panel, values: Column, n: int = 1) -> Column:
    """The difference of ``values`` from those n bars earlier."""
    return values - before(bars, values) if n == 1 else np.asarray(bars.each(talib.MOM, values, timeperiod=n))


def grade(value: Column, bad: float, good: float) -> Column:
    """0 at ``bad`` and beyond, 1 at ``good`` and beyond, linear between; either may be the larger one."""
    return np.clip((value - bad) / (good - bad), 0.0, 1.0)


def gate(measures: Sequence[tuple[float, Column]]) -> Column:
    """
    The product of 1 - strength x (1 - measure); unknown measures do not count, and NaN if all are unknown.

    The composite combines the pillars' gates the same way: a strength of 1 can close the gate alone, 0 has no effect.
    """
    known = np.logical_or.reduce([~np.isnan(measure) for _, measure in measures])
    factors = [np.where(np.isnan(measure), 1.0, 1 - strength * (1 - measure)) for strength, measure in measures]
    return np.asarray(np.where(known, np.multiply.reduce(factors), np.nan))


def bars_since(event: Column) -> Column:
    """Bars since ``event`` was last non-zero (0 at the event itself), NaN before the first; for one slice."""
    rows = np.arange(len(event))
    last = np.maximum.accumulate(np.where(event != 0, rows, -1)) if len(event) else rows
    return np.where(last < 0, np.nan, rows - last)
