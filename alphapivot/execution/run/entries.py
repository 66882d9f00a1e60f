"""
Sends committed entries once their market takes orders, after checking those that waited again.

Between the decision and the open the book may have hit a loss limit, another trade may have used up the limits, or a
score may have changed: a waiting entry passes every gate again before it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from alphapivot.execution.book import ledger, orders
from alphapivot.execution.decide.decide import recheck
from alphapivot.execution.decide.facts import Plan
from alphapivot.execution.market import market
from alphapivot.execution.run import roll
from alphapivot.execution.run.adjust import latest
from alphapivot.execution.run.gather import gather
from alphapivot.execution.run.send import send
from alphapivot.execution.run.session import Session
from alphapivot.money import to_tick

TEXT_FIELDS = ("side", "capped_by")
PLANS = """
    SELECT o.client_order_id, d.plan FROM trading.orders o JOIN trading.intent i USING (intent_id)
    JOIN trading.decision d USING (decision_id) WHERE o.client_order_id = ANY(:ids)
"""


def send_entries(session: Session) -> bool:
    """
    Sends the committed entries and additions whose market takes orders; the others wait, and while the clocks differ
    all do, even those whose time seems to be over. One that has expired, whose symbol is locked, or that a gate now
    denies is never sent; one that an operator must approve waits for that too. Returns True if anything changed.
    """
    now = session.clock.now()
    with session.hub.engine.connect() as conn:
        rows = orders.of_open_trades(conn, session.book)
        waiting = [o for o in rows if o["leg"] == "ENTRY" and o["state"] == "CREATED"]
        if not waiting:
            return False
        locked = ledger.locks(conn, session.book)
        rolled = [o["trade_id"] for o in waiting if o["rolled_from"] is not None and not orders.adds(o)]
        rolled_qty = roll.ready(conn, rolled)
        rolled_qty |= {
            o["trade_id"]: _in_lots(session, o, qty) for o in waiting if (qty := rolled_qty.get(o["trade_id"]))
        }
    events = latest(session.events)
    ended: dict[str, tuple[str, str]] = {}
    ready: list[RowMapping] = []
    for order in waiting:
        i, trade_id, symbol = order["client_order_id"], order["trade_id"], order["symbol"]
        over = session.skew is None and (order["expires"] or order["as_of"]) <= now
        if over and order["as_of"] < session.run.as_of:
            ended[i] = "EXPIRED", "not_approved_in_time" if order["unapproved"] else "not_sent_in_time"
        elif symbol in locked or symbol in session.apart:
            ended[i] = "DENIED", "locked"
        elif symbol in events and events[symbol].ts >= order["as_of"]:
            ended[i] = "DENIED", events[symbol].kind  # it was sized before
        elif trade_id in rolled_qty and rolled_qty[trade_id] == 0:
            ended[i] = "DENIED", "nothing_to_roll"
        elif note := _waits(session, order, rolled_qty):
            session.tell(note)
        else:
            ready.append(order)
    again = [o for o in ready if o["as_of"] < session.run.as_of or o["to_approve"]]
    denied = _denied(session, [o for o in again if o["trade_id"] not in rolled_qty])
    ended |= {i: ("DENIED", reason) for i, reason in denied.items()}
    ready = [o for o in ready if o["client_order_id"] not in ended]
    with session.hub.engine.begin() as conn:
        _end(session, conn, rows, ended)
        resized = [o for o in ready if rolled_qty.get(o["trade_id"], o["qty"]) != o["qty"]]
        updates = [
            {"client_order_id": o["client_order_id"], "state": "CREATED", "qty": rolled_qty[o["trade_id"]]}
            for o in resized
        ]
        orders.set_orders(conn, updates, session.fence, now)
    if ready:
        send(session, [o["client_order_id"] for o in ready])
    return bool(ready or ended)


def _waits(session: Session, order: RowMapping, rolled_qty: Mapping[int, Decimal | None]) -> str:
    """What an entry that may be sent waits for; empty: nothing. ``rolled_qty``: see ``roll.ready``."""
    symbol = order["symbol"]
    if rolled_qty.get(order["trade_id"], order["qty"]) is None:
        return f"the roll of {symbol} waits for the exit from its old contract"
    what = f"the addition to {symbol}" if orders.adds(order) else f"the entry in {symbol}"
    if order["unapproved"]:
        until = f" until {order['expires']:%Y-%m-%d %H:%M} UTC" if order["expires"] else ""
        return f"{what} waits for approval{until}: `alphapivot approve {symbol} --reason ...`"
    if session.skew is not None:
        return f"{what} waits until the clocks agree"
    if not session.is_open((symbol, order["market"], order["contract"])):
        return f"{what} waits: its market is closed"
    return ""


def _in_lots(session: Session, order: RowMapping, qty: Decimal) -> Decimal:
    """As much of ``qty`` as the lot of the order's contract allows: it may differ from that of the contract before."""
    terms = session.instruments[order["symbol"]].of(order["contract"], order["as_of"])
    return to_tick(qty, terms.lot, ROUND_FLOOR)


def _end(session: Session, conn: Connection, rows: Sequence[RowMapping], ended: Mapping[str, tuple[str, str]]) -> None:
    """Ends entries that will never be sent, first ones with their legs. ``ended``: their ids -> (state, reason)."""
    firsts = {o["trade_id"]: o["client_order_id"] for o in rows if o["leg"] == "ENTRY" and not orders.adds(o)}
    unsent = [
        (o, ended[i])
        for o in rows
        if o["state"] == "CREATED" and (i := o["client_order_id"] if orders.adds(o) else firsts[o["trade_id"]]) in ended
    ]
    updates = [{"client_order_id": o["client_order_id"], "state": state, "reason": why} for o, (state, why) in unsent]
    orders.set_orders(conn, updates, session.fence, session.clock.now())
    session.note(conn, [_line(o, *how) for o, how in unsent if o["leg"] == "ENTRY"])


def _denied(session: Session, waited: Sequence[RowMapping]) -> dict[str, str]:
    """Id of a waiting entry -> the reasons of the gates that now deny the entry."""
    if not waited:
        return {}
    fronts, priced = market.priced(session)
    facts, _ = gather(session, priced, fronts)
    with session.hub.engine.connect() as conn:
        plans = dict(conn.execute(text(PLANS), {"ids": [o["client_order_id"] for o in waited]}).tuples().all())
    reasons = recheck(facts, {o["symbol"]: _plan(plans[o["client_order_id"]]) for o in waited})
    return {o["client_order_id"]: ", ".join(reasons[o["symbol"]]) for o in waited if reasons[o["symbol"]]}


def _plan(stored: dict[str, Any]) -> Plan:
    """The plan as decided; amounts are stored as text."""
    amounts: dict[str, Any] = {n: None if v is None else Decimal(v) for n, v in stored.items() if n not in TEXT_FIELDS}
    return Plan(**amounts, **{n: stored[n] for n in TEXT_FIELDS})


def _line(order: RowMapping, state: str, reason: str) -> tuple[str, str, str, str]:
    what = "addition" if orders.adds(order) else "entry"
    return state.lower(), order["symbol"], order["client_order_id"], f"the {what} was not sent: {reason}"
