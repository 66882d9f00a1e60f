"""
Order states, and the transition that an observation at the broker proves: pure.

CREATED -> PENDING_NEW -> NEW | REJECTED | UNKNOWN; NEW -> PARTIALLY_FILLED -> FILLED. Unknown is a state, not a
reject; an order that is final at the broker becomes final here only when all of its fills have been read.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from alphapivot.brokers.base import Absent, BrokerOrder, Unreadable

TERMINAL = frozenset({"FILLED", "CANCELED", "REPLACED", "REJECTED", "EXPIRED", "DENIED", "ABANDONED"})
WORKING = frozenset({"NEW", "PARTIALLY_FILLED"})  # resting at the broker, may fill
RENEWED = "renewed: "  # begins the reason of a cancel after which the same is to be placed again
IN_FLIGHT = frozenset({"PENDING_NEW", "UNKNOWN"})  # may or may not have reached the broker


def local(order: Mapping[Any, Any]) -> bool:
    """True if the order was committed and never sent: the broker does not have it."""
    return order["broker_order_id"] is None and (
        order["state"] == "SUSPENDED" or (order["state"] in ("CREATED", "PENDING_CANCEL") and order["attempts"] == 0)
    )


def observed(
    order: Mapping[Any, Any],
    seen: BrokerOrder | Absent | Unreadable,
    filled: Decimal,
    *,
    proof: bool,
    amends: bool = False,
) -> dict[str, Any] | None:
    """
    Returns the update of a non-final order from ``seen``; None if it proves nothing new or is a mismatch. What
    contradicts itself (see ``contradiction``) is booked as far as it has filled. What rests without doing its work is
    to be cancelled: the next step of its trade places it again.

    ``filled``: sum of the fills read. ``proof``: the broker enforces unique ids, so that an absent order cannot turn up
    later beside the same id sent again. ``amends``: a change is made to the order itself, so it has arrived if the
    quantity and the price say so; whatever they are, they are what works.
    """
    state = order["state"]
    if isinstance(seen, Unreadable):
        return None
    if isinstance(seen, Absent):
        if state in IN_FLIGHT and order["leg"] != "TARGET":
            return _row(order, "CREATED" if proof else "UNKNOWN", None)
        if state == "PENDING_CANCEL" and proof and order["broker_order_id"] is None:
            return _row(order, "CANCELED", None)
        return None
    new, cum = seen.state, max(seen.cum_qty, filled, order["cum_qty"])
    reason = seen.reason or ("rejected by the broker" if new == "REJECTED" else None)
    final = new in TERMINAL and seen.cum_qty <= filled
    qty = max(seen.qty or order["qty"], cum)
    if new == "FILLED" and final and cum < qty:
        new = "CANCELED"
    if not final and (state == "PENDING_CANCEL" or (state == "PENDING_REPLACE" and not (proof or amends))):
        new = state  # the cancel or replace is requested again until it is done or too late
    elif not final and new in TERMINAL:
        new = "PARTIALLY_FILLED"  # its fills have not been read yet
    if seen.renew is not None and new in WORKING:
        new, reason = "PENDING_CANCEL", RENEWED + seen.renew
    return _row(order, new, reason) | {
        "cum_qty": cum,
        "avg_price": seen.avg_price,
        "broker_order_id": seen.broker_order_id,
        "qty": None if seen.qty is None and cum <= order["qty"] else qty,
        "price": seen.price if amends and new in WORKING else None,
    }


def contradiction(order: Mapping[Any, Any], seen: BrokerOrder | Absent | Unreadable, filled: Decimal) -> str | None:
    """What the broker says of an order that cannot be true, or None."""
    name = f"order {order['client_order_id']} ({order['leg']} {order['side']} {order['qty']:f})"
    if isinstance(seen, Unreadable):
        return f"{name}: {seen.reason}"
    if isinstance(seen, Absent):
        return None
    cum, qty = max(seen.cum_qty, filled), seen.qty or order["qty"]
    if cum > qty:
        return f"{name}: the broker filled {cum:f} of {qty:f}"
    if seen.state == "FILLED" and cum < qty:
        return f"{name}: the broker calls it filled, and {cum:f} of {qty:f} have filled"
    return None


def _row(order: Mapping[Any, Any], state: str, reason: str | None) -> dict[str, Any]:
    return {"client_order_id": order["client_order_id"], "state": state, "reason": reason}
