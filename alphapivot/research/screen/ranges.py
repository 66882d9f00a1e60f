"""Average true ranges and volatilities of what the screening engine trades, at every bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.data.rolls import adjust
from alphapivot.execution.market import quotes
from pillars.kit.compiled import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def of_bars(
    own: pd.DataFrame, line: Ints, rolls: pd.DataFrame, atr: int, volatility_bars: int, a_year: Ints
) -> tuple[Floats, Floats]:
    """
    ATR (and, if asked for, annual volatility) of what is traded at each bar, as ``quotes.quotes`` has them: of futures
    over the adjusted series of the fronts. Splits and dividends are left out.
    """
    order = np.argsort(line, kind="stable")
    ranges, deviations = np.empty(len(own)), np.empty(len(own))
    ranges[order], deviations[order] = _series(own.iloc[order], line[order], atr, volatility_bars)
    rolling = (own["contract"] != "").to_numpy()
    joined = adjust(own[rolling], rolls) if rolling.any() and len(rolls) else own.iloc[:0]
    if len(joined):
        code = pd.factorize(joined["symbol"])[0]
        found = pd.DataFrame({"symbol": joined["symbol"].to_numpy(), "ts": joined["ts"].to_numpy()})
        found["atr"], found["deviation"] = _series(joined, code, atr, volatility_bars)
        asked = own.loc[rolling, ["symbol", "ts"]].assign(row=np.flatnonzero(rolling)).sort_values("ts")
        near = pd.merge_asof(asked, found.sort_values("ts"), on="ts", by="symbol")
        ranges[near["row"]], deviations[near["row"]] = near["atr"], near["deviation"]
    return ranges, deviations * np.sqrt(a_year)


def _series(bars: pd.DataFrame, code: Ints, atr: int, volatility_bars: int) -> tuple[Floats, Floats]:
    """By series, which stand together in time order: ATR, and deviation of changes."""
    high, low, close = (bars[c].to_numpy(np.float64) for c in ("high", "low", "close"))
    whole = ~(np.isnan(high) | np.isnan(low))
    rows = np.flatnonzero(whole)
    bounds = np.searchsorted(code[rows], np.append(np.unique(code), code.max(initial=-1) + 1)) if len(code) else rows
    kept, spread = (
        compiled(wilder)(high[rows], low[rows], close[rows], bounds, atr, quotes.SMOOTHING * atr),
        compiled(deviation)(close[rows], bounds, volatility_bars),
    )
    # a bar that lacks a price has the range of the last one that was whole
    at = np.cumsum(whole) - 1
    first = np.searchsorted(code, code)  # of its series
    before = np.append(0, np.cumsum(whole))[first]
    counted = at + 1 - before
    known = counted > 0
    safe = np.maximum(at, 0)
    if not len(rows):
        return np.full(len(bars), np.nan), np.full(len(bars), np.nan)
    return np.where(known, kept[safe], np.nan), np.where(known, spread[safe], np.nan)


def wilder(high: Any, low: Any, close: Any, bounds: Any, n: int, back: int) -> Any:
    """TA-Lib's ATR over the last ``back`` + 1 bars up to each, begun anew: a score's age changes no bit of it."""
    found = np.full(len(close), np.nan)
    true = np.empty(len(close))
    for piece in range(len(bounds) - 1):
        a, b = bounds[piece], bounds[piece + 1]
        for i in range(a + 1, b):
            true[i] = max(high[i] - low[i], abs(high[i] - close[i - 1]), abs(low[i] - close[i - 1]))
        for i in range(a + n, b):
            first = max(a, i - back)
            total = 0.0
            for j in range(first + 1, first + n + 1):
                total += true[j]
            value = total / n
            for j in range(first + n + 1, i + 1):
                value = (value * (n - 1) + true[j]) / n
            found[i] = value
    return found


def deviation(close: Any, bounds: Any, n: int) -> Any:
    """The standard deviation (n - 1) of the last ``n`` changes up to each; NaN where there are fewer, or n is 0."""
    found = np.full(len(close), np.nan)
    if n < 2:
        return found
    for piece in range(len(bounds) - 1):
        for i in range(bounds[piece] + n, bounds[piece + 1]):
            mean, square = (close[i] - close[i - n]) / n, 0.0
            for j in range(i - n + 1, i + 1):
                square += (close[j] - close[j - 1] - mean) ** 2
            found[i] = np.sqrt(square / (n - 1))
    return found
