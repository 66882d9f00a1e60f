"""
The paper broker's fill rules, pure and exact: one bar and one bracket's orders in, what happens out.

The numbers are those of the design's execution.md. Prices are Decimal and lie on the tick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal

from alphapivot.brokers.base import Leg, Side
from alphapivot.money import to_tick

BPS = Decimal(10_000)
NONE = Decimal(0)
WAYS_OUT: tuple[Leg, ...] = ("EXIT", "STOP", "TARGET")


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
    """
    An order at the broker. A HELD leg wakes up when its entry fills; MARKET orders have no price, an entry with a
    price is a limit. ``qty``: what remains of it; of a working stop or target, what there is to protect. ``was``: the
    price that stands until ``active_from``, where the order replaced another. ``triggered``: a stop on its way out, at
    market.
    """

    client_order_id: str
    leg: Leg
    side: Side
    price: Decimal | None
    active_from: datetime
    state: Literal["HELD", "WORKING"] = "WORKING"
    qty: Decimal = Decimal(1)
    was: Decimal | None = None
    triggered: bool = False

    def price_at(self, start: datetime) -> Decimal | None:
        """What it asks of a bar that opened at ``start``."""
        return self.was if self.was is not None and start < self.active_from else self.price


@dataclass(frozen=True)
class Filled:
    order: Resting
    price: Decimal
    qty: Decimal = Decimal(1)


@dataclass(frozen=True)
class Canceled:
    order: Resting
    reason: str


def slipped(price: Decimal, side: Side, bps: Decimal, tick: Decimal) -> Decimal:
    """Rule 5: ``bps`` of |price| against us, then rounded against us to the tick."""
    if side == "BUY":
        return to_tick(price + abs(price) * bps / BPS, tick, ROUND_CEILING)
    return to_tick(price - abs(price) * bps / BPS, tick, ROUND_FLOOR)


def step(
    orders: Iterable[Resting],
    bar: Bar,
    *,
    tick: Decimal,
    slippage_bps: Decimal = Decimal(0),
    strict: bool = False,
    room: Decimal | None = None,
) -> list[Filled | Canceled]:
    """
    What one bar does to one bracket (an entry, its stop and target, and perhaps an exit at market), in order.

    Rules 1 to 7: no fill on a bar with zero volume or a missing price; no bar that opened before an order became
    active fills it; an open beyond the stop cancels the entry; a limit entry's own bar takes no profit. ``strict``: a
    take-profit needs a price beyond its own. ``room``: the most that one fill may take of this bar; the rest stays.
    """
    if bar.open is None or bar.high is None or bar.low is None or bar.volume == 0 or (room is not None and room <= 0):
        return []
    orders = list(orders)
    leg = {order.leg: order for order in orders}
    entry, stop = leg.get("ENTRY"), leg.get("STOP")
    position = max((o.qty for o in leg.values() if o.leg in ("STOP", "TARGET") and o.state == "WORKING"), default=NONE)
    if entry is None:
        # a held leg without an entry: the account is out of step, and nothing fills by guess
        held = any(order.state == "HELD" for order in leg.values())
        return [] if held else _leave(leg, bar, position, tick=tick, bps=slippage_bps, strict=strict, room=room)
    if bar.start < entry.active_from:
        return []
    limit = None if stop is None else stop.price_at(bar.start)
    gone = limit is not None and _beyond(bar.open, limit, entry.side)
    if gone and not position:
        return [Canceled(o, "open_beyond_stop") for o in (entry, stop, leg.get("TARGET")) if o is not None]
    price = None if gone else _entered(entry, bar, tick=tick, bps=slippage_bps)
    if price is None:
        return _leave(leg, bar, position, tick=tick, bps=slippage_bps, strict=strict, room=room)
    qty = _most(entry.qty, room)
    if qty == entry.qty:
        del leg["ENTRY"]
    if entry.price is not None:
        leg.pop("TARGET", None)  # where in a limit entry's bar it was reached, nobody knows
    left = _leave(leg, bar, position + qty, tick=tick, bps=slippage_bps, strict=strict, room=room)
    target = next((o for o in orders if o.leg == "TARGET"), None)
    flat = any(isinstance(event, Filled) and event.qty == position + qty for event in left)
    if flat and target is not None and "TARGET" not in leg:
        left.append(Canceled(target, "stop_filled"))
    return [Filled(entry, price, qty), *left]


def _leave(
    leg: Mapping[Leg, Resting],
    bar: Bar,
    position: Decimal,
    *,
    tick: Decimal,
    bps: Decimal,
    strict: bool,
    room: Decimal | None,
) -> list[Filled | Canceled]:
    """The one order that takes ``position``, or a part of it, out of the market; what rests in vain is cancelled."""
    exit_, stop, target = (leg.get(name) for name in WAYS_OUT)
    if not position or bar.open is None:
        return []
    done: tuple[Resting, Decimal] | None = None
    if exit_ is not None and bar.start >= exit_.active_from and not (stop is not None and stop.triggered):
        done = exit_, slipped(bar.open, exit_.side, bps, tick)  # 1; the open comes before all else
    done = done or _stopped(stop, bar, tick=tick, bps=bps)  # 4: the stop first
    done = done or _reached(target, bar, beyond=tick if strict else NONE)
    if done is None:
        return []
    order, price = done
    qty = _most(position, room)
    vain = [leg.get("ENTRY"), *((exit_, stop, target) if qty == position else ())]
    why = f"{order.leg.lower()}_filled"
    return [Filled(order, price, qty), *(Canceled(o, why) for o in vain if o is not None and o is not order)]


def _prices(bar: Bar) -> tuple[Decimal, Decimal, Decimal]:
    if bar.open is None or bar.high is None or bar.low is None:
        raise ValueError(f"the bar complete at {bar.ts} lacks a price: nothing fills on it")
    return bar.open, bar.high, bar.low


def _most(qty: Decimal, room: Decimal | None) -> Decimal:
    return qty if room is None else min(qty, room)


def _entered(entry: Resting, bar: Bar, *, tick: Decimal, bps: Decimal) -> Decimal | None:
    """Rule 1, or a limit where the bar reaches it, at its price or at a better open; a limit has no slippage."""
    opened, high, low = _prices(bar)
    if entry.price is None:
        return slipped(opened, entry.side, bps, tick)
    if entry.side == "BUY":
        return min(opened, entry.price) if low <= entry.price else None
    return max(opened, entry.price) if high >= entry.price else None


def _stopped(stop: Resting | None, bar: Bar, *, tick: Decimal, bps: Decimal) -> tuple[Resting, Decimal] | None:
    """Rule 2: a stop triggers where the bar reaches it, and fills there or at a worse open."""
    price = None if stop is None else stop.price_at(bar.start)
    if stop is None or price is None:
        return None
    opened, high, low = _prices(bar)
    if stop.triggered:
        return stop, slipped(opened, stop.side, bps, tick)
    if stop.side == "SELL":
        return (stop, slipped(min(opened, price), "SELL", bps, tick)) if low <= price else None
    return (stop, slipped(max(opened, price), "BUY", bps, tick)) if high >= price else None


def _reached(target: Resting | None, bar: Bar, *, beyond: Decimal) -> tuple[Resting, Decimal] | None:
    """
    Rule 3: a take-profit fills where the bar reaches it, or at a better open; a limit has no slippage. Where prices
    must trade ``beyond`` it, it fills at its own price.
    """
    price = None if target is None else target.price_at(bar.start)
    if target is None or price is None:
        return None
    opened, high, low = _prices(bar)
    if target.side == "SELL":
        return (target, price if beyond else max(opened, price)) if high >= price + beyond else None
    return (target, price if beyond else min(opened, price)) if low <= price - beyond else None


def _beyond(price: Decimal, stop: Decimal, entry: Side) -> bool:
    """Would the stop trigger at once?"""
    return price <= stop if entry == "BUY" else price >= stop
