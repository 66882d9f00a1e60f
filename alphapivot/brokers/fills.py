"""
The paper broker's fill rules, pure and exact: one bar and one bracket's orders in, what happens out.

The numbers are those of the design's execution.md. Prices are Decimal and lie on the tick.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Literal

from alphapivot.brokers.base import Leg, Side

BPS = Decimal(10_000)


@dataclass(frozen=True)
class Bar:
    """
    A bar of the traded contract: opened at ``start``, complete at ``ts``. A missing price is None; so is an
    unknown volume.
    """

    start: datetime
    ts: datetime
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal
    volume: Decimal | None = None


@dataclass(frozen=True)
class Resting:
    """An order at the broker. A HELD leg wakes up when its entry fills; MARKET orders have no price."""

    client_order_id: str
    leg: Leg
    side: Side
    price: Decimal | None
    active_from: datetime
    state: Literal["HELD", "WORKING"] = "WORKING"


@dataclass(frozen=True)
class Filled:
    order: Resting
    price: Decimal


@dataclass(frozen=True)
class Canceled:
    order: Resting
    reason: str


def to_tick(price: Decimal, tick: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """The multiple of ``tick`` that ``rounding`` leads to."""
    return (price / tick).to_integral_value(rounding) * tick


def slipped(price: Decimal, side: Side, bps: Decimal, tick: Decimal) -> Decimal:
    """Rule 5: ``bps`` of |price| against us, then rounded against us to the tick."""
    if side == "BUY":
        return to_tick(price + abs(price) * bps / BPS, tick, ROUND_CEILING)
    return to_tick(price - abs(price) * bps / BPS, tick, ROUND_FLOOR)


def step(
    orders: Iterable[Resting], bar: Bar, *, tick: Decimal, slippage_bps: Decimal = Decimal(0)
) -> list[Filled | Canceled]:
    """
    What one bar does to one bracket (an entry, its stop and target, and perhaps an exit at market), in order.

    Rules 1 to 5, and of 6 and 7: no fill on a bar with zero volume or a missing price; no bar that opened before an
    order became active fills it; an open beyond the stop cancels the entry.
    """
    if bar.open is None or bar.high is None or bar.low is None or bar.volume == 0:
        return []
    leg = {order.leg: order for order in orders}
    entry, exit_, stop, target = (leg.get(name) for name in ("ENTRY", "EXIT", "STOP", "TARGET"))
    events: list[Filled | Canceled] = []

    if entry is not None:
        if bar.start < entry.active_from:
            return []
        if stop is not None and stop.price is not None and _beyond(bar.open, stop.price, entry.side):
            return [Canceled(order, "open_beyond_stop") for order in (entry, stop, target) if order is not None]
        events.append(Filled(entry, slipped(bar.open, entry.side, slippage_bps, tick)))  # 1
    elif any(order.state == "HELD" for order in leg.values()):
        return []  # no entry to hold them for: the account is out of step, and nothing fills by guess

    done: Filled | None = None
    if exit_ is not None and bar.start >= exit_.active_from:
        done = Filled(exit_, slipped(bar.open, exit_.side, slippage_bps, tick))  # 1; the open comes before all else
    done = done or _stopped(stop, bar.open, bar.high, bar.low, tick=tick, bps=slippage_bps)  # 4: the stop first
    done = done or _reached(target, bar.open, bar.high, bar.low)
    if done is not None:
        events.append(done)
        others = (o for o in (exit_, stop, target) if o is not None and o is not done.order)
        events += [Canceled(o, f"{done.order.leg.lower()}_filled") for o in others]
    return events


def _stopped(
    stop: Resting | None, opened: Decimal, high: Decimal, low: Decimal, *, tick: Decimal, bps: Decimal
) -> Filled | None:
    """Rule 2: a stop triggers where the bar reaches it, and fills there or at a worse open."""
    if stop is None or stop.price is None:
        return None
    if stop.side == "SELL":
        return Filled(stop, slipped(min(opened, stop.price), "SELL", bps, tick)) if low <= stop.price else None
    return Filled(stop, slipped(max(opened, stop.price), "BUY", bps, tick)) if high >= stop.price else None


def _reached(target: Resting | None, opened: Decimal, high: Decimal, low: Decimal) -> Filled | None:
    """Rule 3: a take-profit fills where the bar reaches it, or at a better open; a limit has no slippage."""
    if target is None or target.price is None:
        return None
    if target.side == "SELL":
        return Filled(target, max(opened, target.price)) if high >= target.price else None
    return Filled(target, min(opened, target.price)) if low <= target.price else None


def _beyond(price: Decimal, stop: Decimal, entry: Side) -> bool:
    """Would the stop trigger at once?"""
    return price <= stop if entry == "BUY" else price >= stop
