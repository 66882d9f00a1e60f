"""
The paper broker's fill rules, pure and exact: from one bar and one bracket's orders to fills and cancels.

Rule numbers are those of docs/execution.md. Prices are Decimal, on the tick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import partial
from typing import Literal

from alphapivot.brokers.base import Leg, Side
from alphapivot.money import to_tick

BPS = Decimal(10_000)
NONE = Decimal(0)
WAYS_OUT: tuple[Leg, ...] = ("EXIT", "STOP", "TARGET")


@dataclass(frozen=True)
class Bar:
    """
    A bar of the traded contract: opened at ``start``, complete at ``ts``. Missing prices and volume are None. On the
    tick: high and low are rounded inwards, so that they were traded; open, rounded to the nearest, may lie beyond them.
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
    An order at the broker. A HELD leg becomes active when its entry fills; MARKET orders have no price, an entry with a
    price is a limit. ``qty``: the remaining quantity; of a working stop or target, the position that it protects.
    ``was``: the price of the order that it replaced, valid until ``active_from``. ``triggered``: a stop that exits at
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
        """The price that applies to a bar opened at ``start``."""
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


def slipped(price: Decimal, side: Side, bps: Decimal, tick: Decimal, worth: Decimal | None = None) -> Decimal:
    """
    Rule 5: slippage of ``bps`` of |price|, or of a spread's ``worth``, against us, then rounded against us to the tick.
    """
    slippage = (abs(price) if worth is None else worth) * bps / BPS
    if side == "BUY":
        return to_tick(price + slippage, tick, ROUND_CEILING)
    return to_tick(price - slippage, tick, ROUND_FLOOR)


def step(
    orders: Iterable[Resting],
    bar: Bar,
    *,
    tick: Decimal,
    slippage_bps: Decimal = Decimal(0),
    strict: bool = False,
    room: Decimal | None = None,
    worth: Decimal | None = None,
) -> list[Filled | Canceled]:
    """
    Returns the fills and cancels of one bar on one bracket (an entry, stop, target and possibly a market exit), in
    order; an entry may add to what is open.

    Rules 1 to 7: no fill on a bar with zero volume or a missing price; a bar that opened before an order became active
    does not fill it; an open beyond the stop cancels the entry; a limit entry's take-profit cannot fill in the entry's
    own bar. ``strict``: a take-profit needs a price beyond its own. ``room``: the largest quantity per fill in this
    bar; the rest stays. ``worth``: of a spread, see ``slipped``.
    """
    if bar.open is None or bar.high is None or bar.low is None or bar.volume == 0 or (room is not None and room <= 0):
        return []
    leaves = partial(_leave, tick=tick, bps=slippage_bps, strict=strict, room=room, worth=worth)
    orders = list(orders)
    leg = {order.leg: order for order in orders}
    entry, stop = leg.get("ENTRY"), leg.get("STOP")
    position = max((o.qty for o in leg.values() if o.leg in ("STOP", "TARGET") and o.state == "WORKING"), default=NONE)
    if entry is None:
        # a held leg without an entry: the account is inconsistent, so nothing fills
        held = any(order.state == "HELD" for order in leg.values())
        return [] if held else leaves(leg, bar, position)
    if bar.start < entry.active_from:  # what it will add to is protected meanwhile
        return leaves(leg, bar, position)
    stop_price = None if stop is None else stop.price_at(bar.start)
    open_beyond_stop = stop_price is not None and _beyond(bar.open, stop_price, entry.side)
    if open_beyond_stop and not position:
        return [Canceled(o, "open_beyond_stop") for o in (entry, stop, leg.get("TARGET")) if o is not None]
    price = None if open_beyond_stop else _entered(entry, bar, tick=tick, bps=slippage_bps, worth=worth)
    if price is None:
        return leaves(leg, bar, position)
    qty = _capped(entry.qty, room)
    if qty == entry.qty:
        del leg["ENTRY"]
    if entry.price is not None:
        leg.pop("TARGET", None)  # the order of prices within a limit entry's bar is unknown
    exits = leaves(leg, bar, position + qty)
    target = next((o for o in orders if o.leg == "TARGET"), None)
    flat = any(isinstance(event, Filled) and event.qty == position + qty for event in exits)
    if flat and target is not None and "TARGET" not in leg:
        exits.append(Canceled(target, "stop_filled"))
    return [Filled(entry, price, qty), *exits]


