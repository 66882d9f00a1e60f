"""Agreeing with the broker before anything else is done: what was begun, what has filled, what is held."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import RowMapping

from alphapivot.brokers.base import Absent, BrokerOrder
from alphapivot.execution import ledger
from alphapivot.execution.send import send
from alphapivot.execution.session import IN_FLIGHT, Session


def finish_what_was_begun(session: Session) -> None:
    """
    Orders that an earlier run committed and perhaps never sent: those that the broker proves absent are sent now.

    An entry of an earlier as_of expires instead: its price and its score are of the past. Cancels are asked for again.
    """
    with session.hub.engine.connect() as conn:
        working = ledger.working_orders(conn, session.book)
    for order in working:
        if order["state"] == "PENDING_CANCEL":
            session.broker.cancel(ledger.ref(order))
    begun = {o["client_order_id"]: o for o in working if o["leg"] in ("ENTRY", "EXIT") and o["state"] in IN_FLIGHT}
    if not begun:
        return
    seen = session.broker.find([ledger.ref(o) for o in begun.values()], min(o["created_at"] for o in begun.values()))
    absent = [i for i, found in seen.items() if isinstance(found, Absent)]
    late = {
        begun[i]["trade_id"] for i in absent if begun[i]["leg"] == "ENTRY" and begun[i]["as_of"] < session.run.as_of
    }
    with session.hub.engine.begin() as conn:
        now = session.clock.now()
        ledger.set_orders(
            conn,
            [
                {"client_order_id": o["client_order_id"], "state": "EXPIRED", "reason": "not_sent_in_time"}
                for o in working
                if o["trade_id"] in late
            ],
            session.fence,
            now,
        )
        again = [i for i in absent if begun[i]["trade_id"] not in late]
        if not session.broker.caps.idempotent_submit:
            # without unique ids at the broker a second send could be a second order: a person looks
            doubtful = {i for i in again if begun[i]["attempts"]}
            again = [i for i in again if i not in doubtful]
            session.block(
                conn, {begun[i]["symbol"]: f"order {i} may or may not have reached the broker" for i in doubtful}
            )
            ledger.set_orders(conn, [{"client_order_id": i, "state": "UNKNOWN"} for i in doubtful], session.fence, now)
        session.note(
            conn,
            [
                ("expired", begun[i]["symbol"], i, "an entry that was never sent has expired")
                for i in absent
                if i not in again
            ],
        )
    send(session, again)


def reconcile(session: Session) -> None:
    """Makes the ledger agree with the broker: order states, fills (each once), trades."""
    with session.hub.engine.connect() as conn:
        working = ledger.working_orders(conn, session.book)
        trades = ledger.open_trades(conn, session.book)
    if not trades:
        return
    seen = {}
    if working:
        seen = session.broker.find([ledger.ref(o) for o in working], min(o["created_at"] for o in working))
    fills = session.broker.fills(min(t["as_of"] for t in trades))
    now = session.clock.now()
    lost = {
        o["symbol"]: f"the broker has no order {o['client_order_id']}, which was {o['state']}"
        for o in working
        if isinstance(seen[o["client_order_id"]], Absent) and o["state"] not in IN_FLIGHT
    }
    with session.hub.engine.begin() as conn:
        added = ledger.add_fills(conn, session.book, fills)
        ledger.set_orders(
            conn, [_row(found) for found in seen.values() if isinstance(found, BrokerOrder)], session.fence, now
        )
        changed = ledger.roll_up(conn, session.book)
        session.block(conn, lost)
        session.note(conn, [*map(_filled, added), *(_closed(t) for t in changed if t["state"] == "CLOSED")])
    session.report.fills += len(added)
    session.report.closed += sum(t["state"] == "CLOSED" for t in changed)


def check_positions(session: Session) -> None:
    """Locks what the ledger and the broker do not agree on, and what is open without its stop."""
    theirs = session.broker.positions()
    with session.hub.engine.begin() as conn:
        ours = ledger.positions(conn, session.book)
        breaks = {
            symbol: f"{market} {contract}: our fills make {mine:f}, the broker holds {held:f}".replace(" :", ":")
            for symbol, market, contract in sorted(set(ours) | set(theirs))
            if (mine := ours.get((symbol, market, contract), Decimal(0)))
            != (held := theirs.get((symbol, market, contract), Decimal(0)))
        }
        naked = {
            t["symbol"]: f"trade {t['trade_id']} has no working stop"
            for t in ledger.open_trades(conn, session.book)
            if t["state"] == "OPEN" and not t["protected"]
        }
        session.block(conn, naked | breaks)


def _row(found: BrokerOrder) -> dict[str, Any]:
    return {
        "client_order_id": found.client_order_id,
        "state": found.state,
        "cum_qty": found.cum_qty,
        "avg_price": found.avg_price,
        "broker_order_id": found.broker_order_id,
        "reason": found.reason or ("rejected by the broker" if found.state == "REJECTED" else None),
    }


def _filled(fill: RowMapping) -> tuple[str, str, str, str]:
    what = f"{fill['side']} {fill['qty']:f} {fill['symbol']} {fill['contract']}".rstrip()
    return "filled", fill["symbol"], fill["client_order_id"], f"{what} at {fill['price']:f}"


def _closed(trade: RowMapping) -> tuple[str, str, None, str]:
    made = f"{trade['realised']:.2f} after fees"
    return "closed", trade["symbol"], None, f"trade {trade['trade_id']} closed by {trade['close_reason']}: {made}"
