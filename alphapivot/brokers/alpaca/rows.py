"""Alpaca's JSON rows in the port's words. What lacks a field or holds no number is an answer that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from alphapivot.brokers.alpaca.wire import Json
from alphapivot.brokers.base import BrokerFill, BrokerOrder, Key, OrderSpec, OrderState
from alphapivot.errors import Unavailable

STATES: dict[str, OrderState] = {
    "new": "NEW",
    "accepted": "NEW",
    "pending_new": "NEW",
    "accepted_for_bidding": "NEW",
    "pending_review": "NEW",
    "stopped": "NEW",
    "calculated": "NEW",
    "done_for_day": "NEW",  # good till cancelled: it works again tomorrow
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
KINDS = {"MARKET": "market", "LIMIT": "limit", "STOP": "stop"}
LEGS = {"STOP": "stop", "TARGET": "limit"}  # the type by which a bracket's leg is told


@contextmanager
def reading(what: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise Unavailable(f"Alpaca's {what} cannot be read: {type(error).__name__} {error}") from error


def order(row: Json, client_order_id: str, key: Callable[[str], Key]) -> BrokerOrder:
    """``key``: what a ticker is called here."""
    with reading("order"):
        state = STATES.get(row["status"])
        if state is None:
            raise Unavailable(f"order {row['id']} is in Alpaca's state {row['status']!r}, which is not known here")
        price = row.get("stop_price") or row.get("limit_price")
        done = Decimal(row.get("filled_qty") or 0)
        return BrokerOrder(
            client_order_id,
            str(row["id"]),
            "PARTIALLY_FILLED" if state == "NEW" and done else state,
            done,
            Decimal(row["filled_avg_price"]) if row.get("filled_avg_price") else None,
            f"Alpaca: {row['status']}" if state in ("REJECTED", "EXPIRED") else None,
            Decimal(row["qty"]) if row.get("qty") else None,
            key(row["symbol"]),
            "BUY" if row["side"] == "buy" else "SELL",
            Decimal(price) if price else None,
        )


def flat(rows: Sequence[Json]) -> Iterator[Json]:
    for row in rows:
        yield row
        yield from row.get("legs") or ()


def leg(entry: Json, leg: str) -> Json | None:
    """The bracket's first stop or target; what replaced it later has an id of ours."""
    legs = [row for row in entry.get("legs") or () if row.get("type") == LEGS[leg]]
    return next((row for row in legs if not row.get("replaces")), None)


def price(spec: OrderSpec) -> dict[str, str]:
    if spec.price is None:
        return {}
    return {"stop_price" if spec.kind == "STOP" else "limit_price": f"{spec.price:f}"}


def fill(row: Json) -> BrokerFill:
    qty, price = Decimal(row["qty"]), Decimal(row["price"])
    return BrokerFill(
        row["id"],
        "",
        qty,
        price,
        Decimal(0),  # Alpaca books fees by the day, not by the fill
        -qty * price if row["side"] == "buy" else qty * price,
        datetime.fromisoformat(row["transaction_time"]).astimezone(UTC),
        row["order_id"],
    )


def ours(row: Json) -> str:
    """The client id where it is one of ours; legs carry ids that Alpaca made up."""
    name = str(row.get("client_order_id", ""))
    return name if name.startswith("AP") else ""


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
