"""
Converts Alpaca's JSON rows into the port's types. An order or a fill that cannot be read becomes Unreadable; elsewhere
a missing field or an invalid number raises Unavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from alphapivot.brokers.alpaca.wire import Json
from alphapivot.brokers.base import BrokerFill, BrokerOrder, Key, OrderSpec, OrderState, Side, Unreadable
from alphapivot.errors import Unavailable

STATES: dict[str, OrderState] = {
    "new": "NEW",
    "accepted": "NEW",
    "pending_new": "NEW",
    "accepted_for_bidding": "NEW",
    "pending_review": "NEW",
    "stopped": "NEW",
    "calculated": "NEW",
    "done_for_day": "NEW",  # good till cancelled: it works again the next day
    "partially_filled": "PARTIALLY_FILLED",
    "filled": "FILLED",
    "held": "SUSPENDED",
    "suspended": "SUSPENDED",
    "pending_cancel": "PENDING_CANCEL",
    "pending_replace": "PENDING_REPLACE",
    "replaced": "REPLACED",
    "canceled": "CANCELED",
    "rejected": "REJECTED",
    "expired": "EXPIRED",
}
FINAL = ("FILLED", "CANCELED", "REPLACED", "REJECTED", "EXPIRED")
SIDES: Mapping[str, Side] = {"buy": "BUY", "sell": "SELL"}
KINDS = {"MARKET": "market", "LIMIT": "limit", "STOP": "stop"}
LEGS = {"STOP": "stop", "TARGET": "limit"}  # leg -> Alpaca's order type of a bracket's leg


@contextmanager
def reading(what: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise Unavailable(f"Alpaca's {what} cannot be read: {type(error).__name__} {error}") from error


UNREADABLE = (KeyError, TypeError, ValueError, InvalidOperation)


def order(
    row: Json, client_order_id: str, key: Callable[[str], Key], *, in_place: bool = False
) -> BrokerOrder | Unreadable:
    """
    ``key``: function from Alpaca's ticker to our key. ``in_place``: the entry of this leg has filled, so that a held
    stop protects: Alpaca routes it when its price is reached.
    """
    try:
        state = "NEW" if in_place and row["status"] == "held" else STATES[row["status"]]
        if state == "REPLACED" and not row.get("replaced_by"):
            state = "CANCELED"  # so Alpaca calls a take-profit whose stop was reached
        price = row.get("stop_price") or row.get("limit_price")
        filled = Decimal(row.get("filled_qty") or 0)
        return BrokerOrder(
            client_order_id=client_order_id,
            broker_order_id=str(row["id"]),
            state="PARTIALLY_FILLED" if state == "NEW" and filled else state,
            cum_qty=filled,
            avg_price=Decimal(row["filled_avg_price"]) if row.get("filled_avg_price") else None,
            reason=f"Alpaca: {row['status']}" if state in ("REJECTED", "EXPIRED") else None,
            qty=Decimal(row["qty"]) if row.get("qty") else None,
            key=key(row["symbol"]),
            side=SIDES[row["side"]],
            price=Decimal(price) if price else None,
            replaced_by=row.get("replaced_by"),
        )
    except UNREADABLE as error:
        return unreadable("order", row, row.get("id"), key, error)


def unreadable(what: str, row: Json, order_id: str | None, key: Callable[[str], Key], error: Exception) -> Unreadable:
    symbol = row.get("symbol")
    kind = f" ({row['order_class']})" if row.get("order_class") else ""
    reason = f"Alpaca's {what} {row.get('id')}{kind} cannot be read: {type(error).__name__} {error}"
    return Unreadable(reason, order_id, key(symbol) if symbol else None)


def flat(rows: Sequence[Json]) -> Iterator[tuple[Json, bool]]:
    """Each order and each leg, with whether it is a leg whose entry has filled in full."""
    for row in rows:
        yield row, False
        for leg in row.get("legs") or ():
            yield leg, row.get("status") == "filled"


def leg(entry: Json, leg: str) -> Json | None:
    """The bracket's original stop or target; its later replacements have our ids."""
    legs = [row for row in entry.get("legs") or () if row.get("type") == LEGS[leg]]
    return next((row for row in legs if not row.get("replaces")), None)


def price(spec: OrderSpec) -> dict[str, str]:
    if spec.price is None:
        return {}
    return {"stop_price" if spec.kind == "STOP" else "limit_price": f"{spec.price:f}"}


def fill(row: Json, key: Callable[[str], Key]) -> BrokerFill | Unreadable:
    try:
        qty, price, side = Decimal(row["qty"]), Decimal(row["price"]), SIDES[row["side"].removesuffix("_short")]
        return BrokerFill(
            exec_id=row["id"],
            client_order_id="",
            qty=qty,
            price=price,
            fee=Decimal(0),  # Alpaca books fees by the day, not by the fill
            cash=-qty * price if side == "BUY" else qty * price,
            ts=datetime.fromisoformat(row["transaction_time"]).astimezone(UTC),
            broker_order_id=row["order_id"],
        )
    except UNREADABLE as error:
        return unreadable("fill", row, row.get("order_id"), key, error)


def quantity(value: str | None) -> Decimal:
    """NaN if it cannot be read."""
    try:
        return Decimal(value or "NaN")
    except InvalidOperation:
        return Decimal("NaN")


def ours(row: Json) -> str:
    """The client id if it is one of ours, else empty; Alpaca generates the ids of legs."""
    name = str(row.get("client_order_id", ""))
    return name if name.startswith("AP") else ""


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
