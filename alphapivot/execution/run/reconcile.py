"""Reconciles the ledger with the broker before anything else: orders, fills, positions, foreign orders."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import RowMapping

from alphapivot.brokers.base import Absent, BrokerOrder, Ref
from alphapivot.execution.book import ledger, orders
from alphapivot.execution.book.states import IN_FLIGHT, TERMINAL, local, observed
from alphapivot.execution.run.adjust import adjust, booked_events
from alphapivot.execution.run.roll import shift
from alphapivot.execution.run.session import Session

COMPARED = ("state", "qty", "cum_qty", "avg_price", "broker_order_id")
LATE = "an order that was final here has filled"


def reconcile(session: Session) -> None:
    """Updates the ledger from the broker: order states, fills (each once), trades."""
    with session.hub.engine.connect() as conn:
        rows = orders.of_open_trades(conn, session.book)
        since = ledger.fills_since(conn, session.book, late=session.broker.caps.late_fills)
    sent = {o["trade_id"] for o in rows if o["leg"] == "ENTRY" and o["attempts"]}
    native = session.broker.caps.native_bracket
    attached = {  # legs that were sent with their entry, in whatever state it is
        o["client_order_id"]
        for o in rows
        if native and o["trade_id"] in sent and o["version"] == 1 and o["leg"] in ("STOP", "TARGET")
    }
    live = [o for o in rows if o["state"] not in TERMINAL and not (local(o) and o["client_order_id"] not in attached)]
    seen = _look(session, live)
    booked, theirs = booked_events(session), session.broker.positions() if session.events else {}
    # fills are read after the orders, so that no fill of an order is missing
    fills = session.broker.fills(since) if since is not None else []
    now, proof = session.clock.now(), session.broker.caps.idempotent_submit
    with session.hub.engine.begin() as conn:
        added = ledger.add_fills(conn, session.book, fills)
        filled = {o["client_order_id"]: o["filled"] for o in rows}
        for fill in added:
            filled[fill["client_order_id"]] = filled.get(fill["client_order_id"], Decimal(0)) + fill["qty"]
        updates = {
            o["client_order_id"]: update
            for o in live
            if (update := observed(o, seen[o["client_order_id"]], filled[o["client_order_id"]], proof=proof))
        }
        replaced = [(o, seen[orders.successor(o)]) for o in live if _exists(seen.get(orders.successor(o)))]
        for order, _ in replaced:
            updates[order["client_order_id"]] = {"client_order_id": order["client_order_id"], "state": "REPLACED"}
        changes = [updates[i] for o in live if _differs(o, updates.get(i := o["client_order_id"]))]
        orders.set_orders(conn, changes, session.fence, now)
        orders.add(conn, [successor_row(o, successor) for o, successor in replaced], session.fence, now)
        waits = adjust(session, conn, booked, theirs) if session.events else {}
        late = ledger.closed_trades_of(conn, [f["client_order_id"] for f in added])
        changed = ledger.roll_up(conn, session.book, late)
        if any(t["rolled"] or t["rolled_from"] for t in changed):
            shift(session, conn)
        session.block(conn, _mismatches(live, seen, updates) | dict.fromkeys(late.values(), LATE))
        session.note(conn, [*map(_filled, added), *(_closed(t) for t in changed if t["state"] == "CLOSED")])
    session.apart = set(waits)
    session.report.notes += [reason for reason in waits.values() if reason not in session.report.notes]
    session.report.fills += len(added)
    session.report.closed += sum(t["state"] == "CLOSED" for t in changed)


def _look(session: Session, live: list[RowMapping]) -> Mapping[str, BrokerOrder | Absent]:
    """Each order at the broker, and the successor of each order with a pending or completed replace."""
    if not live:
        return {}
    since = min(o["created_at"] for o in live)
    pending = [o for o in live if o["state"] == "PENDING_REPLACE"]
    seen = session.broker.find([*map(orders.ref, live), *map(_next_ref, pending)], since)
    # replaced by a request that we had given up
    replaced = [
        o for o in live if o not in pending and getattr(seen[o["client_order_id"]], "state", None) == "REPLACED"
    ]
    return {**seen, **session.broker.find([_next_ref(o) for o in replaced], since)} if replaced else seen


def _next_ref(order: RowMapping) -> Ref:
    return Ref(orders.successor(order), None, orders.successor(order), order["leg"])


def _differs(order: RowMapping, update: Mapping[str, Any] | None) -> bool:
    """True if ``update`` changes the order's row."""
    return update is not None and any(update.get(name) not in (None, order[name]) for name in COMPARED)


def _exists(seen: BrokerOrder | Absent | None) -> bool:
    return isinstance(seen, BrokerOrder)


def successor_row(order: Mapping[Any, Any], seen: BrokerOrder | Absent | None, **changes: Any) -> dict[str, Any]:
    """The row of an order's next version, with the broker's id, quantity and price if ``seen``."""
    copied = ("trade_id", "intent_id", "leg", "book", "symbol", "market", "contract", "side", "kind", "as_of")
    row = {
        **{name: order[name] for name in copied},
        "client_order_id": orders.successor(order),
        "version": order["version"] + 1,
        "qty": order["qty"],
        "price": order["price"],
        "state": "NEW",
        "active_from": order["active_from"],
        "reason": None,
        "broker_order_id": None,
    }
    if isinstance(seen, BrokerOrder):  # its state and fills are read in the next reconciliation
        row |= {"broker_order_id": seen.broker_order_id, "qty": seen.qty or row["qty"]}
        row["price"] = row["price"] if seen.price is None else seen.price
    return row | changes


