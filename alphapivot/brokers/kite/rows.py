"""
Kite's orders and trades as the port's (https://kite.trade/docs/connect/v3/orders/). Numbers come as floats of short
decimals: their text is exact.

Large orders are sent in slices: all orders with one tag are one order of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from alphapivot.brokers.base import BrokerFill, BrokerOrder, Key, OrderState, Side, Unreadable
from alphapivot.venues.kite.login import INDIA

Row = Mapping[str, Any]
WORKS = ("OPEN", "MODIFIED", "UPDATE")
STATES: dict[str, OrderState] = {
    **dict.fromkeys(WORKS, "NEW"),
    "PUT ORDER REQ RECEIVED": "NEW",  # on its way: a reject may follow
    "VALIDATION PENDING": "NEW",
    "OPEN PENDING": "NEW",
    "TRIGGER PENDING": "NEW",
    "MODIFY VALIDATION PENDING": "NEW",
    "MODIFY PENDING": "NEW",
    "CANCEL PENDING": "PENDING_CANCEL",
    "COMPLETE": "FILLED",
    "CANCELLED": "CANCELED",
    "REJECTED": "REJECTED",
}
FINAL = ("FILLED", "CANCELED", "REJECTED", "EXPIRED")
SIDES: Mapping[str, Side] = {"BUY": "BUY", "SELL": "SELL"}
UNREADABLE = (KeyError, TypeError, ValueError, InvalidOperation)


@dataclass(frozen=True)
class Part:
    """One of the orders that are one order of ours. ``since``: when it last changed; ``rests``: open at a price."""

    id: str
    state: OrderState
    qty: Decimal
    filled: Decimal
    average: Decimal
    reason: str | None = None
    since: datetime | None = None
    rests: bool = False


def part(row: Row) -> Part:
    """Raises one of UNREADABLE for a row that makes no sense."""
    status = str(row["status"])
    return Part(
        id=str(row["order_id"]),
        state=STATES[status],
        qty=number(row["quantity"]),
        filled=number(row["filled_quantity"]),
        average=number(row["average_price"]),
        reason=f"Kite: {row.get('status_message') or status}" if status == "REJECTED" else None,
        since=instant(row.get("exchange_update_timestamp") or row["order_timestamp"]),
        rests=status in WORKS,
    )


def combined(parts: Sequence[Part], client_order_id: str, broker_order_id: str, **terms: Any) -> BrokerOrder:
    """One order of ours from its parts. What was rejected of several is not part of it."""
    kept = [p for p in parts if p.state != "REJECTED"] or list(parts)
    qty, filled = (sum((getattr(p, name) for p in kept), Decimal(0)) for name in ("qty", "filled"))
    spent = sum((p.filled * p.average for p in kept), Decimal(0))
    state, ended = _state(kept, qty, filled), kept[-1]
    return BrokerOrder(
        client_order_id=client_order_id,
        broker_order_id=broker_order_id,
        state=state,
        cum_qty=filled,
        avg_price=spent / filled if filled else None,
        reason=ended.reason if state in ("REJECTED", "EXPIRED") else None,
        qty=qty,
        **terms,
    )


def _state(parts: Sequence[Part], qty: Decimal, filled: Decimal) -> OrderState:
    states = {p.state for p in parts}
    if working := states - {*FINAL}:
        if working == {"PENDING_CANCEL"}:
            return "PENDING_CANCEL"
        return "PARTIALLY_FILLED" if filled else "NEW"
    if filled == qty:
        return "FILLED"
    return next(state for state in ("REJECTED", "EXPIRED", "CANCELED", "FILLED") if state in states)


def order(rows: Sequence[Row], client_order_id: str, key: Key, now: datetime, chase: int) -> BrokerOrder | Unreadable:
    """
    ``rows``: the orders of one tag, oldest first. ``chase``: seconds after which one that rests at a price is to be
    sent again, if it is a stop or an exit: both are to fill at once.
    """
    first = rows[0]
    try:
        parts = [part(row) for row in rows]
        return combined(
            parts,
            client_order_id,
            parts[0].id,
            key=key,
            side=SIDES[first["transaction_type"]],
            price=price(first),
            renew=rests(parts, now, chase),
        )
    except UNREADABLE as error:
        reason = f"Kite's order {first.get('order_id')} cannot be read: {type(error).__name__} {error}"
        return Unreadable(reason, str(first.get("order_id")), key)


def price(row: Row) -> Decimal | None:
    """The price at which an order becomes one, or at which it rests; None at market."""
    if row["order_type"] == "MARKET":
        return None
    return number(row.get("trigger_price") or row.get("price") or 0) or None


def rests(parts: Iterable[Part], now: datetime, chase: int) -> str | None:
    """Why a stop that was triggered, or an exit, is to be sent again; None while it may still fill at once."""
    old = [p for p in parts if p.rests and p.since is not None and (now - p.since).total_seconds() >= chase]
    return f"{old[0].qty - old[0].filled:f} rest unfilled: the price has gone past their limit" if old else None


def fill(row: Row, client_order_id: str, broker_order_id: str, key: Key, value: Decimal) -> BrokerFill | Unreadable:
    """
    One execution. ``cash``: its notional, of futures too, as the account's cash is told. ``value``: rupees per point.
    Charges are not in the API: Zerodha books them by the day.
    """
    try:
        qty, price = number(row["quantity"]), number(row["average_price"])
        ts = instant(row["fill_timestamp"] or row["exchange_timestamp"])
        notional = qty * price * value
        return BrokerFill(
            exec_id=f"{ts.astimezone(INDIA):%Y%m%d}-{row['exchange']}-{row['trade_id']}",  # unique within the day
            client_order_id=client_order_id,
            qty=qty,
            price=price,
            fee=Decimal(0),
            cash=-notional if SIDES[row["transaction_type"]] == "BUY" else notional,
            ts=ts,
            broker_order_id=broker_order_id,
        )
    except UNREADABLE as error:
        reason = f"Kite's trade {row.get('trade_id')} cannot be read: {type(error).__name__} {error}"
        return Unreadable(reason, broker_order_id, key)


def number(value: float | str) -> Decimal:
    """A number of Kite's JSON, exactly as it was written."""
    return Decimal(str(value)).normalize() + 0


def instant(value: datetime | str) -> datetime:
    """Kite's times are India's, without saying so; its client reads some of them."""
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return at.replace(tzinfo=INDIA).astimezone(UTC)


def tag(row: Row) -> str:
    """Our id of an order; empty for one that is not ours."""
    name = str(row.get("tag") or "")
    return name if name.startswith(("AP", "TEST-")) else ""
