"""
The next steps of a trade, from the current state of its orders: pure, and called again after every reply.

It depends on states, never on intentions: whatever a crash or a lost reply left behind, the next call finds the next
step. Stops are sized from fills, a stop comes before a target, and an exit never reverses a position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from alphapivot.brokers.base import Caps, Kind, Leg, Side
from alphapivot.execution.book.states import IN_FLIGHT, TERMINAL, WORKING, local

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Place:
    """Places a new version of a leg. ``held``: a target that the executor watches itself and never sends."""

    leg: Leg
    side: Side
    kind: Kind
    qty: Decimal
    price: Decimal | None
    reason: str | None = None
    held: bool = False


@dataclass(frozen=True)
class Send:
    """Sends an order from the ledger with this quantity and, if it moved, at this price."""

    order: Row
    qty: Decimal
    price: Decimal | None = None


@dataclass(frozen=True)
class Cancel:
    order: Row
    reason: str | None = None


@dataclass(frozen=True)
class Drop:
    """Cancels an order that the broker never received."""

    order: Row
    reason: str


@dataclass(frozen=True)
class Replace:
    order: Row
    qty: Decimal
    price: Decimal | None


@dataclass(frozen=True)
class Lock:
    reason: str


Action = Place | Send | Cancel | Drop | Replace | Lock


def filled(order: Row) -> Decimal:
    """The filled quantity: the broker's count or the sum of the fills read, whichever is larger."""
    qty: Decimal = max(order["cum_qty"], order["filled"])
    return qty


def position(trade: Row, orders: Sequence[Row]) -> Decimal:
    """The open quantity in the trade's direction, in today's shares; negative if exits filled more than entries."""
    enter = "BUY" if trade["side"] == "LONG" else "SELL"
    return sum((filled(o) if o["side"] == enter else -filled(o) for o in orders), Decimal(trade["adjusted"]))


def plan(trade: Row, orders: Sequence[Row], caps: Caps, *, is_open: bool, touched: bool) -> list[Action]:
    """
    Returns the next steps of one trade; empty if there is nothing to do or a reply must come first.

    ``orders``: all orders of the trade, each with ``filled``. ``is_open``: its market takes orders. ``touched``: the
    price has reached the target since the entry.
    """
    live: dict[str, Row] = {o["leg"]: o for o in orders if o["state"] not in TERMINAL}
    open_qty = position(trade, orders)
    exits = [live[leg] for leg in ("EXIT", "STOP", "TARGET") if leg in live]
    if open_qty < 0:
        return list(_overshot(trade, exits, -open_qty, is_open=is_open))
    entry = live.get("ENTRY")
    if entry is None:
        return (
            _open(trade, orders, live, open_qty, caps, is_open=is_open, touched=touched)
            if open_qty
            else [_end_leg(o, orders) for o in exits if o["state"] not in IN_FLIGHT]
        )
    steps: list[Action] = []
    if entry["state"] in WORKING and "EXIT" in live:
        return [Cancel(entry)]  # further fills would have to be exited again
    if entry["state"] == "PENDING_CANCEL":
        steps = [Drop(entry, entry["reason"] or "not wanted") if local(entry) else Cancel(entry)]
    elif open_qty and _legs_held(live.get("STOP"), caps) and filled(entry) < entry["qty"]:
        return [Cancel(entry)]  # its legs are held until it has filled in full: the filled part needs a stop now
    if open_qty:
        steps += _open(trade, orders, live, open_qty, caps, is_open=is_open, touched=touched)
    return steps


def _legs_held(stop: Row | None, caps: Caps) -> bool:
    return stop is not None and stop["state"] == "SUSPENDED" and not local(stop) and not caps.bracket_on_partial


def _open(
    trade: Row,
    orders: Sequence[Row],
    live: Mapping[str, Row],
    qty: Decimal,
    caps: Caps,
    *,
    is_open: bool,
    touched: bool,
) -> list[Action]:
    """The steps of a pending exit, otherwise of the protection."""
    exit_order, target = live.get("EXIT"), live.get("TARGET")
    steps = None if exit_order is None else _exit(exit_order, live, qty, caps, is_open=is_open)
    if steps is not None:
        return steps
    if exit_order is None and touched and is_open and target is not None and local(target):
        return [_market(trade, qty, "target")]
    if exit_order is None and trade["rolled"] and is_open:
        last_exit = _newest(orders, "EXIT")
        if not last_exit or last_exit["state"] != "REJECTED":
            return [_market(trade, qty, "roll")]
        reason = f"trade {trade['trade_id']} was rolled, and the broker rejected its exit ({last_exit['reason']})"
        return [Lock(reason), *_protect(trade, orders, live, qty, caps, is_open=is_open)]
    return list(_protect(trade, orders, live, qty, caps, is_open=is_open))


