"""
The shared maths of the pillars, each on long columns of a Panel. TA-Lib where it has the indicator.

Conventions are TA-Lib's: an EMA of n is seeded with the mean of its first n bars, Wilder's smoothing likewise; a value
is NaN until its window is full. ``Panel.each`` says what a gap does.
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
    """High and low; of a bar that has none (a close-only series) its close: all of its range that is known."""
    return np.where(np.isnan(bars.high), bars.close, bars.high), np.where(np.isnan(bars.low), bars.close, bars.low)


def atr(bars: Panel, n: int) -> Column:
    """Average True Range of n bars in price (Wilder 1978); of close-only bars the smoothed absolute change."""
    high, low = extremes(bars)
    return np.asarray(bars.each(talib.ATR, high, low, bars.close, timeperiod=n))


def still(bars: Panel, n: int) -> npt.NDArray[np.bool_]:
    """Where the price has not moved at all for n bars: of a halted market, averages only repeat old moves."""
    high, low = extremes(bars)
    highest, lowest = bars.each(talib.MAX, high, timeperiod=n), bars.each(talib.MIN, low, timeperiod=n)
    return np.asarray(highest == lowest)


def ramp(value: Column, full: Column | float, quiet: npt.NDArray[np.bool_]) -> Column:
    """``value`` over ``full``, cut to [-1, 1]: graded, so that no hair's breadth turns a score; 0 where ``quiet``."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        graded = np.clip(value / full, -1.0, 1.0)
    return np.where(quiet & ~np.isnan(value) & ~np.isnan(full), 0.0, graded)


def total(bars: Panel, values: Column, n: int) -> Column:
    """
    Sum of the last n bars, each added up anew; NaN until there are n, and while a NaN is among them.

    TA-Lib's running sum keeps a residue of what has left the window: 0 would not be 0 after a market has come to rest,
    and a sum would depend on where the panel begins. Sums of 2, 4, 8 ... bars, put together, take log2(n) additions.
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


def deviation(bars: Panel, changes: Column, n: int) -> Column:
    """Root mean square of the last n ``changes``: their standard deviation about zero, drift being small beside it."""
    return np.asarray(np.sqrt(total(bars, changes * changes, n) / n))


def share(part: Column, whole: Column) -> Column:
    """``part`` over ``whole``; NaN where there is no whole."""
    return np.asarray(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))


def before(bars: Panel, values: Column) -> Column:
    """The value one bar earlier."""
    earlier = np.roll(values, 1)
    earlier[bars.bounds[:-1]] = np.nan
    return earlier


def change(bars: Panel, values: Column, n: int = 1) -> Column:
    """By how much ``values`` differ from those n bars earlier."""
    return values - before(bars, values) if n == 1 else np.asarray(bars.each(talib.MOM, values, timeperiod=n))


def grade(value: Column, bad: float, good: float) -> Column:
    """0 at ``bad`` and beyond, 1 at ``good`` and beyond, straight between; either may be the larger one."""
    return np.clip((value - bad) / (good - bad), 0.0, 1.0)


def gate(measures: Sequence[tuple[float, Column]]) -> Column:
    """
    The product of 1 - strength x (1 - measure); one that is unknown does not count, and with none known it is NaN.

    The way in which the composite joins the pillars' gates: a strength of 1 can close it alone, 0 is not asked.
    """
    known = np.logical_or.reduce([~np.isnan(measure) for _, measure in measures])
    factors = [np.where(np.isnan(measure), 1.0, 1 - strength * (1 - measure)) for strength, measure in measures]
    return np.asarray(np.where(known, np.multiply.reduce(factors), np.nan))


def bars_since(event: Column) -> Column:
    """Bars since ``event`` was last not 0 (0 at the event itself), NaN before the first; one slice."""
    rows = np.arange(len(event))
    last = np.maximum.accumulate(np.where(event != 0, rows, -1)) if len(event) else rows
    return np.where(last < 0, np.nan, rows - last)