def _leave(
    leg: Mapping[Leg, Resting],
    bar: Bar,
    position: Decimal,
    *,
    tick: Decimal,
    bps: Decimal,
    strict: bool,
    room: Decimal | None,
    worth: Decimal | None,
) -> list[Filled | Canceled]:
    """The fills that close ``position`` or a part of it; resting orders that became pointless are cancelled."""
    exit_, stop, target = (leg.get(name) for name in WAYS_OUT)
    if not position or bar.open is None:
        return []
    fill: tuple[Resting, Decimal] | None = None
    if exit_ is not None and bar.start >= exit_.active_from and not (stop is not None and stop.triggered):
        fill = exit_, slipped(bar.open, exit_.side, bps, tick, worth)  # rule 1: the open comes first
        part = exit_.qty < position and (room is None or exit_.qty < room)
        if part:  # the rest lives through the bar
            others = {name: order for name, order in leg.items() if name not in ("ENTRY", "EXIT")}
            left, more = position - exit_.qty, None if room is None else room - exit_.qty
            rest = _leave(others, bar, left, tick=tick, bps=bps, strict=strict, room=more, worth=worth)
            gone = [Canceled(entry, "exit_filled")] if (entry := leg.get("ENTRY")) is not None else []
            return [Filled(*fill, exit_.qty), *gone, *rest]
    fill = fill or _stopped(stop, bar, tick=tick, bps=bps, worth=worth)  # rule 4: the stop before the target
    fill = fill or _reached(target, bar, beyond=tick if strict else NONE)
    if fill is None:
        return []
    order, price = fill
    qty = _capped(min(position, order.qty) if order is exit_ else position, room)  # an exit may leave a part
    pointless = [leg.get("ENTRY"), *((exit_, stop, target) if qty == position else ())]
    reason = f"{order.leg.lower()}_filled"
    return [Filled(order, price, qty), *(Canceled(o, reason) for o in pointless if o is not None and o is not order)]


def _prices(bar: Bar) -> tuple[Decimal, Decimal, Decimal]:
    if bar.open is None or bar.high is None or bar.low is None:
        raise ValueError(f"the bar complete at {bar.ts} lacks a price: it cannot fill orders")
    return bar.open, bar.high, bar.low


def _capped(qty: Decimal, room: Decimal | None) -> Decimal:
    return qty if room is None else min(qty, room)


def _entered(entry: Resting, bar: Bar, *, tick: Decimal, bps: Decimal, worth: Decimal | None) -> Decimal | None:
    """Rule 1 at market; a limit fills if the bar reaches it, at its price or a better open, without slippage."""
    opened, high, low = _prices(bar)
    if entry.price is None:
        return slipped(opened, entry.side, bps, tick, worth)
    if entry.side == "BUY":
        return min(max(opened, low), entry.price) if low <= entry.price else None
    return max(min(opened, high), entry.price) if high >= entry.price else None


def _stopped(
    stop: Resting | None, bar: Bar, *, tick: Decimal, bps: Decimal, worth: Decimal | None
) -> tuple[Resting, Decimal] | None:
    """Rule 2: a stop triggers if the bar reaches it, and fills at its price or a worse open."""
    price = None if stop is None else stop.price_at(bar.start)
    if stop is None or price is None:
        return None
    opened, high, low = _prices(bar)
    if stop.triggered:
        return stop, slipped(opened, stop.side, bps, tick, worth)
    if stop.side == "SELL":
        return (stop, slipped(min(opened, price), "SELL", bps, tick, worth)) if low <= price else None
    return (stop, slipped(max(opened, price), "BUY", bps, tick, worth)) if high >= price else None


def _reached(target: Resting | None, bar: Bar, *, beyond: Decimal) -> tuple[Resting, Decimal] | None:
    """
    Rule 3: a take-profit fills at its price if the bar reaches it, or at a better open, without slippage. If prices
    must trade ``beyond`` it, it fills at its own price.
    """
    price = None if target is None else target.price_at(bar.start)
    if target is None or price is None:
        return None
    opened, high, low = _prices(bar)
    if target.side == "SELL":
        return (target, price if beyond else max(min(opened, high), price)) if high >= price + beyond else None
    return (target, price if beyond else min(max(opened, low), price)) if low <= price - beyond else None


def _beyond(price: Decimal, stop: Decimal, entry: Side) -> bool:
    """True if the stop would trigger at once."""
    return price <= stop if entry == "BUY" else price >= stop
