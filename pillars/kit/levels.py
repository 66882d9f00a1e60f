"""
Price levels for structure and risk: confirmed swing points, nearest levels, breakouts, the volume profile.

Loops over one symbol's bars, compiled by numba at their first call (and cached on disk); each value uses only bars up
to its own. Memory is limited to a given number of bars, so that a window of them gives the same as the whole history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pillars.kit.compiled import compiled

if TYPE_CHECKING:
    from pillars.base import Column

TIE = 1e-9  # share of all volume: bins that differ by less are equal, so that rounding decides nothing


def swings(high: Column, low: Column, close: Column, span: int, memory: int) -> tuple[Column, ...]:
    """
    (last high, previous high, last low, previous low, resistance, support) as known at each bar.

    A swing high is a high above the ``span`` highs before it and not below the ``span`` after it (Williams' fractal);
    it is known only when those bars are complete, and forgotten once it is more than ``memory`` bars old. Resistance
    is the lowest remembered swing point, high or low, above the close, and support the highest below it.
    """
    return compiled(_swings)(high, low, close, span, memory)  # type: ignore[no-any-return]


def _swings(  # noqa: C901 - one pass, so that numba compiles one loop
    high: Column, low: Column, close: Column, span: int, memory: int
) -> tuple[Column, ...]:
    count = len(close)
    known = np.full((6, count), np.nan)
    place, level, top = np.empty(2 * count, np.int64), np.empty(2 * count), np.empty(2 * count, np.bool_)
    begin = end = 0  # remembered swing points: place[begin:end], oldest first
    for i in range(count):
        j = i - span
        if j >= span:
            is_top = is_bottom = True
            for k in range(1, span + 1):
                is_top &= high[j] > high[j - k] and high[j] >= high[j + k]
                is_bottom &= low[j] < low[j - k] and low[j] <= low[j + k]
            if is_top:
                place[end], level[end], top[end] = j, high[j], True
                end += 1
            if is_bottom:
                place[end], level[end], top[end] = j, low[j], False
                end += 1
        while begin < end and place[begin] < i - memory:
            begin += 1
        for k in range(end - 1, begin - 1, -1):
            row = 0 if top[k] else 2
            if np.isnan(known[row, i]):
                known[row, i] = level[k]
            elif np.isnan(known[row + 1, i]):
                known[row + 1, i] = level[k]
            if level[k] > close[i] and not level[k] >= known[4, i]:
                known[4, i] = level[k]
            if level[k] < close[i] and not level[k] <= known[5, i]:
                known[5, i] = level[k]
    return known[0], known[1], known[2], known[3], known[4], known[5]


def breakouts(close: Column, top: Column, bottom: Column, hold: int, fail: int) -> tuple[Column, Column]:
    """
    (direction, age) of the last breakout at each bar: 1 up, -1 down, 0 none within ``hold`` bars.

    A breakout is a close beyond the swing high (or low) known one bar before, where the previous close was not beyond
    it. A close back behind the broken level within ``fail`` bars makes it a failed breakout: its direction reverses and
    its age restarts; a later one ends it.
    """
    return compiled(_breakouts)(close, top, bottom, hold, fail)  # type: ignore[no-any-return]


def _breakouts(close: Column, top: Column, bottom: Column, hold: int, fail: int) -> tuple[Column, Column]:
    count = len(close)
    direction, ages = np.zeros(count), np.zeros(count)
    way, age, level, failed = 0, 0, 0.0, False
    for i in range(1, count):
        age += 1
        up = close[i] > top[i - 1] >= close[i - 1]
        down = close[i] < bottom[i - 1] <= close[i - 1]
        if up != down:
            way, age, failed = (1 if up else -1), 0, False
            level = top[i - 1] if up else bottom[i - 1]
        elif way != 0 and not failed and way * (close[i] - level) < 0:
            failed = True
            way = -way if age <= fail else 0
            age = 0
        if age >= hold:
            way = 0
        direction[i], ages[i] = way, age
    return direction, ages


def profile(
    high: Column, low: Column, volume: Column, wanted: Column, window: int, bins: int, share: float
) -> tuple[Column, Column, Column]:
    """
    (point of control, lower, upper end of the value area) of the last ``window`` bars, this one included.

    The range of those bars is split into ``bins``; each bar's volume is spread evenly from its low to its high. The
    point of control is the middle of the bin with most volume (if equal, the one nearest to the middle of the range).
    The value area grows from it by the fuller of its two neighbours (both if equal) until it holds ``share`` of the
    volume (Steidlmayer's Market Profile, CBOT 1984, of volume instead of time). NaN without volume, and where
    ``wanted`` is 0.
    """
    return compiled(_profile)(high, low, volume, wanted, window, bins, share, TIE)  # type: ignore[no-any-return]


def _profile(  # noqa: C901, PLR0912 - one pass, so that numba compiles one loop
    high: Column, low: Column, volume: Column, wanted: Column, window: int, bins: int, share: float, tie: float
) -> tuple[Column, Column, Column]:
    count = len(high)
    poc, lower, upper = np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan)
    held, steps = np.empty(bins), np.empty(bins + 1)
    density = np.empty(count)  # volume for each unit of price
    for k in range(count):
        density[k] = volume[k] / (high[k] - low[k]) if high[k] > low[k] else 0.0
    for i in range(window - 1, count):
        if wanted[i] == 0:
            continue
        bottom, top, total = low[i], high[i], 0.0
        for k in range(i - window + 1, i + 1):
            bottom = min(bottom, low[k])
            top = max(top, high[k])
            total += volume[k]
        width = (top - bottom) / bins
        if total <= 0:
            continue
        if width <= 0:
            poc[i] = lower[i] = upper[i] = bottom
            continue
        per = bins / (top - bottom)
        held[:] = 0.0
        steps[:] = 0.0
        for k in range(i - window + 1, i + 1):
            # from the lowest price, in bins
            begin, end = (low[k] - bottom) * per, (high[k] - bottom) * per
            first, last = min(int(begin), bins - 1), min(int(end), bins - 1)
            if first == last:
                held[first] += volume[k]
            else:
                full = density[k] * width
                held[first] += full * (first + 1 - begin)
                held[last] += full * (end - last)
                steps[first + 1] += full  # in every bin from here
                steps[last] -= full  # to here
        running = 0.0
        for b in range(bins):
            running += steps[b]
            held[b] += running
        near, best = tie * total, 0
        for b in range(1, bins):
            if held[b] > held[best] + near or (
                held[b] >= held[best] - near and abs(2 * b + 1 - bins) < abs(2 * best + 1 - bins)
            ):
                best = b
        first = last = best
        inside, enough = held[best], share * total - near
        while inside < enough and (first > 0 or last < bins - 1):
            below = held[first - 1] if first > 0 else -total
            above = held[last + 1] if last < bins - 1 else -total
            if below >= above - near and first > 0:
                first -= 1
                inside += below
            if above >= below - near and last < bins - 1:
                last += 1
                inside += above
        poc[i] = bottom + (best + 0.5) * width
        lower[i], upper[i] = bottom + first * width, bottom + (last + 1) * width
    return poc, lower, upper
