"""Sending committed orders: claim and commit, send, record the answer."""

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
    Duplicate,
    NotSent,
    OrderSpec,
    Rejected,
    Throttled,
    Unknown,
)
from alphapivot.errors import TradingHalted, Unavailable
from alphapivot.execution.book import control, orders
from alphapivot.execution.run.session import Session

CHUNK = 25  # orders claimed and recorded together
ATTEMPTS = 4  # of an order that a run sends while the broker throttles or is not reached
LONGEST_PAUSE = 30.0  # seconds


def send(session: Session, ids: Sequence[str]) -> None:
    """
    Claims, sends and records orders that are CREATED, a chunk at a time; those that the broker throttles or that never
    left are tried again after a pause, a few times.
    """
    left = list(ids)
    for attempt in range(ATTEMPTS):
        waits = [w for first in range(0, len(left), CHUNK) for w in _chunk(session, left[first : first + CHUNK])]
        left = [i for i, _ in waits]
        if not left or attempt == ATTEMPTS - 1:
            return
        session.pause(min(max(2.0**attempt, *(seconds for _, seconds in waits)), LONGEST_PAUSE))


def _chunk(session: Session, ids: Sequence[str]) -> list[tuple[str, float]]:
    """Those to try again, and how long the broker wants to be left alone."""
    with session.hub.engine.begin() as conn:
        legs = orders.brackets(conn, ids)
        claimed = orders.claim(conn, ids, session.fence, session.run.as_of, session.clock.now())
    rows: list[dict[str, Any]] = []
    lines, again, messages = [], [], 0
    for number, order in enumerate(claimed):
        mine = [o for o in legs if o["trade_id"] == order["trade_id"]]
        i, symbol = order["client_order_id"], order["symbol"]
        refusal = session.refusal(order["leg"])
        if refusal is not None:
            rows += [{"client_order_id": o, "state": "DENIED", "reason": refusal} for o in _with_legs(order, mine)]
            lines.append(("denied", symbol, i, f"not sent: {refusal}"))
            continue
        try:
            answer = _believed(session, order, mine, session.broker.submit(spec(session, order, mine)))
        except TradingHalted as error:  # the account does not let us in: nothing has arrived, nothing more will
            rows += [{"client_order_id": o["client_order_id"], "state": "CREATED"} for o in claimed[number:]]
            control.halt(session.hub, session.book, str(error), "alphapivot")
            lines.append(("halted", symbol, i, str(error)))
            session.report.notes.append(f"book {session.book} is halted: {error}")
            break
        messages += 1
        rows += _answered(order, answer, mine)
        lines.append((type(answer).__name__.lower(), symbol, i, _said(order, answer)))
        if isinstance(answer, Accepted):
            session.report.sent.append(i)
        else:
            session.report.notes.append(_said(order, answer))
        if isinstance(answer, Throttled | NotSent):
            again.append((i, answer.retry_after if isinstance(answer, Throttled) else 0.0))
    with session.hub.engine.begin() as conn:
        orders.set_orders(conn, rows, session.fence, session.clock.now())
        session.count(conn, messages)
        session.note(conn, lines)
    return again


def _believed(session: Session, order: RowMapping, legs: Sequence[RowMapping], answer: Answer) -> Answer:
    """
    A no to an id that was sent before is looked up before it is believed: the answer to the first send may be what was
    lost, and the order lives.
    """
    if not isinstance(answer, Rejected) or order["attempts"] < 2:
        return answer
    asked = [orders.ref({**o, "entry_id": legs[0]["entry_id"]}) for o in legs]
    try:
        seen = session.broker.find([r for r in asked if r.client_order_id in _with_legs(order, legs)], order["as_of"])
    except Unavailable as error:
        return Unknown(str(error))
    if isinstance(seen.get(order["client_order_id"]), Absent):
        return answer
    return Accepted({i: found.broker_order_id for i, found in seen.items() if isinstance(found, BrokerOrder)})


def _with_legs(order: RowMapping, legs: Sequence[RowMapping]) -> list[str]:
    """An entry's own id and those of the legs that depend on it."""
    held = [o["client_order_id"] for o in legs if order["leg"] == "ENTRY" and o["leg"] in ("STOP", "TARGET")]
    return [order["client_order_id"], *held]


def spec(session: Session, order: Mapping[Any, Any], legs: Sequence[RowMapping], **changes: Any) -> OrderSpec:
    """The order as sent, with ``changes`` of its row; an entry takes its legs along where the broker holds them."""
    row = {**order, **changes}
    bracket = row["leg"] == "ENTRY" and session.broker.caps.native_bracket
    attached = tuple(
        Attached(o["client_order_id"], o["leg"], o["price"]) for o in legs if bracket and o["leg"] in ("STOP", "TARGET")
    )
    return OrderSpec(
        row["client_order_id"],
        legs[0]["entry_id"],
        row["leg"],
        row["symbol"],
        row["market"],
        row["contract"],
        row["side"],
        row["kind"],
        row["qty"],
        row["active_from"],
        row["price"],
        attached,
        session.rates.get(session.instruments[row["symbol"]].currency),
        reduce_only=row["leg"] != "ENTRY" and session.broker.caps.reduce_only,
    )


def _answered(order: RowMapping, answer: Answer, legs: Sequence[RowMapping]) -> list[dict[str, Any]]:
    """The states that an answer proves: of the order, and of the legs that came with it."""
    mine, *attached = _with_legs(order, legs)
    match answer:
        case Accepted(ids):
            return [{"client_order_id": mine, "state": "NEW", "broker_order_id": ids.get(mine)}] + [
                {"client_order_id": i, "state": "SUSPENDED", "broker_order_id": ids[i]} for i in attached if i in ids
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
