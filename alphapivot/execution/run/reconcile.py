"""Reconciles the ledger with the broker before anything else: orders, fills, positions, foreign orders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import RowMapping

from alphapivot.brokers.base import Absent, BrokerFill, BrokerOrder, Ref, Replaying, Unreadable
from alphapivot.execution.book import ledger, orders
from alphapivot.execution.book.states import IN_FLIGHT, RENEWED, TERMINAL, contradiction, local, observed
from alphapivot.execution.run.adjust import adjust, booked_events
from alphapivot.execution.run.adopt import adopt
from alphapivot.execution.run.roll import shift
from alphapivot.execution.run.session import Session

COMPARED = ("state", "qty", "price", "cum_qty", "avg_price", "broker_order_id")
LIVE = ("NEW", "PARTIALLY_FILLED")
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
    seen, moved = _look(session, live, rows)
    booked, theirs = booked_events(session), session.broker.positions() if session.events else {}
    # fills are read after the orders, so that no fill of an order is missing
    fills, unreadable = _fills(session, since)
    caps = session.broker.caps
    now, rules = session.clock.now(), {"proof": caps.idempotent_submit or caps.absence_is_final, "amends": caps.amends}
    with session.hub.engine.begin() as conn:
        added = ledger.add_fills(conn, session.book, fills)
        filled = {o["client_order_id"]: o["filled"] for o in rows}
        for fill in added:
            filled[fill["client_order_id"]] = filled.get(fill["client_order_id"], Decimal(0)) + fill["qty"]
        updates = {
            o["client_order_id"]: update
            for o in live
            if (update := observed(o, seen[o["client_order_id"]], filled[o["client_order_id"]], **rules))
        }
        # a replacement that was refused is a version of its own, and the order before it works on
        successors = [(o, s) for o in live if isinstance(s := seen.get(orders.successor(o)), BrokerOrder)]
        replaced = [(o, s) for o, s in successors if s.state != "REJECTED"]
        refused = [(o, s) for o, s in successors if s.state == "REJECTED"]
        for order, _ in replaced:
            updates[order["client_order_id"]] = {"client_order_id": order["client_order_id"], "state": "REPLACED"}
        changes = [updates[i] for o in live if _differs(o, updates.get(i := o["client_order_id"]))]
        orders.set_orders(conn, changes, session.fence, now)
        revived = [
            (o, s)
            for o in rows
            if o["state"] == "REPLACED"
            and isinstance(s := seen.get(o["client_order_id"]), BrokerOrder)
            and s.state in LIVE
        ]
        orders.set_orders(conn, [_row(o, s) for o, s in revived], session.fence, now)
        next_rows = [successor_row(o, s) for o, s in replaced]
        next_rows += [successor_row(o, s, state="REJECTED", reason=s.reason or "rejected later") for o, s in refused]
        orders.add(conn, next_rows, session.fence, now)
        adopt(session, conn, moved)
        waits = adjust(session, conn, booked, theirs) if session.events else {}
        late = ledger.closed_trades_of(conn, [f["client_order_id"] for f in added])
        changed = ledger.roll_up(conn, session.book, late)
        if any(t["rolled"] or t["rolled_from"] for t in changed):
            shift(session, conn)
        reasons = _mismatches(live, seen, updates, filled) | dict.fromkeys(late.values(), LATE)
        reasons |= _locks_of(rows, unreadable)
        session.block(conn, reasons)
        session.note(conn, [*map(_filled, added), *(_closed(t) for t in changed if t["state"] == "CLOSED")])
        session.note(conn, [_lives_on(o) for o, _ in revived])
        renewed = [_renewed(o, updates[o["client_order_id"]]) for o in live if o["client_order_id"] in updates]
        session.note(conn, [line for line in renewed if line])
    session.refused |= {i for i, update in updates.items() if update["state"] == "REJECTED"}
    session.refused |= {row["client_order_id"] for row in next_rows if row["state"] == "REJECTED"}
    session.apart = set(waits)
    session.tell(*waits.values(), *(u.reason for u in unreadable))
    session.tell(*(f"{symbol}: {message}" for _, symbol, _, message in filter(None, renewed)))
    session.report.fills += len(added)
    session.report.closed += sum(t["state"] == "CLOSED" for t in changed)


Seen = Mapping[str, BrokerOrder | Absent | Unreadable]
Moved = list[tuple[RowMapping, BrokerOrder | Absent | Unreadable]]  # our order, and what it may be at the broker by now


def _look(session: Session, live: list[RowMapping], rows: Sequence[RowMapping]) -> tuple[Seen, Moved]:
    """
    The orders ``live`` at the broker, with the successor of each that was or may have been replaced, and the order
    before each replacement that was refused; and those that somebody else may have changed.
    """
    if not live:
        return {}, []
    since = min(o["created_at"] for o in live)
    # apart, so that a broker which knows its own day only can tell of today's beside orders of other days
    doubtful = [o for o in live if o["broker_order_id"] is None]
    pending = [o for o in live if o["state"] == "PENDING_REPLACE" and not session.broker.caps.amends]
    known = [*(orders.ref(o) for o in live if o["broker_order_id"] is not None), *map(_next_ref, pending)]
    seen = dict(session.broker.find(known, since)) if known else {}
    if doubtful:
        seen |= session.broker.find(list(map(orders.ref, doubtful)), min(o["created_at"] for o in doubtful))
    # replaced by a request that we had given up, or by somebody else
    gone = [o for o in live if _state(seen[o["client_order_id"]]) == "REPLACED"]
    gone = [o for o in gone if not _exists(seen.get(orders.successor(o)))]
    rejected = [o for o in live if _state(seen[o["client_order_id"]]) == "REJECTED"]
    before = [b for o in rejected if (b := _before(o, rows)) is not None]
    more = [*(_next_ref(o) for o in gone), *map(orders.ref, before)]
    seen |= session.broker.find(more, since) if more else {}
    elsewhere = {o["client_order_id"]: o for o in gone if not _exists(seen.get(orders.successor(o)))}
    following = {i: _replaced_by(seen[i]) for i in elsewhere}
    while following := {i: theirs for i, theirs in following.items() if theirs is not None}:
        found = session.broker.find([_next_ref(elsewhere[i], theirs) for i, theirs in following.items()], since)
        seen |= found
        following = {i: _replaced_by(found[orders.successor(elsewhere[i])]) for i in following}
    moved = [(o, seen[i]) for o in elsewhere.values() if _exists(seen.get(i := orders.successor(o)))]
    if session.broker.caps.amends:  # it is the same order; one that we are changing is nobody else's doing
        moved = [(o, seen[o["client_order_id"]]) for o in live if o["state"] in LIVE]
    return seen, moved


def _replaced_by(seen: BrokerOrder | Absent | Unreadable) -> str | None:
    """The broker's id of the order that took the place of a replaced one."""
    return seen.replaced_by if isinstance(seen, BrokerOrder) and seen.state == "REPLACED" else None


