"""Orders at the broker that this book did not send, or that are final here: cancelled, or left with a lock."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from alphapivot.brokers.base import BrokerOrder, Ref, Unreadable
from alphapivot.execution.book import ledger, orders
from alphapivot.execution.book.states import TERMINAL

if TYPE_CHECKING:
    from alphapivot.execution.run.session import Session

Resting = BrokerOrder | Unreadable


def foreign(session: Session, mismatched: Collection[str]) -> None:
    """
    Deals with each order at the broker that is not ours as [execution] foreign_orders says: it is cancelled, asked
    again at each run until it is gone, or adopted (it stays, its symbol is locked). An order that may protect a
    position which our fills do not explain, in the symbols ``mismatched``, and one with an id of ours that the ledger
    does not have are always adopted. An order of ours that is final here but working there is cancelled.
    """
    resting = session.broker.open_orders()
    with session.hub.engine.begin() as conn:
        ours = [o for o in orders.of_open_trades(conn, session.book) if o["state"] not in TERMINAL]
        known = {i for o in ours for i in (o["client_order_id"], o["broker_order_id"]) if i is not None}
        unexpected = [o for o in resting if not {_our_id(o), o.broker_order_id} & known]
        cancelling = orders.cancelling(conn, session.book)
        if not unexpected and not cancelling:
            return
        ended = {o["client_order_id"]: o for o in orders.ended(conn, session.book, [_our_id(o) for o in unexpected])}
        handled = orders.handled(conn, session.book, [o.broker_order_id or "" for o in unexpected])
        strangers = [o for o in unexpected if _our_id(o) not in ended and o.broker_order_id not in handled]
        cancel = session.settings.execution.foreign_orders == "cancel"
        adopted = [o for o in strangers if not cancel or not _explained(o, mismatched)]
        cancelled = [o for o in strangers if o not in adopted]
        _record(session, conn, adopted, "adopted")
        _record(session, conn, cancelled, "cancelling")
        session.block(conn, {o.key[0]: _described(o, "adopted") for o in adopted if o.key})
    again = [o for o in resting if o.broker_order_id in cancelling and _explained(o, mismatched)]
    session.tell(*(_described(o, "its cancel was not confirmed, asked again") for o in again))
    for order in (*again, *cancelled):
        session.broker.cancel(Ref(_our_id(order), order.broker_order_id, _our_id(order), "EXIT"))
    for row in ended.values():
        session.broker.cancel(orders.ref(row))
    if cancelling or cancelled:
        _confirm(session, {*cancelling, *(o.broker_order_id for o in cancelled)})


def _confirm(session: Session, cancelling: Collection[str | None]) -> None:
    """Notes the orders that are gone now."""
    rest = {o.broker_order_id for o in session.broker.open_orders()}
    gone = sorted(i for i in cancelling if i is not None and i not in rest)
    lines = [f"order {i}, which is not ours, is cancelled" for i in gone]
    with session.hub.engine.begin() as conn:
        orders.cancelled(conn, session.book, gone)
        session.note(conn, [("foreign", None, None, line) for line in lines])
    session.tell(*lines)


def _explained(order: Resting, mismatched: Collection[str]) -> bool:
    ours = orders.looks_ours(_our_id(order))
    return isinstance(order, BrokerOrder) and not (ours or (order.key and order.key[0] in mismatched))


def _record(session: Session, conn: Connection, strangers: Sequence[Resting], what: str) -> None:
    at = session.clock.now()
    rows = [_row(o, session.book, what) | {"seen_at": at} for o in strangers if o.broker_order_id]
    ledger.insert(conn, "foreign_order", rows)
    done = "its cancel is requested" if what == "cancelling" else what
    session.note(conn, [("foreign", o.key and o.key[0], None, _described(o, done)) for o in strangers])
    session.tell(*(_described(o, done) for o in strangers))


def _row(order: Resting, book: str, what: str) -> dict[str, Any]:
    symbol, market, contract = order.key or (None, None, None)
    return {
        "book": book,
        "broker_order_id": order.broker_order_id,
        "symbol": symbol,
        "market": market,
        "contract": contract,
        "side": getattr(order, "side", None),
        "qty": getattr(order, "qty", None),
        "what": what,
    }


def _our_id(order: Resting) -> str:
    return order.client_order_id if isinstance(order, BrokerOrder) else ""


def _described(order: Resting, what: str) -> str:
    if isinstance(order, Unreadable):
        return f"order {order.broker_order_id} is not ours and cannot be read: {what} ({order.reason})"
    where = " ".join(p for p in order.key or () if p)
    text = f"order {order.broker_order_id} ({order.side} {order.qty} {where})"
    if orders.looks_ours(order.client_order_id):
        return f"{text} has an id of ours, {order.client_order_id}, that the ledger does not know: {what}"
    return f"{text} is not ours: {what}"