def _exit(exit_order: Row, live: Mapping[str, Row], qty: Decimal, caps: Caps, *, is_open: bool) -> list[Action] | None:
    """The steps of a pending exit; None if the position must be protected meanwhile."""
    if exit_order["state"] != "CREATED":
        return []  # it is working, or its reply must come first
    stop = live.get("STOP")
    if caps.exit_in_bracket and stop is not None and stop["state"] in WORKING:
        return [Send(exit_order, qty)]
    if not is_open:
        return None
    resting = [o for o in (live.get("TARGET"), stop) if o is not None and not local(o)]
    if any(o["state"] in IN_FLIGHT for o in resting):
        return []
    return [Cancel(o) for o in resting] or [Send(exit_order, qty)]


def _protect(
    trade: Row, orders: Sequence[Row], live: Mapping[str, Row], qty: Decimal, caps: Caps, *, is_open: bool
) -> Iterator[Action]:
    """The steps of the stop, then of the target."""
    stop, target = live.get("STOP"), live.get("TARGET")
    placeable = is_open or caps.stop_outside_hours
    if stop is None:
        yield from _new_stop(trade, orders, qty, exiting="EXIT" in live, is_open=is_open, placeable=placeable)
    elif stop["state"] == "PENDING_CANCEL":
        yield Cancel(stop)
    elif placeable and (local(stop) or stop["state"] == "CREATED"):
        yield Send(stop, qty, trade["stop"])
    elif placeable and stop["state"] in WORKING and _differs(stop, qty, trade["stop"]):
        yield Replace(stop, filled(stop) + qty, trade["stop"]) if caps.atomic_replace else Cancel(stop)
    if target is None and trade["target"] is not None and "EXIT" not in live:
        yield Place(leg="TARGET", side=_exit_side(trade), kind="LIMIT", qty=qty, price=trade["target"], held=True)
    elif target is not None and caps.atomic_replace and target["state"] in WORKING:
        moved = _differs(target, qty, trade["target"])
        yield from [Replace(target, filled(target) + qty, trade["target"])] if moved else []


def _new_stop(
    trade: Row, orders: Sequence[Row], qty: Decimal, *, exiting: bool, is_open: bool, placeable: bool
) -> Iterator[Action]:
    """Places a missing stop; if the broker has rejected one, exits at market at once."""
    stop, last_exit = _newest(orders, "STOP"), _newest(orders, "EXIT")
    if not stop or stop["state"] != "REJECTED":
        if placeable:
            yield Place(leg="STOP", side=_exit_side(trade), kind="STOP", qty=qty, price=trade["stop"])
    elif last_exit and last_exit["state"] == "REJECTED":
        yield Lock(f"trade {trade['trade_id']} is open, and the broker rejected both its stop and its exit")
    elif is_open and not exiting:
        yield Lock(f"the stop of trade {trade['trade_id']} was rejected ({stop['reason']}): exit at market")
        yield _market(trade, qty, "stop_refused")


def _differs(order: Row, qty: Decimal, price: Decimal | None) -> bool:
    return bool((order["qty"] - filled(order), order["price"]) != (qty, price))


def _overshot(trade: Row, exits: Sequence[Row], excess: Decimal, *, is_open: bool) -> Iterator[Action]:
    """Exits filled more than the position: cancels the other exits and trades the excess closing_side."""
    closing_side: Side = "BUY" if trade["side"] == "LONG" else "SELL"
    yield Lock(f"trade {trade['trade_id']}: exits filled {excess:f} more than the position; the excess is closed")
    same_side = [o for o in exits if o["side"] != closing_side]
    if same_side:
        yield from (Drop(o, "overshot") if local(o) else Cancel(o) for o in same_side if o["state"] not in IN_FLIGHT)
    elif is_open and not exits:
        yield Place(leg="EXIT", side=closing_side, kind="MARKET", qty=excess, price=None, reason="both_legs_filled")
    elif is_open:
        yield from (Send(o, excess) for o in exits if o["state"] == "CREATED")


def _end_leg(order: Row, orders: Sequence[Row]) -> Action:
    """Ends a leg that has nothing left to protect or to exit."""
    if local(order) or order["state"] == "CREATED":
        unfilled_entry = next((o for o in orders if o["leg"] == "ENTRY" and not filled(o)), None)
        return Drop(
            order,
            (unfilled_entry and unfilled_entry["reason"]) or ("flat" if unfilled_entry is None else "never entered"),
        )
    return Cancel(order)


def _market(trade: Row, qty: Decimal, reason: str) -> Place:
    return Place(leg="EXIT", side=_exit_side(trade), kind="MARKET", qty=qty, price=None, reason=reason)


def _exit_side(trade: Row) -> Side:
    return "SELL" if trade["side"] == "LONG" else "BUY"


def _newest(orders: Sequence[Row], leg: str) -> Row:
    return max((o for o in orders if o["leg"] == leg), key=lambda o: o["version"], default={})