def _fills(session: Session, since: datetime | None) -> tuple[list[BrokerFill], list[Unreadable]]:
    """The fills since an instant, and those that make no sense."""
    fills: list[BrokerFill] = []
    unreadable: list[Unreadable] = []
    for fill in session.broker.fills(since) if since is not None else []:
        if isinstance(fill, Unreadable):
            unreadable.append(fill)
        elif not (fill.qty.is_finite() and fill.qty > 0 and fill.price.is_finite()):
            reason = f"fill {fill.exec_id} of {fill.qty} at {fill.price} makes no sense"
            unreadable.append(Unreadable(reason, fill.broker_order_id))
        else:
            fills.append(fill)
    return fills, unreadable


def _locks_of(rows: Sequence[RowMapping], unreadable: Sequence[Unreadable]) -> dict[str, str]:
    """symbol -> lock reason: an execution of our orders that cannot be read."""
    symbols = {o["broker_order_id"]: o["symbol"] for o in rows if o["broker_order_id"]}
    return {symbols[u.broker_order_id]: u.reason for u in unreadable if u.broker_order_id in symbols}


def _next_ref(order: RowMapping, broker_order_id: str | None = None) -> Ref:
    return Ref(orders.successor(order), broker_order_id, orders.successor(order), order["leg"])


def _before(order: RowMapping, rows: Sequence[RowMapping]) -> RowMapping | None:
    """The order that ``order`` may have replaced."""
    of_leg = [o for o in rows if (o["trade_id"], o["leg"]) == (order["trade_id"], order["leg"])]
    replaced = [o for o in of_leg if o["state"] == "REPLACED" and o["version"] < order["version"]]
    return max(replaced, key=lambda o: o["version"], default=None)


def _state(seen: BrokerOrder | Absent | Unreadable | None) -> str | None:
    return seen.state if isinstance(seen, BrokerOrder) else None


def _row(order: RowMapping, seen: BrokerOrder) -> dict[str, Any]:
    terms = {"state": seen.state, "qty": seen.qty, "price": seen.price, "cum_qty": max(seen.cum_qty, order["cum_qty"])}
    return {"client_order_id": order["client_order_id"], **terms}


