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


def bars_since(event: Column) -> Column:
    """Bars since ``event`` was last not 0 (0 at the event itself), NaN before the first; one slice."""
    rows = np.arange(len(event))
    last = np.maximum.accumulate(np.where(event != 0, rows, -1)) if len(event) else rows
    return np.where(last < 0, np.nan, rows - last)
