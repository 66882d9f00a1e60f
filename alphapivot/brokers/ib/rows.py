"""Interactive Brokers' orders and executions as the port's. Numbers come as floats of short decimals: repr is exact."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import BrokerFill, BrokerOrder, Key, OrderState, Side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alphapivot.venues.ib.link import Told

STATES: dict[str, OrderState] = {
    "ApiPending": "NEW",
    "PendingSubmit": "NEW",
    "PreSubmitted": "NEW",  # at IB's servers: a stop waits there for its trigger
    "Submitted": "NEW",
    "PendingCancel": "PENDING_CANCEL",
    "ApiCancelled": "CANCELED",
    "Cancelled": "CANCELED",
    "Filled": "FILLED",
    "Inactive": "SUSPENDED",  # it may come alive: shares to borrow are being located
}
KINDS = {"MARKET": "MKT", "LIMIT": "LMT", "STOP": "STP"}
PRICED = ("STP", "LMT")
SIDES: dict[str, Side] = {"BUY": "BUY", "SELL": "SELL", "BOT": "BUY", "SLD": "SELL"}
UNSET = 1e300  # IB's "no value" is the largest double


def decimal(value: float | str | Decimal | None) -> Decimal | None:
    """None for IB's "no value"."""
    if value in (None, "") or abs(float(value)) > UNSET:
        return None
    return Decimal(str(value)).normalize() + 0


def filled(fills: Sequence[Any]) -> tuple[Decimal, Decimal | None]:
    """Quantity and average price of an order's executions, each in its newest version."""
    newest = {version(f.execution.execId)[0]: f.execution for f in sorted(fills, key=lambda f: f.execution.execId)}
    parts = [(decimal(e.shares) or Decimal(0), decimal(e.price) or Decimal(0)) for e in newest.values()]
    total = sum((qty for qty, _ in parts), Decimal(0))
    return total, sum((qty * price for qty, price in parts), Decimal(0)) / total if total else None


def version(exec_id: str) -> tuple[str, str]:
    """An execution and the number of its correction: IB's corrections differ after the last dot."""
    name, _, number = exec_id.rpartition(".")
    return name, number


def resting(trade: Any, told: Told | None, fills: Sequence[Any], key: Key) -> BrokerOrder:
    """An order of the list of open ones."""
    order, status = trade.order, told.status if told else trade.orderStatus.status
    qty, average = filled(fills)
    qty = max(qty, decimal(told.filled if told else 0) or Decimal(0))
    state = STATES.get(status, "NEW")
    if told and "child" in told.why_held and state == "NEW":
        state = "SUSPENDED"  # its entry has not filled
    if state == "NEW" and qty:
        state = "PARTIALLY_FILLED"
    return BrokerOrder(
        client_order_id=ours(order),
        broker_order_id=str(order.permId),
        state=state,
        cum_qty=qty,
        avg_price=average or (decimal(told.average) if told and qty else None),
        qty=decimal(order.totalQuantity),
        key=key,
        side=SIDES[order.action],
        price=price(order),
    )


def price(order: Any) -> Decimal | None:
    """The price of a stop or limit order; None for another."""
    return (
        decimal(order.auxPrice if order.orderType == "STP" else order.lmtPrice) if order.orderType in PRICED else None
    )


def completed(trade: Any, fills: Sequence[Any], key: Key) -> BrokerOrder:
    """An order of the list of completed ones, which has no quantity that can be relied on."""
    order, said = trade.order, trade.orderStatus.status
    qty, average = filled(fills)
    qty = max(qty, decimal(order.filledQuantity) or Decimal(0))
    state: OrderState = "FILLED" if said == "Filled" else "CANCELED"
    if said == "Inactive":
        state = "REJECTED"
    return BrokerOrder(
        client_order_id=ours(order),
        broker_order_id=str(order.permId),
        state=state,
        cum_qty=qty,
        avg_price=average,
        reason=f"Interactive Brokers: {said}" if state == "REJECTED" else None,
        key=key,
        side=SIDES[order.action],
    )


def fill(execution: Any, report: Any, value: Decimal) -> BrokerFill:
    """
    One execution. ``cash``: its notional, of futures too: over a round trip these are the profit, and the account's
    cash is told in the same way. ``value``: account currency per point and unit.
    """
    qty, price = decimal(execution.shares) or Decimal(0), decimal(execution.price) or Decimal(0)
    notional = qty * price * value
    fee = decimal(report.commission) if report.execId else None
    return BrokerFill(
        exec_id=version(execution.execId)[0],
        client_order_id=execution.orderRef if execution.orderRef.startswith("AP") else "",
        qty=qty,
        price=price,
        fee=fee or Decimal(0),
        cash=-notional if SIDES[execution.side] == "BUY" else notional,
        ts=execution.time.astimezone(UTC),
        broker_order_id=str(execution.permId),
    )


def ours(order: Any) -> str:
    """The client id if it is one of ours, else empty."""
    return order.orderRef if order.orderRef.startswith("AP") else ""
