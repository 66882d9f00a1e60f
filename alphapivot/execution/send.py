"""Sending committed orders: claim and commit, send, record the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping

from alphapivot.brokers.base import (
    Accepted,
    Answer,
    Attached,
    Duplicate,
    NotSent,
    OrderSpec,
    Rejected,
    Throttled,
    Unknown,
)
from alphapivot.execution import ledger
from alphapivot.execution.session import Session

CHUNK = 25  # orders claimed and recorded together


def send(session: Session, ids: Sequence[str]) -> None:
    """
    Claims, sends and records orders, a chunk at a time. The kill switch is asked before each: once it is thrown no
    entry goes out any more, exits do.
    """
    for first in range(0, len(ids), CHUNK):
        chunk = ids[first : first + CHUNK]
        with session.hub.engine.begin() as conn:
            legs = ledger.brackets(conn, chunk)
            claimed = ledger.claim(conn, chunk, session.fence, session.run.as_of, session.clock.now())
        rows, lines, messages = [], [], 0
        for order in claimed:
            mine = [o for o in legs if o["trade_id"] == order["trade_id"]]
            word = session.control().state
            if order["leg"] == "ENTRY" and word != "ACTIVE":
                denied = {"state": "DENIED", "reason": word.lower()}
                rows += [{"client_order_id": o["client_order_id"], **denied} for o in mine]
                lines.append(("denied", order["symbol"], order["client_order_id"], f"not sent: the book is {word}"))
                continue
            answer = session.broker.submit(_spec(session, order, mine))
            messages += 1
            rows += _answered(order, answer, mine)
            lines.append(
                (type(answer).__name__.lower(), order["symbol"], order["client_order_id"], _said(order, answer))
            )
            if isinstance(answer, Accepted):
                session.report.sent.append(order["client_order_id"])
            else:
                session.report.notes.append(_said(order, answer))
        with session.hub.engine.begin() as conn:
            ledger.set_orders(conn, rows, session.fence, session.clock.now())
            if messages:
                ledger.count_messages(conn, session.book, session.day, messages)
            session.note(conn, lines)


def _spec(session: Session, order: RowMapping, legs: Sequence[RowMapping]) -> OrderSpec:
    attached = tuple(
        Attached(o["client_order_id"], o["leg"], o["price"])
        for o in legs
        if order["leg"] == "ENTRY" and o["leg"] in ("STOP", "TARGET")
    )
    bracket = legs[0]["entry_id"]
    return OrderSpec(
        order["client_order_id"],
        bracket,
        order["leg"],
        order["symbol"],
        order["market"],
        order["contract"],
        order["side"],
        order["kind"],
        order["qty"],
        order["active_from"],
        order["price"],
        attached,
        session.rates.get(session.instruments[order["symbol"]].currency),
    )


def _answered(order: RowMapping, answer: Answer, legs: Sequence[RowMapping]) -> list[dict[str, Any]]:
    """The states that an answer proves: of the order, and of the legs that came with it."""
    mine = order["client_order_id"]
    attached = [o["client_order_id"] for o in legs if order["leg"] == "ENTRY" and o["leg"] in ("STOP", "TARGET")]
    match answer:
        case Accepted(ids):
            return [
                {"client_order_id": i, "state": "NEW" if i == mine else "SUSPENDED", "broker_order_id": ids.get(i)}
                for i in (mine, *attached)
            ]
        case Rejected(reason):
            return [{"client_order_id": mine, "state": "REJECTED", "reason": reason}] + [
                {"client_order_id": i, "state": "CANCELED", "reason": "entry rejected"} for i in attached
            ]
        case Throttled() | NotSent():
            return [{"client_order_id": mine, "state": "CREATED"}]
        case Duplicate() | Unknown():
            return [{"client_order_id": mine, "state": "UNKNOWN"}]  # the reconciliation that follows looks it up


def _said(order: RowMapping, answer: Answer) -> str:
    why = getattr(answer, "reason", "")
    what = f"{order['leg']} {order['side']} {order['qty']:f} {order['symbol']} {order['contract']}".rstrip()
    return f"{what}: {type(answer).__name__}" + (f", {why}" if why else "")
