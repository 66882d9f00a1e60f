"""
The next steps of a trade, from the current state of its orders: pure, and called again after every reply.

It depends on states, never on intentions: whatever a crash or a lost reply left behind, the next call finds the next
step. Stops are sized from fills, a stop comes before a target, and an exit never reverses a position.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from alphapivot.brokers.base import Caps, Kind, Leg, Side
from alphapivot.execution.book.orders import adds
from alphapivot.execution.book.states import IN_FLIGHT, RENEWED, TERMINAL, WORKING, local
from alphapivot.execution.decide.lifecycle import PARTS

Row = Mapping[Any, Any]
CLOSE = "close "  # begins the reason of an exit that an operator asked for
# exits that follow from something else, which asks for them again while it holds
ASKED_AGAIN = ("stop_refused", "flatten", "split", "distribution", "target", "roll", "both_legs_filled", *PARTS)


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


def newest_of(orders: Sequence[Row], leg: str, ids: Collection[str]) -> Row | None:
    """The newest order of a leg among those with these ids."""
    among = [o for o in orders if o["leg"] == leg and o["client_order_id"] in ids]
    return max(among, key=lambda o: o["version"], default=None)


def plan(
    trade: Row,
    orders: Sequence[Row],
    caps: Caps,
    *,
    refused: Collection[str],
    is_open: bool,
    touched: bool,
) -> list[Action]:
    """
    Returns the next steps of one trade; empty if there is nothing to do or a reply must come first.

    ``orders``: all orders of the trade, each with ``filled``. ``refused``: ids of those that the broker has refused in
    this run; what it refused in an earlier one is tried again. ``is_open``: its market takes orders. ``touched``: the
    price has reached the target since the entry.
    """
    live: dict[str, Row] = {o["leg"]: o for o in orders if o["state"] not in TERMINAL}
    open_qty = position(trade, orders)
    exits = [live[leg] for leg in ("EXIT", "STOP", "TARGET") if leg in live]
    entry = live.get("ENTRY")
    if open_qty < 0:
        return list(_overshot(trade, orders, exits, -open_qty, refused, is_open=is_open))
    if entry is None:
        return (
            _open(trade, orders, live, open_qty, caps, refused=refused, is_open=is_open, touched=touched)
            if open_qty
            else [_end_leg(o, orders) for o in exits if o["state"] not in IN_FLIGHT]
        )
    if adds(entry) and (not open_qty or "EXIT" in live or trade["rolled"]):
        reason = "leaving" if open_qty else "flat"
        if local(entry) or entry["state"] == "CREATED":
            return [Drop(entry, reason)]
        if entry["state"] in WORKING:
            return [Cancel(entry, reason)]
    steps: list[Action] = []
    # further fills would have to be exited again; and an exit may be refused because an entry rests
    stuck = open_qty and (newest_of(orders, "STOP", refused) or newest_of(orders, "EXIT", refused))
    # legs that are held until the entry has filled in full: the filled part needs a stop now
    bare = open_qty and _legs_held(live.get("STOP"), caps) and filled(entry) < entry["qty"]
    if entry["state"] in WORKING and ("EXIT" in live or stuck or bare):
        return [Cancel(entry)]
    if entry["state"] == "PENDING_CANCEL":
        steps = [Drop(entry, entry["reason"] or "not wanted") if local(entry) else Cancel(entry)]
    if open_qty:
        steps += _open(trade, orders, live, open_qty, caps, refused=refused, is_open=is_open, touched=touched)
    return steps


def plan_locked(
    trade: Row,
    orders: Sequence[Row],
    caps: Caps,
    *,
    sure: Decimal,
    leaving: bool,
    refused: Collection[str],
    is_open: bool,
) -> list[Action]:
    """
    The next steps of a trade whose fills and position at the broker differ: its entry is cancelled, and the rest is for
    ``sure``, the quantity in its direction that both have, so that no order can turn the position round. Nothing is
    corrected, and no exit is sent unless an operator asked for it (``leaving``).
    """
    live: dict[str, Row] = {o["leg"]: o for o in orders if o["state"] not in TERMINAL}
    entry, exit_order = live.get("ENTRY"), live.get("EXIT")
    if entry is not None and not local(entry) and entry["state"] in (*WORKING, "PENDING_CANCEL"):
        return [Cancel(entry, entry["reason"] or "locked")]
    qty = min(position(trade, orders), sure)
    if qty < 0 or (exit_order is not None and exit_order["state"] != "CREATED"):
        return []
    if not qty:
        legs = [live[leg] for leg in ("STOP", "TARGET") if leg in live]
        return [Cancel(o) for o in legs if not local(o) and o["state"] not in IN_FLIGHT]
    if leaving and exit_order is not None:
        return _open(trade, orders, live, qty, caps, refused=refused, is_open=is_open, touched=False)
    steps = _protect(trade, orders, live, qty, caps, refused=refused, is_open=is_open)
    return [s for s in steps if not (isinstance(s, Place) and s.leg == "EXIT")]


def _legs_held(stop: Row | None, caps: Caps) -> bool:
    return stop is not None and stop["state"] == "SUSPENDED" and not local(stop) and not caps.bracket_on_partial


def _open(
    trade: Row,
    orders: Sequence[Row],
    live: Mapping[str, Row],
    qty: Decimal,
    caps: Caps,
    *,
    refused: Collection[str],
    is_open: bool,
    touched: bool,
) -> list[Action]:
    """The steps of a pending exit, otherwise of the protection."""
    exit_order, target, no = live.get("EXIT"), live.get("TARGET"), newest_of(orders, "EXIT", refused)
    steps: list[Action] | None = None
    if exit_order is not None and _renewed(exit_order) and exit_order["state"] == "PENDING_CANCEL":
        steps = [Cancel(exit_order, exit_order["reason"])]
    elif exit_order is not None:
        steps = [] if exit_order["state"] != "CREATED" else None  # it is working, or its reply must come first
        if steps is None and no is None:
            steps = _exit(trade, exit_order, live, qty, caps, no=newest_of(orders, "STOP", refused), is_open=is_open)
    elif is_open and no is None:
        last = _newest(orders, "EXIT")
        if touched and target is not None and local(target):
            steps = [_market(trade, qty, "target")]
        elif trade["rolled"]:
            steps = [_market(trade, qty, "roll")]
        elif last and (last["state"] == "REJECTED" or _renewed(last)) and last["asked"] not in ASKED_AGAIN:
            rest = {**last, "qty": last["qty"] - filled(last)}
            steps = [_market(trade, exit_qty(rest, qty), last["asked"])]
    if steps is not None:
        return steps
    protection = list(_protect(trade, orders, live, qty, caps, refused=refused, is_open=is_open))
    if no is not None and trade["rolled"]:
        reason = f"trade {trade['trade_id']} was rolled, and the broker rejected its exit ({no['reason']})"
        return [Lock(reason), *protection]
    return protection


def _exit(
    trade: Row,
    exit_order: Row,
    live: Mapping[str, Row],
    qty: Decimal,
    caps: Caps,
    *,
    no: Row | None,
    is_open: bool,
) -> list[Action] | None:
    """
    The steps of an exit that was not sent yet; None if the position must be protected meanwhile. ``no``: a stop that
    the broker has refused in this run.
    """
    stop, held, qty = live.get("STOP"), qty, exit_qty(exit_order, qty)
    if caps.exit_in_bracket and stop is not None and stop["state"] in WORKING:
        # the stop of what stays may move at the same time
        moved = _change(stop, held, trade["stop"], caps, no) if qty < held and stop["price"] != trade["stop"] else ()
        return [*moved, Send(exit_order, qty)]
    if not is_open:
        return None
    resting = [o for o in (live.get("TARGET"), stop) if o is not None and not local(o)]
    if any(o["state"] in IN_FLIGHT for o in resting):
        return []
    if qty < held and caps.atomic_replace and no is None:
        # the legs are cut to what stays, which is never without a stop
        if any(o["state"] == "PENDING_REPLACE" for o in resting):
            return []
        cut = [_cut(o, held - qty, trade) for o in resting if o["qty"] - filled(o) > held - qty]
        return [*cut] or [Send(exit_order, qty)]
    return [Cancel(o) for o in resting] or [Send(exit_order, qty)]


def _renewed(order: Row) -> bool:
    """True for an order that is cancelled, or was, because it rested without doing its work."""
    return order["state"] in ("PENDING_CANCEL", "CANCELED") and str(order["reason"] or "").startswith(RENEWED)


def _cut(order: Row, qty: Decimal, trade: Row) -> Replace:
    return Replace(order, filled(order) + qty, trade["stop"] if order["leg"] == "STOP" else trade["target"])


def exit_qty(exit_order: Row, qty: Decimal) -> Decimal:
    """What an exit takes out of the open quantity ``qty``: all of it, unless less was asked for."""
    asked = str(exit_order["asked"] or "")
    return min(exit_order["qty"], qty) if asked.startswith(CLOSE) or asked in PARTS else qty


def _protect(
    trade: Row,
    orders: Sequence[Row],
    live: Mapping[str, Row],
    qty: Decimal,
    caps: Caps,
    *,
    refused: Collection[str],
    is_open: bool,
) -> Iterator[Action]:
    """The steps of the stop, then of the target."""
    stop, target = live.get("STOP"), live.get("TARGET")
    placeable = is_open or caps.stop_outside_hours
    if stop is None:
        exiting = "EXIT" in live
        yield from _new_stop(trade, orders, qty, refused=refused, exiting=exiting, is_open=is_open, placeable=placeable)
    elif stop["state"] == "PENDING_CANCEL":
        yield Cancel(stop)
    elif placeable and (local(stop) or stop["state"] == "CREATED"):
        yield Send(stop, qty, trade["stop"])
    elif placeable and stop["state"] in WORKING and _differs(stop, qty, trade["stop"]):
        yield from _change(stop, qty, trade["stop"], caps, newest_of(orders, "STOP", refused))
    if target is None and trade["target"] is not None and "EXIT" not in live:
        yield Place(leg="TARGET", side=_exit_side(trade), kind="LIMIT", qty=qty, price=trade["target"], held=True)
    elif (
        caps.atomic_replace
        and target is not None
        and target["state"] in WORKING
        and _differs(target, qty, trade["target"])
    ):
        yield from _change(target, qty, trade["target"], caps, newest_of(orders, "TARGET", refused))


def _change(order: Row, qty: Decimal, price: Decimal, caps: Caps, no: Row | None) -> Iterator[Action]:
    """Moves or resizes a working leg. ``no``: the broker has refused to do so in this run."""
    if no is None:
        yield Replace(order, filled(order) + qty, price) if caps.atomic_replace else Cancel(order)
    elif order["qty"] - filled(order) > qty:
        yield Cancel(order)  # it could turn the position round: a new one takes its place


def _new_stop(
    trade: Row,
    orders: Sequence[Row],
    qty: Decimal,
    *,
    refused: Collection[str],
    exiting: bool,
    is_open: bool,
    placeable: bool,
) -> Iterator[Action]:
    """
    Places a missing stop. If the broker refuses it: where it should have improved an earlier one, that one is put
    back; otherwise exits at market at once.
    """
    new = [o for o in orders if o["leg"] == "STOP" and o["attempts"]]
    no = newest_of(new, "STOP", refused)
    side = _exit_side(trade)
    if no is None:
        if placeable:
            yield Place(leg="STOP", side=side, kind="STOP", qty=qty, price=trade["stop"])
        return
    before = [o for o in orders if o["leg"] == "STOP" and o["state"] == "CANCELED" and o["broker_order_id"]]
    last = max(before, key=lambda o: o["version"], default=no)
    prices = {o["price"] for o in new if o["client_order_id"] in refused}
    if last["price"] not in prices:
        if placeable:
            yield Place(leg="STOP", side=side, kind="STOP", qty=qty, price=last["price"])
    elif newest_of(orders, "EXIT", refused):
        yield Lock(f"trade {trade['trade_id']} is open, and the broker rejected its stop and its exit ({no['reason']})")
    elif is_open and not exiting:
        yield Lock(f"the broker rejected the stop of trade {trade['trade_id']} ({no['reason']})")
        yield _market(trade, qty, "stop_refused")


def _differs(order: Row, qty: Decimal, price: Decimal | None) -> bool:
    return bool((order["qty"] - filled(order), order["price"]) != (qty, price))


def _overshot(
    trade: Row, orders: Sequence[Row], exits: Sequence[Row], excess: Decimal, refused: Collection[str], *, is_open: bool
) -> Iterator[Action]:
    """Exits filled more than the position: cancels the other exits and trades the excess back."""
    side: Side = "BUY" if trade["side"] == "LONG" else "SELL"
    yield Lock(f"trade {trade['trade_id']}: exits filled {excess:f} more than the position; the excess is closed")
    same_side = [o for o in exits if o["side"] != side]
    if same_side:
        yield from (Drop(o, "overshot") if local(o) else Cancel(o) for o in same_side if o["state"] not in IN_FLIGHT)
    elif is_open and newest_of(orders, "EXIT", refused) is None:
        yield from (Send(o, excess) for o in exits if o["state"] == "CREATED")
        if not exits:
            yield Place(leg="EXIT", side=side, kind="MARKET", qty=excess, price=None, reason="both_legs_filled")


def _end_leg(order: Row, orders: Sequence[Row]) -> Action:
    """Ends a leg that has nothing left to protect or to exit."""
    if local(order) or order["state"] == "CREATED":
        unfilled_entry = next((o for o in orders if o["leg"] == "ENTRY" and not adds(o) and not filled(o)), None)
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