def _differs(order: RowMapping, update: Mapping[str, Any] | None) -> bool:
    """True if ``update`` changes the order's row."""
    return update is not None and any(update.get(name) not in (None, order[name]) for name in COMPARED)


def _exists(seen: BrokerOrder | Absent | Unreadable | None) -> bool:
    return isinstance(seen, BrokerOrder)


def successor_row(
    order: Mapping[Any, Any], seen: BrokerOrder | Absent | Unreadable | None, **changes: Any
) -> dict[str, Any]:
    """The row of a leg's next version, with the broker's id, quantity and price if ``seen``."""
    copied = ("trade_id", "intent_id", "leg", "book", "symbol", "market", "contract", "side", "kind", "as_of")
    row = {
        **{name: order[name] for name in copied},
        "client_order_id": orders.successor(order),
        "version": order["newest"] + 1,
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
    live: list[RowMapping], seen: Seen, updates: Mapping[str, dict[str, Any]], filled: Mapping[str, Decimal]
) -> dict[str, str]:
    """
    symbol -> lock reason: an order that disappeared at the broker, that may or may not have reached it, or of which the
    broker says what cannot be true.
    """
    reasons = {}
    for order in live:
        i = order["client_order_id"]
        wrong = contradiction(order, seen[i], filled[i])
        if wrong is not None:
            reasons[order["symbol"]] = wrong
        elif updates.get(i, order)["state"] == "UNKNOWN" or _unsure(order, seen[i], i in updates):
            terms = f"{order['leg']} {order['side']} {order['qty']:f}"
            reasons[order["symbol"]] = f"order {i} ({terms}) may or may not have reached the broker"
        elif isinstance(seen[i], Absent) and order["state"] not in ("CREATED", *IN_FLIGHT) and i not in updates:
            reasons[order["symbol"]] = f"the broker has no order {i}, which was {order['state']}"
    return reasons


def _unsure(order: RowMapping, seen: BrokerOrder | Absent | Unreadable, updated: bool) -> bool:
    """True for the cancel of an order that the broker does not show and may receive yet."""
    sent = order["state"] == "PENDING_CANCEL" and order["broker_order_id"] is None
    return sent and isinstance(seen, Absent) and not updated


def broken(session: Session) -> set[str]:
    """
    Locks the symbols whose positions differ between the ledger and the broker, also after [execution] position_wait.
    Returns them and those of ``apart``: in these only orders that fit both positions are sent.
    """
    differences = _differences(session)
    simulated = isinstance(session.broker, Replaying)
    waits = _waits(0 if simulated else session.settings.execution.position_wait)
    while differences:  # an order may have filled between reading orders and positions, or one of them lags
        reconcile(session)
        differences = _differences(session)
        pause = next(waits, None)
        if not differences or pause is None:
            break
        session.pause(pause)
    if differences:
        with session.hub.engine.begin() as conn:
            session.block(conn, differences)
    return set(differences) | session.apart


def _waits(seconds: float) -> Iterator[float]:
    """Growing pauses that add up to ``seconds``."""
    pause = 0.5
    while seconds > 0:
        yield min(pause, seconds)
        seconds, pause = seconds - pause, pause * 2


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


def _lives_on(order: RowMapping) -> tuple[str, str, str, str]:
    price = "" if order["price"] is None else f" at {order['price']:f}"
    message = f"the broker rejected the replacement of this {order['leg']}{price} after accepting it: it works on"
    return "rejected", order["symbol"], order["client_order_id"], message


def _renewed(order: RowMapping, update: Mapping[str, Any]) -> tuple[str, str, str, str] | None:
    """The line of an order that the broker holds and that is to be placed again."""
    reason = update.get("reason") or ""
    if order["state"] == "PENDING_CANCEL" or not reason.startswith(RENEWED):
        return None
    message = f"the {order['leg']} is placed again: {reason.removeprefix(RENEWED)}"
    return "renewed", order["symbol"], order["client_order_id"], message


def _filled(fill: RowMapping) -> tuple[str, str, str, str]:
    order = f"{fill['side']} {fill['qty']:f} {fill['symbol']} {fill['contract']}".rstrip()
    return "filled", fill["symbol"], fill["client_order_id"], f"{order} at {fill['price']:f}"


def _closed(trade: RowMapping) -> tuple[str, str, None, str]:
    profit = f"{trade['realised']:.2f} after fees"
    return "closed", trade["symbol"], None, f"trade {trade['trade_id']} closed by {trade['close_reason']}: {profit}"
