"""Agreeing with the broker before anything else: what was begun, what has filled, what is held, what is not ours."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import RowMapping

from alphapivot.brokers.base import Absent, BrokerOrder, Ref
from alphapivot.execution.book import ledger, orders
from alphapivot.execution.book.states import IN_FLIGHT, TERMINAL, local, observed
from alphapivot.execution.run.adjust import adjust, told
from alphapivot.execution.run.roll import shift
from alphapivot.execution.run.session import Session

SEEN = ("state", "qty", "cum_qty", "avg_price", "broker_order_id")
LATE = "an order that had ended here has filled"


def reconcile(session: Session) -> None:
    """Makes the ledger agree with the broker: order states, fills (each once), trades."""
    with session.hub.engine.connect() as conn:
        rows = orders.of_open_trades(conn, session.book)
        since = ledger.fills_since(conn, session.book, late=session.broker.caps.late_fills)
    sent = {o["trade_id"] for o in rows if o["leg"] == "ENTRY" and o["attempts"]}
    native = session.broker.caps.native_bracket
    attached = {  # legs that went with their entry, whatever is known of it
        o["client_order_id"]
        for o in rows
        if native and o["trade_id"] in sent and o["version"] == 1 and o["leg"] in ("STOP", "TARGET")
    }
    asked = [o for o in rows if o["state"] not in TERMINAL and not (local(o) and o["client_order_id"] not in attached)]
    seen = _look(session, asked)
    booked, theirs = told(session), session.broker.positions() if session.events else {}
    fills = (
        session.broker.fills(since) if since is not None else []
    )  # after the orders, so that no fill of theirs lacks
    now, proof = session.clock.now(), session.broker.caps.idempotent_submit
    with session.hub.engine.begin() as conn:
        added = ledger.add_fills(conn, session.book, fills)
        filled = {o["client_order_id"]: o["filled"] for o in rows}
        for fill in added:
            filled[fill["client_order_id"]] = filled.get(fill["client_order_id"], Decimal(0)) + fill["qty"]
        news = {
            o["client_order_id"]: news
            for o in asked
            if (news := observed(o, seen[o["client_order_id"]], filled[o["client_order_id"]], proof=proof))
        }
        replaced = [(o, seen[orders.successor(o)]) for o in asked if _lives(seen.get(orders.successor(o)))]
        for order, _ in replaced:
            news[order["client_order_id"]] = {"client_order_id": order["client_order_id"], "state": "REPLACED"}
        orders.set_orders(
            conn, [news[i] for o in asked if _new(o, news.get(i := o["client_order_id"]))], session.fence, now
        )
        orders.add(conn, [successor_row(o, found) for o, found in replaced], session.fence, now)
        waits = adjust(session, conn, booked, theirs) if session.events else {}
        late = ledger.closed_trades_of(conn, [f["client_order_id"] for f in added])
        changed = ledger.roll_up(conn, session.book, late)
        if any(t["rolled"] or t["rolled_from"] for t in changed):
            shift(session, conn)
        session.block(conn, _breaks(asked, seen, news) | dict.fromkeys(late.values(), LATE))
        session.note(conn, [*map(_filled, added), *(_closed(t) for t in changed if t["state"] == "CLOSED")])
    session.apart = set(waits)
    session.report.notes += [why for why in waits.values() if why not in session.report.notes]
    session.report.fills += len(added)
    session.report.closed += sum(t["state"] == "CLOSED" for t in changed)


def _look(session: Session, asked: list[RowMapping]) -> Mapping[str, BrokerOrder | Absent]:
    """Each order at the broker, and the one that has taken the place of an order that was to be replaced."""
    if not asked:
        return {}
    since = min(o["created_at"] for o in asked)
    pending = [o for o in asked if o["state"] == "PENDING_REPLACE"]
    seen = session.broker.find([*map(orders.ref, asked), *map(_next_ref, pending)], since)
    replaced = [
        o for o in asked if o not in pending and getattr(seen[o["client_order_id"]], "state", None) == "REPLACED"
    ]  # by a request that we had given up
    return {**seen, **session.broker.find([_next_ref(o) for o in replaced], since)} if replaced else seen


def _next_ref(order: RowMapping) -> Ref:
    return Ref(orders.successor(order), None, orders.successor(order), order["leg"])


def _new(order: RowMapping, seen: Mapping[str, Any] | None) -> bool:
    """Does ``seen`` say anything that the order's row does not?"""
    return seen is not None and any(seen.get(name) not in (None, order[name]) for name in SEEN)


def _lives(found: BrokerOrder | Absent | None) -> bool:
    return isinstance(found, BrokerOrder)


def successor_row(order: Mapping[Any, Any], found: BrokerOrder | Absent | None, **changes: Any) -> dict[str, Any]:
    """The next version of an order, as the broker has it."""
    same = ("trade_id", "intent_id", "leg", "book", "symbol", "market", "contract", "side", "kind", "as_of")
    row = {
        **{name: order[name] for name in same},
        "client_order_id": orders.successor(order),
        "version": order["version"] + 1,
        "qty": order["qty"],
        "price": order["price"],
        "state": "NEW",
        "active_from": order["active_from"],
        "reason": None,
        "broker_order_id": None,
    }
    if isinstance(found, BrokerOrder):  # its state and fills are read by the next look
        row |= {"broker_order_id": found.broker_order_id, "qty": found.qty or row["qty"]}
        row["price"] = row["price"] if found.price is None else found.price
    return row | changes


