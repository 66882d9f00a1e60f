"""
What a trade needs next, from what its orders are now: pure, and asked again after every answer.

It looks at states, never at what was meant to happen: whatever a crash or a lost answer left behind, the next look
finds the next step. Stops are sized from fills. A stop comes before a target, and an exit never turns a position round.
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
    """A new version of a leg. A target that we watch ourselves is ``held``: it is never sent."""

    leg: Leg
    side: Side
    kind: Kind
    qty: Decimal
    price: Decimal | None
    reason: str | None = None
    held: bool = False


@dataclass(frozen=True)
class Send:
    """An order that stands in the ledger and not at the broker, in this quantity and, where it moved, at this price."""

    order: Row
    qty: Decimal
    price: Decimal | None = None


@dataclass(frozen=True)
class Cancel:
    order: Row
    reason: str | None = None


@dataclass(frozen=True)
class Drop:
    """Final without the broker, which never had it."""

    order: Row
    reason: str


@dataclass(frozen=True)
class Replace:
    order: Row
    qty: Decimal
    price: Decimal | None


@dataclass(frozen=True)
class Lock:
    why: str


Action = Place | Send | Cancel | Drop | Replace | Lock


def filled(order: Row) -> Decimal:
    """By the broker's count or by the fills that were read, whichever knows more."""
    more: Decimal = max(order["cum_qty"], order["filled"])
    return more


def position(trade: Row, orders: Sequence[Row]) -> Decimal:
    """What is open in the trade's direction, in today's shares; below zero when more was sold than bought."""
    enter = "BUY" if trade["side"] == "LONG" else "SELL"
    return sum((filled(o) if o["side"] == enter else -filled(o) for o in orders), Decimal(trade["adjusted"]))


def plan(trade: Row, orders: Sequence[Row], caps: Caps, *, is_open: bool, touched: bool) -> list[Action]:
    """
    The next steps of one trade.

    ``orders``: all of the trade, each with ``filled``. ``is_open``: its market takes orders. ``touched``: the price has
    reached the target since the entry. Empty when nothing is to be done or an answer must come first.
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
            else [_leave(o, orders) for o in exits if o["state"] not in IN_FLIGHT]
        )
    steps: list[Action] = []
    if entry["state"] in WORKING and "EXIT" in live:
        return [Cancel(entry)]  # what it still took would have to leave again
    if entry["state"] == "PENDING_CANCEL":
        steps = [Drop(entry, entry["reason"] or "not wanted") if local(entry) else Cancel(entry)]
    elif open_qty and _asleep(live.get("STOP"), caps) and filled(entry) < entry["qty"]:
        return [Cancel(entry)]  # its legs sleep until it is whole: what has filled must not wait for that
    if open_qty:
        steps += _open(trade, orders, live, open_qty, caps, is_open=is_open, touched=touched)
    return steps


def _asleep(stop: Row | None, caps: Caps) -> bool:
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
    """The exit that is wanted, or else the protection."""
    leaving, target = live.get("EXIT"), live.get("TARGET")
    steps = None if leaving is None else _exit(leaving, live, qty, caps, is_open=is_open)
    if steps is not None:
        return steps
    if leaving is None and touched and is_open and target is not None and local(target):
        return [_market(trade, qty, "target")]
    if leaving is None and trade["rolled"] and is_open:
        refused = _newest(orders, "EXIT")
        if not refused or refused["state"] != "REJECTED":
            return [_market(trade, qty, "roll")]
        why = f"trade {trade['trade_id']} was rolled, and the broker refuses its exit ({refused['reason']})"
        return [Lock(why), *_protect(trade, orders, live, qty, caps, is_open=is_open)]
    return list(_protect(trade, orders, live, qty, caps, is_open=is_open))


def _exit(leaving: Row, live: Mapping[str, Row], qty: Decimal, caps: Caps, *, is_open: bool) -> list[Action] | None:
    """How an exit that is wanted goes out; None where the position must be protected meanwhile."""
    if leaving["state"] != "CREATED":
        return []  # it works, or its answer must come first
    stop = live.get("STOP")
    if caps.exit_in_bracket and stop is not None and stop["state"] in WORKING:
        return [Send(leaving, qty)]
    if not is_open:
        return None
    resting = [o for o in (live.get("TARGET"), stop) if o is not None and not local(o)]
    if any(o["state"] in IN_FLIGHT for o in resting):
        return []
    return [Cancel(o) for o in resting] or [Send(leaving, qty)]


def _protect(
    trade: Row, orders: Sequence[Row], live: Mapping[str, Row], qty: Decimal, caps: Caps, *, is_open: bool
) -> Iterator[Action]:
    """The stop first, then the target."""
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
        yield Place("TARGET", _out(trade), "LIMIT", qty, trade["target"], held=True)
    elif target is not None and caps.atomic_replace and target["state"] in WORKING:
        moved = _differs(target, qty, trade["target"])
        yield from [Replace(target, filled(target) + qty, trade["target"])] if moved else []


def _new_stop(
    trade: Row, orders: Sequence[Row], qty: Decimal, *, exiting: bool, is_open: bool, placeable: bool
) -> Iterator[Action]:
    """A stop where there is none; where the broker has refused one, out at market at once."""
    stop, leaving = _newest(orders, "STOP"), _newest(orders, "EXIT")
    if not stop or stop["state"] != "REJECTED":
        if placeable:
            yield Place("STOP", _out(trade), "STOP", qty, trade["stop"])
    elif leaving and leaving["state"] == "REJECTED":
        yield Lock(f"trade {trade['trade_id']} is open, and the broker refuses its stop and its exit alike")
    elif is_open and not exiting:
        yield Lock(f"the stop of trade {trade['trade_id']} was refused ({stop['reason']}): out at market")
        yield _market(trade, qty, "stop_refused")


def _differs(order: Row, qty: Decimal, price: Decimal | None) -> bool:
    return bool((order["qty"] - filled(order), order["price"]) != (qty, price))


def _overshot(trade: Row, exits: Sequence[Row], excess: Decimal, *, is_open: bool) -> Iterator[Action]:
    """More was sold than bought: nothing more of that side, and the excess bought back."""
    back: Side = "BUY" if trade["side"] == "LONG" else "SELL"
    yield Lock(f"trade {trade['trade_id']}: exits filled {excess:f} more than the position; it is flattened")
    wrong = [o for o in exits if o["side"] != back]
    if wrong:
        yield from (Drop(o, "overshot") if local(o) else Cancel(o) for o in wrong if o["state"] not in IN_FLIGHT)
    elif is_open and not exits:
        yield Place("EXIT", back, "MARKET", excess, None, "both_legs_filled")
    elif is_open:
        yield from (Send(o, excess) for o in exits if o["state"] == "CREATED")


def _leave(order: Row, orders: Sequence[Row]) -> Action:
    """A leg that has nothing left to protect or to exit."""
    if local(order) or order["state"] == "CREATED":
        ended = next((o for o in orders if o["leg"] == "ENTRY" and not filled(o)), None)
        return Drop(order, (ended and ended["reason"]) or ("flat" if ended is None else "never entered"))
    return Cancel(order)


def _market(trade: Row, qty: Decimal, reason: str) -> Place:
    return Place("EXIT", _out(trade), "MARKET", qty, None, reason)


def _out(trade: Row) -> Side:
    return "SELL" if trade["side"] == "LONG" else "BUY"


def _newest(orders: Sequence[Row], leg: str) -> Row:
    return max((o for o in orders if o["leg"] == leg), key=lambda o: o["version"], default={})
