"""
What chance may have made of a result: days resampled, trades reshuffled, entries shifted in time. Pure, and always the
same for the same book.

Days are drawn in blocks, as a good or bad day is seldom alone: the stationary bootstrap (Politis and Romano 1994), with
blocks of n^(1/3) days on average. Reshuffled trades end with the same sum, and show what their order did to the fall.
Shifted entries are as many, as long and as much together as the book's: a permutation test of their timing (Aronson
2006).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
PATHS, AT_ONCE = 2_000, 100
FEWEST_DAYS, FEWEST_TRADES = 60, 10
LOW, HIGH = 0.05, 0.95


def days(returns: Floats) -> dict[str, float]:
    """
    Total returns that 5 % and 95 % of the resampled histories stay below, their median max drawdown, and the one that
    5 % exceed. Empty with fewer than FEWEST_DAYS returns.
    """
    if len(returns) < FEWEST_DAYS:
        return {}
    rng = np.random.default_rng(len(returns))
    total, fall = np.empty(PATHS), np.empty(PATHS)
    for begin in range(0, PATHS, AT_ONCE):
        growth: Floats = np.cumprod(1.0 + returns[drawn(len(returns), AT_ONCE, rng)], axis=1).astype(np.float64)
        total[begin : begin + AT_ONCE] = growth[:, -1] - 1.0
        fall[begin : begin + AT_ONCE] = deepest(growth, 1.0)
    low, high = np.quantile(total, (LOW, HIGH))
    worst, usual = np.quantile(fall, (LOW, 0.5))
    return {
        "resampled_low": float(low),
        "resampled_high": float(high),
        "resampled_drawdown": float(usual),
        "resampled_deepest": float(worst),
    }


def trades(results: Sequence[float], equity: float) -> dict[str, float]:
    """
    The median max drawdown of the trades' ``results`` in other orders, from ``equity`` on, and the one that 5 % exceed.
    Empty with fewer than FEWEST_TRADES trades.
    """
    if len(results) < FEWEST_TRADES or equity <= 0:
        return {}
    rng = np.random.default_rng(len(results))
    fall = np.empty(PATHS)
    for begin in range(0, PATHS, AT_ONCE):
        orders = rng.permuted(np.tile(np.asarray(results, float), (AT_ONCE, 1)), axis=1)
        fall[begin : begin + AT_ONCE] = deepest(equity + np.cumsum(orders, axis=1), equity)
    worst, usual = np.quantile(fall, (LOW, 0.5))
    return {"reshuffled_drawdown": float(usual), "reshuffled_deepest": float(worst)}


def shifted(trades: pd.DataFrame, closes: pd.DataFrame) -> float | None:
    """
    The share of all shifts in time at which the trades' mean move is at least what it was, itself included (Phipson and
    Smyth 2010). A move: the change of the close over the trade, in its direction, as a share of the price.

    ``trades``: symbol, side, entry_at, until. ``closes``: symbol, ts, close (adjusted), offset (adjusted - raw). None
    with fewer than FEWEST_TRADES trades in known prices.
    """
    known = trades[trades["symbol"].isin(closes["symbol"].unique())]
    if len(known) < FEWEST_TRADES:
        return None
    raw = closes.assign(paid=closes["close"].astype(float) - closes["offset"].astype(float))
    wide = raw.pivot_table(index="ts", columns="symbol", values=["close", "paid"], aggfunc="last").ffill()
    begins, bars = wide.index.searchsorted(known["entry_at"]) - 1, len(wide)  # the last close before the entry's bar
    ends = np.minimum(wide.index.searchsorted(known["until"]), bars - 1)
    total, counted = np.zeros(bars), np.zeros(bars, np.int64)
    for symbol, side, begin, end in zip(known["symbol"], known["side"], begins, ends, strict=True):
        if not 0 <= begin < end:
            continue
        close, paid = (wide[name, symbol].to_numpy(np.float64) for name in ("close", "paid"))
        held, moves = end - begin, np.full(bars, np.nan)
        moves[: bars - held] = (close[held:] - close[:-held]) / np.where(paid[:-held] > 0, paid[:-held], np.nan)
        there = np.roll(moves if side == "LONG" else -moves, -begin)  # at each shift; none is cut by the end
        total, counted = total + np.nan_to_num(there), counted + ~np.isnan(there)
    shifts = counted * 2 >= counted[0]
    if counted[0] < FEWEST_TRADES:
        return None
    means = total[shifts] / counted[shifts]
    return float((means >= means[0] - 1e-12).mean())


def drawn(n: int, paths: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Paths by days: which of ``n`` days each is. Blocks run on over the end of the days."""
    begins = rng.random((paths, n)) < 1.0 / round(n ** (1 / 3))
    begins[:, 0] = True
    place = np.arange(n)
    last = np.maximum.accumulate(np.where(begins, place, 0), axis=1)  # where each day's block began
    first = np.take_along_axis(rng.integers(n, size=(paths, n)), last, axis=1)
    return np.asarray((first + place - last) % n, np.int64)


def deepest(equity: Floats, start: float) -> Floats:
    """The max drawdown of each path (a row), 0 or negative: never more than all."""
    high = np.maximum(np.maximum.accumulate(equity, axis=1), start)
    falls: Floats = (equity / high - 1.0).min(axis=1, initial=0.0)
    return np.maximum(falls, -1.0)
