"""
ccxt's orders and trades as the port's (https://docs.ccxt.com, order structure). Numbers come as text.

What is bought on spot may pay its fee in the coin itself, so that less is held than was filled. Such a fill counts as
what is kept of it, in whole steps of the market; the rest is its fee, in the account's currency at the price of the
fill. So cash and position are exact, and a stop is as large as what is held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import BrokerFill, BrokerOrder, Key, OrderState, Side, Unreadable
from alphapivot.money import to_tick

if TYPE_CHECKING:
    from alphapivot.brokers.ccxt.ledger import Stop
    from alphapivot.venues.ccxt.delivery import Delivery

Row = Mapping[str, Any]
STATES: dict[str, OrderState] = {
    "open": "NEW",
    "closed": "FILLED",
    "canceled": "CANCELED",
    "canceling": "PENDING_CANCEL",
    "expired": "EXPIRED",
    "rejected": "REJECTED",
}
FINAL = ("FILLED", "CANCELED", "REJECTED", "EXPIRED")
SIDES: Mapping[str, Side] = {"buy": "BUY", "sell": "SELL"}
UNREADABLE = (KeyError, TypeError, ValueError, InvalidOperation)
NONE = Decimal(0)


@dataclass(frozen=True)
class Terms:
    """Of one market: currency per unit and point (``value``), the coin that is traded, the account's currency."""

    key: Key
    coin: str
    currency: str
    step: Decimal
    value: Decimal


def number(value: Any) -> Decimal:
    """A number of an answer, exactly as it was written; 0 where there is none."""
    return Decimal(str(value or 0)).normalize() + 0


def instant(value: Any) -> datetime:
    return datetime.fromtimestamp(int(value) / 1000, UTC)


def order(row: Row, name: str, broker_order_id: str, key: Key, kept: Decimal | None = None) -> BrokerOrder | Unreadable:
    """``kept``: what is held of what it filled, where the fee was taken from that."""
    try:
        state, qty, filled = STATES[row["status"]], number(row["amount"]), number(row["filled"])
        if state == "NEW" and filled:
            state = "PARTIALLY_FILLED"
        if state == "FILLED" and filled < qty:
            state = "CANCELED"  # the rest was
        held = filled if kept is None else kept
        if state in FINAL and kept is not None:
            qty -= filled - kept
        return BrokerOrder(
            client_order_id=name,
            broker_order_id=broker_order_id,
            state=state,
            cum_qty=held,
            avg_price=number(row["average"]) if filled else None,
            reason=f"the exchange: {row['status']}" if state in ("REJECTED", "EXPIRED") else None,
            qty=qty,
            key=key,
            side=SIDES[row["side"]],
            price=number(row.get("triggerPrice") or row.get("price")) or None,
        )
    except UNREADABLE as error:
        return Unreadable(
            f"order {broker_order_id} cannot be read: {type(error).__name__} {error}", broker_order_id, key
        )


def forgotten(name: str, broker_order_id: str, key: Key) -> BrokerOrder:
    """An order without trades that the exchange shows no more: it was cancelled."""
    told = "the exchange shows it no more, and it has no trades"
    return BrokerOrder(name, broker_order_id, "CANCELED", NONE, None, told, key=key)


def fills(trades: Sequence[Row], name: str, broker_order_id: str, terms: Terms) -> list[BrokerFill | Unreadable]:
    """
    All trades of one order, oldest first. What is kept of each is rounded down so that their sum is; one of which not
    even a step is kept is a fee of the next.
    """
    told: list[BrokerFill | Unreadable] = []
    net, given, carried = NONE, NONE, NONE
    for row in sorted(trades, key=lambda t: (t.get("timestamp") or 0, str(t.get("id")))):
        try:
            made = _fill(row, name, broker_order_id, terms)
            fee_in_coin = in_coin(row, terms)
            buys = SIDES[row["side"]] == "BUY"
        except UNREADABLE as error:
            reason = f"trade {row.get('id')} cannot be read: {type(error).__name__} {error}"
            told.append(Unreadable(reason, broker_order_id, terms.key))
            continue
        if buys:
            net += made.qty - fee_in_coin
            kept = to_tick(net, terms.step, ROUND_FLOOR) - given
            fee = made.fee + (made.qty - kept) * made.price * terms.value + carried
            carried = NONE if kept else fee
            given += kept
            made = replace(made, qty=kept, fee=fee, cash=-kept * made.price * terms.value)
        if made.qty:
            told.append(made)
    return told


def _fill(row: Row, name: str, broker_order_id: str, terms: Terms) -> BrokerFill:
    qty, price = number(row["amount"]), number(row["price"])
    notional = qty * price * terms.value
    fee = sum((number(f["cost"]) for f in _fees(row) if f.get("currency") == terms.currency), NONE)
    return BrokerFill(
        exec_id=f"{row['symbol']}#{row['id']}",
        client_order_id=name,
        qty=qty,
        price=price,
        fee=fee,
        cash=-notional if SIDES[row["side"]] == "BUY" else notional,
        ts=instant(row["timestamp"]),
        broker_order_id=broker_order_id,
    )


def delivered(stop: Stop, told: Delivery) -> BrokerFill:
    """The end of a position with its contract, as an execution of the stop that was to protect it."""
    notional = stop.qty * told.price * stop.value
    return BrokerFill(
        exec_id=f"{stop.contract}#delivery",
        client_order_id=stop.client_order_id,
        qty=stop.qty,
        price=told.price,
        fee=told.fee,
        cash=-notional if stop.side == "BUY" else notional,
        ts=told.at,
        broker_order_id=stop.broker_order_id,
    )


def kept(trades: Sequence[Row], terms: Terms) -> Decimal:
    """What is held of an order's trades."""
    return sum((f.qty for f in fills(trades, "", "", terms) if isinstance(f, BrokerFill)), NONE)


def in_coin(row: Row, terms: Terms) -> Decimal:
    """The fee of a trade in the coin that is traded."""
    return sum((number(f["cost"]) for f in _fees(row) if f.get("currency") == terms.coin), NONE)


def elsewhere(trades: Sequence[Row], terms: Terms) -> dict[str, Decimal]:
    """Fees that were paid in other coins, such as BNB: they move no cash of this account."""
    sums: dict[str, Decimal] = {}
    for fee in (f for row in trades for f in _fees(row)):
        coin = str(fee.get("currency"))
        if coin not in (terms.coin, terms.currency) and number(fee.get("cost")):
            sums[coin] = sums.get(coin, NONE) + number(fee["cost"])
    return sums


def _fees(row: Row) -> Sequence[Row]:
    return row.get("fees") or ([row["fee"]] if row.get("fee") else [])
