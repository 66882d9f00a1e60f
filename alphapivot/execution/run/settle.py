"""Carries out decisions: protection and exits, step by step until nothing is left to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, RowMapping

from alphapivot.brokers.base import Accepted, NotSent, Rejected, Side, Throttled
from alphapivot.errors import TradingHalted, Unavailable
from alphapivot.execution.book import control, ledger, orders
from alphapivot.execution.book.states import TERMINAL, WORKING, local
from alphapivot.execution.decide.lifecycle import patience
from alphapivot.execution.market import quotes
from alphapivot.execution.run.adjust import outgrown, resized
from alphapivot.execution.run.protect import (
    CLOSE,
    Action,
    Cancel,
    Drop,
    Lock,
    Place,
    Replace,
    Send,
    newest_of,
    plan,
    plan_locked,
    position,
)
from alphapivot.execution.run.reconcile import reconcile, successor_row
from alphapivot.execution.run.send import send, spec
from alphapivot.execution.run.session import Session

ROUNDS = 8  # reconciliations per run, at most; the next run continues

Step = tuple[RowMapping, Sequence[RowMapping], Action]  # trade, its orders, what to do


def settle(session: Session, broken: set[str]) -> None:
    """
    Executes each trade's next steps and reconciles, until none is left. In the symbols of ``broken``, whose positions
    do not match, it cancels entries, and protects and exits only the quantity that both sides agree on.
    """
    requested: set[str] = set()
    for attempt in range(ROUNDS):
        steps = _steps(session, broken)
        if not steps:
            return
        if all(isinstance(a, Lock) for _, _, a in steps):
            _execute(session, steps)  # only locks for an operator: another round would find the same
            return
        changes = {a.order["client_order_id"] for _, _, a in steps if isinstance(a, Cancel | Replace)}
        if len(steps) == len(changes) and changes <= requested:  # the broker needs time
            session.pause(0.2 * 2**attempt)
        requested |= changes
        _execute(session, steps)
        reconcile(session)


def _steps(session: Session, broken: set[str]) -> list[Step]:
    with session.hub.engine.connect() as conn:
        trades = ledger.open_trades(conn, session.book)
        by_trade: dict[int, list[RowMapping]] = {t["trade_id"]: [] for t in trades}
        for order in orders.of_open_trades(conn, session.book) if trades else []:
            if order["trade_id"] in by_trade:
                by_trade[order["trade_id"]].append(order)
        old = outgrown(session, conn, trades)
        exits_asked = control.exits(conn, session.book) if trades else {}
    if not trades:
        return []
    switch, overdue = session.control(), _overdue(session, by_trade, trades)
    positions = session.broker.positions() if broken else {}
    steps: list[Step] = []
    for trade in trades:
        trade_orders = by_trade[trade["trade_id"]]
        resting = [o for o in trade_orders if o["leg"] == "ENTRY" and o["state"] in WORKING]
        if trade["symbol"] in session.apart:  # until the broker has booked the split, every price is unknown
            pending = [
                o for o in trade_orders if o["leg"] == "ENTRY" and o["state"] == "PENDING_CANCEL" and not local(o)
            ]
            steps += [(trade, trade_orders, Cancel(o, o["reason"] or "split")) for o in (*resting, *pending)]
            continue
        held = positions.get((trade["symbol"], trade["market"], trade["contract"]), Decimal(0))
        if held.is_nan():
            continue  # the broker's position cannot be read: what works stays
        request = exits_asked.get(trade["trade_id"])
        if switch.flatten:
            request = control.Exit("flatten")
        elif trade["trade_id"] in old:
            request = control.Exit(old[trade["trade_id"]])
        sure = max(held if trade["side"] == "LONG" else -held, Decimal(0)) if trade["symbol"] in broken else None
        actions = _of_trade(session, trade, trade_orders, request, sure)
        cancelled = {a.order["client_order_id"] for a in actions if isinstance(a, Cancel)}
        if switch.state != "ACTIVE" or trade["trade_id"] in overdue:  # a resting entry would add exposure
            reason = "entry_expired" if switch.state == "ACTIVE" else switch.state.lower()
            actions += [Cancel(o, reason) for o in resting if o["client_order_id"] not in cancelled]
        else:
            actions += [
                Cancel(o, kind)
                for o in resting
                if o["client_order_id"] not in cancelled and (kind := resized(session, o)) is not None
            ]
        steps += [(trade, trade_orders, a) for a in actions]
    return [step for step in steps if not _unseen(step[-1])]


def _of_trade(
    session: Session,
    trade: RowMapping,
    trade_orders: Sequence[RowMapping],
    request: control.Exit | None,
    sure: Decimal | None,
) -> list[Action]:
    """The steps of one trade. ``request``: to leave it; ``sure``: see ``protect.plan_locked``."""
    is_open, refused = session.is_open((trade["symbol"], trade["market"], trade["contract"])), session.refused
    touched = any(o["leg"] == "TARGET" and local(o) for o in trade_orders) and session.touched(trade)
    caps = session.broker.caps
    if sure is None:
        actions = plan(trade, trade_orders, caps, refused=refused, is_open=is_open, touched=touched)
    else:
        leaving = request is not None
        actions = plan_locked(trade, trade_orders, caps, sure=sure, leaving=leaving, refused=refused, is_open=is_open)
    if request is not None:
        actions = _leave(trade, trade_orders, request, refused, is_open=is_open, sure=sure) or actions
        _tell_rest(session, trade, trade_orders, request.reason, sure)
    return actions


def _tell_rest(
    session: Session, trade: RowMapping, trade_orders: Sequence[RowMapping], reason: str, sure: Decimal | None
) -> None:
    """Says what an exit leaves behind in a symbol whose positions differ."""
    open_qty = position(trade, trade_orders)
    if sure is not None and open_qty > sure:
        session.tell(
            f"{trade['symbol']}: {reason} takes out {sure:f}, which the broker has; {open_qty - sure:f} of trade"
            f" {trade['trade_id']} stay in the books until `alphapivot unlock` says where they went"
        )


def _unseen(action: Action) -> bool:
    """True for the cancel of an order that the broker does not show: nothing to cancel until it turns up."""
    return (
        isinstance(action, Cancel)
        and action.order["state"] == "PENDING_CANCEL"
        and action.order["broker_order_id"] is None
    )


def _overdue(session: Session, by_trade: Mapping[int, Sequence[RowMapping]], trades: Sequence[RowMapping]) -> set[int]:
    """Ids of the open trades whose partially filled limit entry, or addition, has waited too long for the rest."""
    waiting = {
        t["symbol"]: (t["trade_id"], o["as_of"])
        for t in trades
        for o in by_trade[t["trade_id"]]
        if t["state"] == "OPEN"
        and o["leg"] == "ENTRY"
        and o["state"] in WORKING
        and (o["kind"] == "LIMIT" or orders.adds(o))
    }
    if not waiting:
        return set()
    stamps = {symbol: as_of for symbol, (_, as_of) in waiting.items()}
    age = quotes.ages(stamps, session.run.as_of, session.interval, session.instruments)
    limit = patience(session.settings.execution, session.settings.entry)
    return {trade_id for symbol, (trade_id, _) in waiting.items() if age[symbol] > limit}


def _leave(
    trade: RowMapping,
    trade_orders: Sequence[RowMapping],
    request: control.Exit,
    refused: Collection[str],
    *,
    is_open: bool,
    sure: Decimal | None,
) -> list[Action]:
    """
    Steps that leave a trade: cancel its entry, then exit at market what ``request`` says. ``sure``: see
    ``protect.plan_locked``.
    """
    reason = request.reason
    live = {o["leg"]: o for o in trade_orders if o["state"] not in TERMINAL}
    entry, open_qty = live.get("ENTRY"), position(trade, trade_orders)
    if entry is not None and entry["state"] != "PENDING_CANCEL" and entry["broker_order_id"] is not None:
        return [Cancel(entry, reason)]
    if entry is not None and entry["state"] == "CREATED" and reason.startswith(CLOSE):
        return [Drop(entry, reason)]
    qty = min(q for q in (open_qty, sure, request.qty) if q is not None)
    if qty <= 0 or "EXIT" in live or not is_open or newest_of(trade_orders, "EXIT", refused):
        return []
    side: Side = "SELL" if trade["side"] == "LONG" else "BUY"
    return [Place(leg="EXIT", side=side, kind="MARKET", qty=qty, price=None, reason=reason)]


def _execute(session: Session, steps: Sequence[Step]) -> None:
    """Commits all steps first, then sends them to the broker and records the replies."""
    with session.hub.engine.begin() as conn:
        placed = _commit(session, conn, steps)
        session.count(conn, sum(isinstance(action, Cancel | Replace) for _, _, action in steps))
    for _, trade_orders, action in steps:
        try:
            if isinstance(action, Cancel):
                session.alive()
                session.broker.cancel(orders.ref(action.order))
            elif isinstance(action, Replace):
                session.alive()
                _replace(session, trade_orders, action)
        except Unavailable as error:  # the other trades go on; this step is repeated
            session.report.notes.append(str(error))
        except TradingHalted as error:
            control.halt(session.hub, session.book, str(error), "alphapivot")
            session.report.notes.append(f"book {session.book} is halted: {error}")
            raise
    send(session, placed)


def _commit(session: Session, conn: Connection, steps: Sequence[Step]) -> list[str]:
    """Writes the steps to the ledger; returns the ids of the orders to send."""
    updates: list[dict[str, Any]] = []
    new: list[dict[str, Any]] = []
    to_send: list[str] = []
    locks: dict[str, str] = {}
    for trade, trade_orders, action in steps:
        match action:
            case Place():
                new.append(_row(session, trade, trade_orders, action))
                # an exit waits until the orders resting beside it have ended
                to_send += [] if action.held or action.leg == "EXIT" else [new[-1]["client_order_id"]]
            case Send(order, qty, price):
                updates.append(
                    {"client_order_id": order["client_order_id"], "state": "CREATED", "qty": qty, "price": price}
                )
                to_send.append(order["client_order_id"])
            case Cancel(order, reason):
                updates.append(
                    {"client_order_id": order["client_order_id"], "state": "PENDING_CANCEL", "reason": reason}
                )
            case Drop(order, reason):
                updates.append({"client_order_id": order["client_order_id"], "state": "CANCELED", "reason": reason})
            case Replace(order):
                updates.append({"client_order_id": order["client_order_id"], "state": "PENDING_REPLACE"})
            case Lock(reason):
                locks[trade["symbol"]] = reason
    now = session.clock.now()
    orders.set_orders(conn, updates, session.fence, now)
    orders.add(conn, new, session.fence, now)
    session.block(conn, locks)
    return to_send


def _row(session: Session, trade: RowMapping, trade_orders: Sequence[RowMapping], place: Place) -> dict[str, Any]:
    version = 1 + max((o["version"] for o in trade_orders if o["leg"] == place.leg), default=0)
    strategy, as_of = trade["strategy"], trade["as_of"]
    return {
        **{name: trade[name] for name in ("trade_id", "intent_id", "book", "symbol", "market", "contract")},
        "client_order_id": orders.order_id(session.book, strategy, trade["symbol"], as_of, place.leg, version=version),
        "leg": place.leg,
        "version": version,
        "side": place.side,
        "kind": place.kind,
        "qty": place.qty,
        "price": place.price,
        "state": "SUSPENDED" if place.held else "CREATED",
        "reason": place.reason,
        "as_of": as_of,
        "active_from": session.run.as_of,
    }


def _replace(session: Session, trade_orders: Sequence[RowMapping], action: Replace) -> None:
    order, now, amends = action.order, session.clock.now(), session.broker.caps.amends
    terms: dict[str, Any] = {"qty": action.qty, "price": action.price}
    changes = {"client_order_id": orders.successor(order), **terms}
    wanted = terms if amends else changes
    reply = session.broker.replace(
        orders.ref(order), spec(session, order, trade_orders, **wanted, active_from=session.run.as_of)
    )
    with session.hub.engine.begin() as conn:
        if isinstance(reply, Accepted) and amends:
            working = "PARTIALLY_FILLED" if order["cum_qty"] else "NEW"
            update = {"client_order_id": order["client_order_id"], "state": working, **terms}
            orders.set_orders(conn, [update], session.fence, now)
        elif isinstance(reply, Accepted):
            update = {"client_order_id": order["client_order_id"], "state": "REPLACED"}
            orders.set_orders(conn, [update], session.fence, now)
            broker_order_id = reply.broker_order_ids.get(changes["client_order_id"])
            row = successor_row(order, seen=None, **changes, broker_order_id=broker_order_id)
            orders.add(conn, [row | {"active_from": session.run.as_of}], session.fence, now)
        elif isinstance(reply, Rejected | Throttled | NotSent):
            update = {"client_order_id": order["client_order_id"], "state": "NEW"}
            orders.set_orders(conn, [update], session.fence, now)
            price = "" if order["price"] is None else f" at {order['price']:f}"
            why = getattr(reply, "reason", "too many messages")
            message = f"the {order['leg'].lower()} of {order['symbol']} stays{price}, it was not replaced: {why}"
            session.tell(message)
            if isinstance(reply, Rejected):
                no = {"state": "REJECTED", "reason": reply.reason, "active_from": session.run.as_of}
                session.refused.add(changes["client_order_id"])
                orders.add(conn, [successor_row(order, seen=None, **changes, **no)], session.fence, now)
                session.note(conn, [("rejected", order["symbol"], order["client_order_id"], message)])