def _breaks(
    asked: list[RowMapping], seen: Mapping[str, BrokerOrder | Absent], news: Mapping[str, dict[str, Any]]
) -> dict[str, str]:
    """symbol -> what cannot be explained: an order that was there and is gone, one of which nobody knows."""
    found = {}
    for order in asked:
        i = order["client_order_id"]
        if news.get(i, order)["state"] == "UNKNOWN":
            what = f"{order['leg']} {order['side']} {order['qty']:f}"
            found[order["symbol"]] = f"order {i} ({what}) may or may not have reached the broker"
        elif isinstance(seen[i], Absent) and order["state"] not in ("CREATED", *IN_FLIGHT) and i not in news:
            found[order["symbol"]] = f"the broker has no order {i}, which was {order['state']}"
    return found


def broken(session: Session) -> set[str]:
    """
    Locks the symbols on whose positions the ledger and the broker do not agree, and returns them: nothing is sent in
    them but what is right for both, for an order that is right for one of the two may be wrong for the other.
    """
    breaks = _differences(session)
    if breaks:  # something may have filled between our two looks
        reconcile(session)
        breaks = _differences(session)
    if breaks:
        with session.hub.engine.begin() as conn:
            session.block(conn, breaks)
    return set(breaks) | session.apart


def _differences(session: Session) -> dict[str, str]:
    theirs = session.broker.positions()
    with session.hub.engine.connect() as conn:
        ours = ledger.positions(conn, session.book)
    return {
        symbol: f"{market} {contract}: our fills make {mine:f}, the broker holds {held:f}".replace(" :", ":")
        for symbol, market, contract in sorted(set(ours) | set(theirs))
        if symbol not in session.apart
        and (mine := ours.get((symbol, market, contract), Decimal(0)))
        != (held := theirs.get((symbol, market, contract), Decimal(0)))
    }


def foreign(session: Session) -> None:
    """
    Orders at the broker that are not ours: cancelled, or adopted (they stay, their symbol is locked), as configured;
    each dealt with once. One of ours that had ended here, and lives there after all, is cancelled.
    """
    resting = session.broker.open_orders()
    with session.hub.engine.begin() as conn:
        ours = {o["client_order_id"] for o in orders.of_open_trades(conn, session.book) if o["state"] not in TERMINAL}
        odd = [o for o in resting if o.client_order_id not in ours]
        if not odd:
            return
        ended = {o["client_order_id"]: o for o in orders.ended(conn, session.book, [o.client_order_id for o in odd])}
        known = orders.known(conn, session.book, [o.broker_order_id for o in odd])
        strange = [o for o in odd if o.client_order_id not in ended and o.broker_order_id not in known]
        cancel = session.settings.execution.foreign_orders == "cancel"
        what, at = ("cancelled" if cancel else "adopted"), session.clock.now()
        ledger.insert(conn, "foreign_order", [_foreign(o, session.book, what) | {"seen_at": at} for o in strange])
        session.note(conn, [("foreign", o.key and o.key[0], None, _described(o, what)) for o in strange])
        if not cancel:
            session.block(conn, {o.key[0]: _described(o, what) for o in strange if o.key})
    for o in strange if cancel else []:
        session.broker.cancel(Ref(o.client_order_id, o.broker_order_id, o.client_order_id, "EXIT"))
    for row in ended.values():
        session.broker.cancel(orders.ref(row))
    session.report.notes += [_described(o, what) for o in strange]


def naked(session: Session) -> None:
    """Locks symbols with a trade that is open without a stop or an exit at the broker, where one could be."""
    with session.hub.engine.begin() as conn:
        bare = [t for t in ledger.open_trades(conn, session.book) if t["state"] == "OPEN" and not t["protected"]]
        session.block(
            conn,
            {
                t["symbol"]: f"trade {t['trade_id']} has no working stop"
                for t in bare
                if session.is_open((t["symbol"], t["market"], t["contract"])) or session.broker.caps.stop_outside_hours
            },
        )


def _foreign(order: BrokerOrder, book: str, what: str) -> dict[str, Any]:
    symbol, market, contract = order.key or (None, None, None)
    return {
        "book": book,
        "broker_order_id": order.broker_order_id,
        "symbol": symbol,
        "market": market,
        "contract": contract,
        "side": order.side,
        "qty": order.qty,
        "what": what,
    }


def _described(order: BrokerOrder, what: str) -> str:
    where = " ".join(p for p in order.key or () if p)
    return f"order {order.broker_order_id} ({order.side} {order.qty} {where}) is not ours: {what}"


def _filled(fill: RowMapping) -> tuple[str, str, str, str]:
    what = f"{fill['side']} {fill['qty']:f} {fill['symbol']} {fill['contract']}".rstrip()
    return "filled", fill["symbol"], fill["client_order_id"], f"{what} at {fill['price']:f}"


def _closed(trade: RowMapping) -> tuple[str, str, None, str]:
    made = f"{trade['realised']:.2f} after fees"
    return "closed", trade["symbol"], None, f"trade {trade['trade_id']} closed by {trade['close_reason']}: {made}"