def _mismatches(
    live: list[RowMapping], seen: Mapping[str, BrokerOrder | Absent], updates: Mapping[str, dict[str, Any]]
) -> dict[str, str]:
    """symbol -> lock reason: an order that disappeared at the broker, or one that may or may not have reached it."""
    reasons = {}
    for order in live:
        i = order["client_order_id"]
        if updates.get(i, order)["state"] == "UNKNOWN":
            terms = f"{order['leg']} {order['side']} {order['qty']:f}"
            reasons[order["symbol"]] = f"order {i} ({terms}) may or may not have reached the broker"
        elif isinstance(seen[i], Absent) and order["state"] not in ("CREATED", *IN_FLIGHT) and i not in updates:
            reasons[order["symbol"]] = f"the broker has no order {i}, which was {order['state']}"
    return reasons


def broken(session: Session) -> set[str]:
    """
    Locks the symbols whose positions differ between the ledger and the broker. Returns them and those of ``apart``: in
    these only orders that fit both positions are sent.
    """
    differences = _differences(session)
    if differences:  # an order may have filled between reading orders and positions
        reconcile(session)
        differences = _differences(session)
    if differences:
        with session.hub.engine.begin() as conn:
            session.block(conn, differences)
    return set(differences) | session.apart


def _differences(session: Session) -> dict[str, str]:
    theirs = session.broker.positions()
    with session.hub.engine.connect() as conn:
        ours = ledger.positions(conn, session.book)
    return {
        symbol: f"{market} {contract}: our fills add up to {expected:f}, the broker holds {held:f}".replace(" :", ":")
        for symbol, market, contract in sorted(set(ours) | set(theirs))
        if symbol not in session.apart
        and (expected := ours.get((symbol, market, contract), Decimal(0)))
        != (held := theirs.get((symbol, market, contract), Decimal(0)))
    }


def foreign(session: Session) -> None:
    """
    Deals once with each order at the broker that is not ours: cancelled, or adopted (it stays, its symbol is locked),
    as configured. An order of ours that is final here but working there is cancelled.
    """
    resting = session.broker.open_orders()
    with session.hub.engine.begin() as conn:
        ours = {o["client_order_id"] for o in orders.of_open_trades(conn, session.book) if o["state"] not in TERMINAL}
        unexpected = [o for o in resting if o.client_order_id not in ours]
        if not unexpected:
            return
        ended = {
            o["client_order_id"]: o for o in orders.ended(conn, session.book, [o.client_order_id for o in unexpected])
        }
        handled = orders.handled(conn, session.book, [o.broker_order_id for o in unexpected])
        strangers = [o for o in unexpected if o.client_order_id not in ended and o.broker_order_id not in handled]
        cancel = session.settings.execution.foreign_orders == "cancel"
        action, at = ("cancelled" if cancel else "adopted"), session.clock.now()
        ledger.insert(conn, "foreign_order", [_foreign(o, session.book, action) | {"seen_at": at} for o in strangers])
        session.note(conn, [("foreign", o.key and o.key[0], None, _described(o, action)) for o in strangers])
        if not cancel:
            session.block(conn, {o.key[0]: _described(o, action) for o in strangers if o.key})
    for o in strangers if cancel else []:
        session.broker.cancel(Ref(o.client_order_id, o.broker_order_id, o.client_order_id, "EXIT"))
    for row in ended.values():
        session.broker.cancel(orders.ref(row))
    session.report.notes += [_described(o, action) for o in strangers]


def naked(session: Session) -> None:
    """Locks symbols with an open trade that has no stop or exit at the broker, if one could be placed now."""
    with session.hub.engine.begin() as conn:
        unprotected = [t for t in ledger.open_trades(conn, session.book) if t["state"] == "OPEN" and not t["protected"]]
        session.block(
            conn,
            {
                t["symbol"]: f"trade {t['trade_id']} has no working stop"
                for t in unprotected
                if session.is_open((t["symbol"], t["market"], t["contract"])) or session.broker.caps.stop_outside_hours
            },
        )


def _foreign(order: BrokerOrder, book: str, action: str) -> dict[str, Any]:
    symbol, market, contract = order.key or (None, None, None)
    return {
        "book": book,
        "broker_order_id": order.broker_order_id,
        "symbol": symbol,
        "market": market,
        "contract": contract,
        "side": order.side,
        "qty": order.qty,
        "what": action,
    }


def _described(order: BrokerOrder, action: str) -> str:
    where = " ".join(p for p in order.key or () if p)
    return f"order {order.broker_order_id} ({order.side} {order.qty} {where}) is not ours: {action}"


def _filled(fill: RowMapping) -> tuple[str, str, str, str]:
    order = f"{fill['side']} {fill['qty']:f} {fill['symbol']} {fill['contract']}".rstrip()
    return "filled", fill["symbol"], fill["client_order_id"], f"{order} at {fill['price']:f}"


def _closed(trade: RowMapping) -> tuple[str, str, None, str]:
    profit = f"{trade['realised']:.2f} after fees"
    return "closed", trade["symbol"], None, f"trade {trade['trade_id']} closed by {trade['close_reason']}: {profit}"
