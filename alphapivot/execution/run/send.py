"""Sends committed orders: claim and commit, send, record the reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping

from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Answer,
    Attached,
    BrokerOrder,
    Denied,
    Duplicate,
    NotSent,
    OrderSpec,
    Rejected,
    Throttled,
    Unknown,
)
from alphapivot.errors import TradingHalted, Unavailable
from alphapivot.execution.book import control, orders
from alphapivot.execution.book.states import local
from alphapivot.execution.run.session import Session

CHUNK = 25  # orders claimed and recorded together
ATTEMPTS = 4  # per order and run, while the broker throttles or cannot be reached
LONGEST_PAUSE = 30.0  # seconds


def send(session: Session, ids: Sequence[str]) -> None:
    """
    Claims, sends and records orders that are CREATED, in chunks; orders that the broker throttled or that were not sent
    are retried after a pause, a few times.
    """
    unsent = list(ids)
    for attempt in range(ATTEMPTS):
        waits = [w for first in range(0, len(unsent), CHUNK) for w in _chunk(session, unsent[first : first + CHUNK])]
        unsent = [i for i, _ in waits]
        if not unsent or attempt == ATTEMPTS - 1:
            return
        session.pause(min(max(2.0**attempt, *(seconds for _, seconds in waits)), LONGEST_PAUSE))


def _chunk(session: Session, ids: Sequence[str]) -> list[tuple[str, float]]:
    """Sends one chunk; returns (id, seconds to wait) of the orders to retry."""
    with session.hub.engine.begin() as conn:
        legs = orders.brackets(conn, ids)
        claimed = orders.claim(conn, ids, session.fence, session.run.as_of, session.clock.now())
    rows: list[dict[str, Any]] = []
    lines, retries, messages = [], [], 0
    for number, order in enumerate(claimed):
        trade_legs = [o for o in legs if o["trade_id"] == order["trade_id"]]
        i, symbol = order["client_order_id"], order["symbol"]
        refusal = session.refusal(order["leg"])
        if refusal is not None:
            rows += [
                {"client_order_id": o, "state": "DENIED", "reason": refusal} for o in _with_legs(order, trade_legs)
            ]
            lines.append(("denied", symbol, i, f"not sent: {refusal}"))
            continue
        try:
            reply = session.broker.submit(spec(session, order, trade_legs))
            reply = _verified(session, order, trade_legs, reply)
        except TradingHalted as error:  # the account refuses access: nothing has arrived, nothing more will
            rows += [{"client_order_id": o["client_order_id"], "state": "CREATED"} for o in claimed[number:]]
            control.halt(session.hub, session.book, str(error), "alphapivot")
            lines.append(("halted", symbol, i, str(error)))
            session.report.notes.append(f"book {session.book} is halted: {error}")
            break
        messages += not isinstance(reply, Denied)
        rows += _updates(order, reply, trade_legs)
        lines.append((type(reply).__name__.lower(), symbol, i, answered(order, reply)))
        if isinstance(reply, Rejected):
            session.refused.add(i)
        if isinstance(reply, Accepted):
            session.report.sent.append(i)
        else:
            session.report.notes.append(answered(order, reply))
        if isinstance(reply, Throttled | NotSent):
            retries.append((i, reply.retry_after if isinstance(reply, Throttled) else 0.0))
    with session.hub.engine.begin() as conn:
        orders.set_orders(conn, rows, session.fence, session.clock.now())
        session.count(conn, messages)
        session.note(conn, lines)
    return retries


def _verified(session: Session, order: RowMapping, legs: Sequence[RowMapping], reply: Answer) -> Answer:
    """
    Looks up an order whose id was sent before and is now rejected: the reply to the first send may have been lost, and
    the order may exist.
    """
    if not isinstance(reply, Rejected) or order["attempts"] < 2:
        return reply
    refs = [orders.ref({**o, "entry_id": legs[0]["entry_id"]}) for o in legs]
    try:
        seen = session.broker.find([r for r in refs if r.client_order_id in _with_legs(order, legs)], order["as_of"])
    except Unavailable as error:
        return Unknown(str(error))
    if isinstance(seen.get(order["client_order_id"]), Absent):
        return reply
    return Accepted({i: o.broker_order_id for i, o in seen.items() if isinstance(o, BrokerOrder)})


def _with_legs(order: RowMapping, legs: Sequence[RowMapping]) -> list[str]:
    """A first entry's own id and those of the legs that depend on it; of another order its own alone."""
    first = order["leg"] == "ENTRY" and not orders.adds(order)
    held = [o["client_order_id"] for o in legs if first and o["leg"] in ("STOP", "TARGET")]
    return [order["client_order_id"], *held]


def spec(session: Session, order: Mapping[Any, Any], legs: Sequence[RowMapping], **changes: Any) -> OrderSpec:
    """The order to send, with ``changes`` to its row; an entry carries its legs if the broker has native brackets."""
    row = {**order, **changes}
    bracket = row["leg"] == "ENTRY" and not orders.adds(row) and session.broker.caps.native_bracket
    attached = tuple(
        Attached(o["client_order_id"], o["leg"], o["price"]) for o in legs if bracket and o["leg"] in ("STOP", "TARGET")
    )
    return OrderSpec(
        client_order_id=row["client_order_id"],
        bracket=legs[0]["entry_id"],
        leg=row["leg"],
        symbol=row["symbol"],
        market=row["market"],
        contract=row["contract"],
        side=row["side"],
        kind=row["kind"],
        qty=row["qty"],
        active_from=row["active_from"],
        price=row["price"],
        attached=attached,
        fx=session.rates.get(session.instruments[row["symbol"]].currency),
        reduce_only=row["leg"] != "ENTRY" and session.broker.caps.reduce_only,
        stop=next((o["price"] for o in legs if o["leg"] == "STOP"), None) if row["leg"] == "ENTRY" else None,
        target=next((o["price"] for o in legs if o["leg"] == "TARGET" and local(o)), None)
        if row["leg"] == "STOP"
        else None,
    )


def _updates(order: RowMapping, reply: Answer, legs: Sequence[RowMapping]) -> list[dict[str, Any]]:
    """The order states that a reply proves: of the order and of its attached legs."""
    order_id, *attached = _with_legs(order, legs)
    match reply:
        case Accepted(ids):
            return [{"client_order_id": order_id, "state": "NEW", "broker_order_id": ids.get(order_id)}] + [
                {"client_order_id": i, "state": "SUSPENDED", "broker_order_id": ids[i]} for i in attached if i in ids
            ]
        case Rejected(reason):
            return [{"client_order_id": order_id, "state": "REJECTED", "reason": reason}] + [
                {"client_order_id": i, "state": "CANCELED", "reason": "entry rejected"} for i in attached
            ]
        case Denied(reason):
            return [{"client_order_id": i, "state": "DENIED", "reason": reason} for i in (order_id, *attached)]
        case Throttled() | NotSent():
            return [{"client_order_id": order_id, "state": "CREATED"}]
        case Duplicate() | Unknown():
            return [{"client_order_id": order_id, "state": "UNKNOWN"}]  # looked up by the next reconciliation


def answered(order: Mapping[Any, Any], reply: Answer) -> str:
    """An order and the broker's answer, in words."""
    reason = getattr(reply, "reason", "")
    terms = f"{order['leg']} {order['side']} {order['qty']:f} {order['symbol']} {order['contract']}".rstrip()
    return f"{terms}: {type(reply).__name__}" + (f", {reason}" if reason else "")
