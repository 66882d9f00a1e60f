"""ATR and volatility at every bar, for the screening engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.data import actions
from alphapivot.data.rolls import adjust
from alphapivot.execution.market import quotes
from pillars.kit.compiled import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def of_bars(
    bars: pd.DataFrame,
    line: Ints,
    rolls: pd.DataFrame,
    events: pd.DataFrame,
    atr: int,
    volatility_bars: int,
    a_year: Ints,
) -> tuple[Floats, Floats]:
    """
    ATR and annual volatility (NaN if ``volatility_bars`` is 0) at each bar, as in ``quotes.quotes``: for futures over
    the adjusted series of front contracts, for spot in the shares of that bar (``events``: splits and dividends).
    """
    order = np.argsort(line, kind="stable")
    ranges, deviations = np.empty(len(bars)), np.empty(len(bars))
    whole = actions.adjust(bars, events, dict.fromkeys(events["symbol"], "all"))
    ranges[order], deviations[order] = _series(
        whole[["high", "low", "close"]].iloc[order], line[order], atr, volatility_bars
    )
    if whole is not bars:
        spot = (bars["market"] == "spot").to_numpy()
        shares = np.where(spot, actions.factors(bars["symbol"], bars["ts"], events, "factor"), 1.0)
        ranges, deviations = ranges / shares, deviations / shares
    rolling = (bars["contract"] != "").to_numpy()
    joined = adjust(bars[rolling], rolls) if rolling.any() and len(rolls) else bars.iloc[:0]
    if len(joined):
        code = pd.factorize(joined["symbol"])[0]
        adjusted = pd.DataFrame({"symbol": joined["symbol"].to_numpy(), "ts": joined["ts"].to_numpy()})
        adjusted["atr"], adjusted["deviation"] = _series(joined, code, atr, volatility_bars)
        unadjusted = bars.loc[rolling, ["symbol", "ts"]].assign(row=np.flatnonzero(rolling)).sort_values("ts")
        near = pd.merge_asof(unadjusted, adjusted.sort_values("ts"), on="ts", by="symbol")
        ranges[near["row"]], deviations[near["row"]] = near["atr"], near["deviation"]
    return ranges, deviations * np.sqrt(a_year)


def _series(bars: pd.DataFrame, code: Ints, atr: int, volatility_bars: int) -> tuple[Floats, Floats]:
    """ATR and deviation of changes by series; ``bars`` sorted by ``code``, then time."""
    high, low, close = (bars[c].to_numpy(np.float64) for c in ("high", "low", "close"))
    whole = ~(np.isnan(high) | np.isnan(low))
    if whole.all():  # most markets: nothing is copied
        bounds = np.append(np.flatnonzero(np.diff(code, prepend=-1)), len(code))
        return (
            compiled(wilder)(high, low, close, bounds, atr, quotes.SMOOTHING * atr),
            compiled(deviation)(close, bounds, volatility_bars),
        )
    rows = np.flatnonzero(whole)
    bounds = np.searchsorted(code[rows], np.append(np.unique(code), code.max(initial=-1) + 1)) if len(code) else rows
    kept, spread = (
        compiled(wilder)(high[rows], low[rows], close[rows], bounds, atr, quotes.SMOOTHING * atr),
        compiled(deviation)(close[rows], bounds, volatility_bars),
    )
    # a bar that lacks a price takes the range of the last complete one
    at = np.cumsum(whole) - 1
    first = np.searchsorted(code, code)  # first row of each bar's series
    before = np.append(0, np.cumsum(whole))[first]
    counted = at + 1 - before
    filled = counted > 0
    safe = np.maximum(at, 0)
    if not len(rows):
        return np.full(len(bars), np.nan), np.full(len(bars), np.nan)
    return np.where(filled, kept[safe], np.nan), np.where(filled, spread[safe], np.nan)


def wilder(high: Any, low: Any, close: Any, bounds: Any, n: int, back: int) -> Any:
    """TA-Lib's ATR at each bar over the last ``back`` + 1 bars, so that a longer history does not change it."""
    atr = np.full(len(close), np.nan)
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
            atr[i] = value
    return atr


def deviation(close: Any, bounds: Any, n: int) -> Any:
    """The standard deviation (n - 1) of the last ``n`` changes at each bar; NaN if there are fewer, or n < 2."""
    deviations = np.full(len(close), np.nan)
    if n < 2:
        return deviations
    for piece in range(len(bounds) - 1):
        for i in range(bounds[piece] + n, bounds[piece + 1]):
            mean, square = (close[i] - close[i - n]) / n, 0.0
            for j in range(i - n + 1, i + 1):
                square += (close[j] - close[j - 1] - mean) ** 2
            deviations[i] = np.sqrt(square / (n - 1))
    return deviations
