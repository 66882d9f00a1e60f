"""
Entries that are committed and not sent: sent where their market takes orders, and asked about again if they waited.

Between the decision and the open a book may have lost too much, another trade may have taken the room, a pillar may
have changed its mind: what waited is asked by every gate anew before it goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from alphapivot.execution.book import ledger, orders
from alphapivot.execution.decide.decide import recheck
from alphapivot.execution.decide.facts import Plan
from alphapivot.execution.market import market
from alphapivot.execution.run import roll
from alphapivot.execution.run.gather import gather
from alphapivot.execution.run.send import send
from alphapivot.execution.run.session import Session

PLAN_WORDS = ("side", "capped_by")
PLANS = """
    SELECT t.trade_id, d.plan FROM trading.trade t JOIN trading.intent i USING (intent_id)
    JOIN trading.decision d USING (decision_id) WHERE t.trade_id = ANY(:ids)
"""


def send_entries(session: Session) -> bool:
    """
    Sends the entries that are committed and not sent, where their market takes orders; the others wait. One whose time
    is over, whose symbol was locked meanwhile, or to which a gate says no by now is never sent. Did anything change?
    """
    now = session.clock.now()
    with session.hub.engine.connect() as conn:
        rows = orders.of_open_trades(conn, session.book)
        waiting = [o for o in rows if o["leg"] == "ENTRY" and o["state"] == "CREATED"]
        if not waiting:
            return False
        locked = ledger.locks(conn, session.book)
        leaves = roll.ready(conn, [o["trade_id"] for o in waiting if o["rolled_from"] is not None])
    split = {e.key[0]: e.ts for e in session.events if e.kind == "split"}
    over: dict[int, tuple[str, str]] = {}
    ready: list[RowMapping] = []
    for order in waiting:
        trade_id, symbol = order["trade_id"], order["symbol"]
        if (order["expires"] or order["as_of"]) <= now and order["as_of"] < session.run.as_of:
            over[trade_id] = "EXPIRED", "not_sent_in_time"
        elif symbol in locked or symbol in session.apart:
            over[trade_id] = "DENIED", "locked"
        elif symbol in split and split[symbol] >= order["as_of"]:
            over[trade_id] = "DENIED", "split"  # it was sized in other shares
        elif trade_id in leaves and leaves[trade_id] == 0:
            over[trade_id] = "DENIED", "nothing_to_roll"
        elif trade_id in leaves and leaves[trade_id] is None:
            session.report.notes.append(f"the roll of {symbol} waits: its old contract is still to be left")
        elif session.is_open((symbol, order["market"], order["contract"])):
            ready.append(order)
        else:
            session.report.notes.append(f"the entry in {symbol} waits: its market is closed")
    denied = _denied(session, [o for o in ready if o["as_of"] < session.run.as_of and o["trade_id"] not in leaves])
    over |= {trade_id: ("DENIED", reason) for trade_id, reason in denied.items()}
    ready = [o for o in ready if o["trade_id"] not in over]
    with session.hub.engine.begin() as conn:
        _end(session, conn, rows, over)
        resized = [o for o in ready if leaves.get(o["trade_id"], o["qty"]) != o["qty"]]
        less = [
            {"client_order_id": o["client_order_id"], "state": "CREATED", "qty": leaves[o["trade_id"]]} for o in resized
        ]
        orders.set_orders(conn, less, session.fence, now)
    if ready:
        send(session, [o["client_order_id"] for o in ready])
    return bool(ready or over)


def _end(session: Session, conn: Connection, rows: Sequence[RowMapping], over: dict[int, tuple[str, str]]) -> None:
    """Entries that are never sent, and the legs that belong to them."""
    ends = [o for o in rows if o["trade_id"] in over and o["state"] == "CREATED"]
    states = [dict(zip(("state", "reason"), over[o["trade_id"]], strict=True)) for o in ends]
    named = [{"client_order_id": o["client_order_id"]} | s for o, s in zip(ends, states, strict=True)]
    orders.set_orders(conn, named, session.fence, session.clock.now())
    session.note(conn, [_over(o, *over[o["trade_id"]]) for o in ends if o["leg"] == "ENTRY"])


def _denied(session: Session, waited: Sequence[RowMapping]) -> dict[int, str]:
    """trade_id -> the reasons of the gates that say no now."""
    if not waited:
        return {}
    fronts, priced = market.priced(session)
    facts, _ = gather(session, priced, fronts)
    with session.hub.engine.connect() as conn:
        plans = dict(conn.execute(text(PLANS), {"ids": [o["trade_id"] for o in waited]}).tuples().all())
    said = recheck(facts, {o["symbol"]: _plan(plans[o["trade_id"]]) for o in waited})
    return {o["trade_id"]: ", ".join(said[o["symbol"]]) for o in waited if said[o["symbol"]]}


def _plan(stored: dict[str, Any]) -> Plan:
    """As it was decided; amounts are kept as text."""
    amounts: dict[str, Any] = {n: Decimal(v) for n, v in stored.items() if v is not None and n not in PLAN_WORDS}
    return Plan(**amounts, **{n: stored[n] for n in PLAN_WORDS})


def _over(order: RowMapping, state: str, reason: str) -> tuple[str, str, str, str]:
    return state.lower(), order["symbol"], order["client_order_id"], f"the entry was not sent: {reason}"
