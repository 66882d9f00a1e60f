"""
Where a trailing stop belongs after each completed bar: pure and exact, before it is rounded to the tick.

    close       k ATR from the last close
    chandelier  k ATR from the highest high of the last bars since the entry (LeBeau)
    parabolic   Wilder's stop and reverse (1978), begun at the initial stop: each bar takes it nearer to the best price
                since the entry, by a share that grows with each new best price

For shorts highs and lows change places. A bar counts once it is complete, and from the first that opened after the
entry: what came before it in its own bar is unknown.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphapivot.config.sections.trading import ExitSettings
    from alphapivot.execution.decide.facts import OpenTrade, Path, Quote

REASONS = {"close": "trailing_stop", "chandelier": "chandelier", "parabolic": "parabolic"}


def trailed(trade: OpenTrade, quote: Quote, exits: ExitSettings) -> Decimal | None:
    """The price of the trailing stop; None if [exit] has none, or what it needs is unknown."""
    up = 1 if trade.side == "LONG" else -1
    if exits.trail == "parabolic":
        return None if trade.path is None else parabolic(trade.path, up, exits.parabolic_step, exits.parabolic_cap)
    if exits.trail_atr is None or quote.atr is None or quote.atr <= 0:
        return None
    distance = exits.trail_atr * quote.atr
    if exits.trail == "chandelier":
        return None if trade.path is None else chandelier(trade.path, up, exits.trail_bars, distance)
    return quote.close - up * distance


def chandelier(path: Path, up: int, bars: int, distance: Decimal) -> Decimal | None:
    """``distance`` from the best price of the last ``bars``. ``up``: 1 for a long trade, -1 for a short one."""
    if not path.bars:
        return None
    best = max(up * (high if up > 0 else low) for high, low in path.bars[-bars:])
    return up * best - up * distance


def parabolic(path: Path, up: int, step: Decimal, cap: Decimal) -> Decimal | None:
    """The stop for the bar after the last one. It never enters the range of the last two bars."""
    if not path.bars:
        return None
    # in the trade's direction: ``best`` is the highest price since the entry, ``near`` a bar's other end
    bars = [(high, low) if up > 0 else (-low, -high) for high, low in path.bars]
    stop, (best, before), pace = up * path.first, bars[0], step
    for far, near in bars:
        if far > best:
            best, pace = far, min(cap, pace + step)
        stop = min(stop + pace * (best - stop), before, near)
        before = near
    return up * stop
