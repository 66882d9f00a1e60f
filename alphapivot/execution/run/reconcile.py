"""Reconciles the ledger with the broker before anything else: orders, fills, positions, foreign orders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import RowMapping

from alphapivot.brokers.base import Absent, BrokerFill, BrokerOrder, Key, Replaying, Unreadable
from alphapivot.calendar import bar_ends
from alphapivot.data import market_ends
from alphapivot.execution.account.part import AccountPart
from alphapivot.execution.book import ledger, orders
from alphapivot.execution.book.states import IN_FLIGHT, RENEWED, contradiction, observed
from alphapivot.execution.run.adjust import adjust, booked_events
from alphapivot.execution.run.adopt import adopt
from alphapivot.execution.run.look import Seen, look, on_their_way
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
    live = on_their_way(rows, session.broker.caps)
    seen, moved = look(session.broker, live, rows)
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


def _row(order: RowMapping, seen: BrokerOrder) -> dict[str, Any]:
    terms = {"state": seen.state, "qty": seen.qty, "price": seen.price, "cum_qty": max(seen.cum_qty, order["cum_qty"])}
    return {"client_order_id": order["client_order_id"], **terms}


def _differs(order: RowMapping, update: Mapping[str, Any] | None) -> bool:
    """True if ``update`` changes the order's row."""
    return update is not None and any(update.get(name) not in (None, order[name]) for name in COMPARED)


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
            if isinstance(session.broker, AccountPart):
                session.broker.lock(conn, differences, session.clock.now())
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
        symbol: f"{market} {contract}: {_told(session, key, expected, held)}".replace(" :", ":")
        + ("" if held else _gone(session, key))
        for key in sorted(set(ours) | set(theirs))
        if (symbol := key[0]) not in session.apart
        and (expected := ours.get(key, Decimal(0))) != (held := theirs.get(key, Decimal(0)))
        for _, market, contract in [key]
    }


def _told(session: Session, key: Key, ours: Decimal, theirs: Decimal) -> str:
    if isinstance(session.broker, AccountPart):
        return session.broker.told(key)
    return f"our fills add up to {ours:f}, the broker holds {theirs:f}"


def _gone(session: Session, key: Key) -> str:
    """What to do about a position that left the account without an execution of ours."""
    symbol, market, contract = key
    if isinstance(session.broker, Replaying):
        return ""  # nobody but us trades there
    why, instrument, as_of = "", session.instruments.get(symbol), session.run.as_of
    if instrument is not None and market == "futures":
        end = market_ends.last_trade(instrument, contract, as_of)
        if bar_ends.naive(as_of) >= end:
            told = f"{end.astype('datetime64[m]')}".replace("T", " ")
            why = f"; it had its last trading session, to {told} UTC, and no execution tells its settlement"
    command = f"alphapivot unlock {symbol} --left-at PRICE --reason TEXT"
    return f"{why}; `{command}` books what left the account at the price of the broker's statement"


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
