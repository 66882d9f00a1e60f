"""What has been decided is carried through: protection and exits, step by step until all is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, RowMapping

from alphapivot.brokers.base import Accepted, NotSent, Rejected, Throttled
from alphapivot.errors import TradingHalted, Unavailable
from alphapivot.execution.book import control, ledger, orders
from alphapivot.execution.book.states import TERMINAL, WORKING, local
from alphapivot.execution.decide.lifecycle import patience
from alphapivot.execution.market import quotes
from alphapivot.execution.run.adjust import outgrown
from alphapivot.execution.run.protect import Action, Cancel, Drop, Lock, Place, Replace, Send, plan, position
from alphapivot.execution.run.reconcile import reconcile, successor_row
from alphapivot.execution.run.send import send, spec
from alphapivot.execution.run.session import Session

ROUNDS = 8  # looks at the broker in one run, at most: what is open then is taken up by the next

Step = tuple[RowMapping, Sequence[RowMapping], Action]  # trade, its orders, what to do


def settle(session: Session, broken: set[str]) -> None:
    """
    Does what each trade needs next and reads what came of it, until all is done. In ``broken`` it only takes back what
    would add to a position of which nobody can tell, and protects what is certain of it.
    """
    asked: set[str] = set()
    for look in range(ROUNDS):
        steps = _steps(session, broken)
        if not steps:
            return
        if all(isinstance(a, Lock) for _, _, a in steps):
            _do(session, steps)  # for a person: another look finds nothing else
            return
        changes = {a.order["client_order_id"] for _, _, a in steps if isinstance(a, Cancel | Replace)}
        if len(steps) == len(changes) and changes <= asked:  # the broker needs time
            session.pause(0.2 * 2**look)
        asked |= changes
        _do(session, steps)
        reconcile(session)


def _steps(session: Session, broken: set[str]) -> list[Step]:
    with session.hub.engine.connect() as conn:
        trades = ledger.open_trades(conn, session.book)
        by_trade: dict[int, list[RowMapping]] = {t["trade_id"]: [] for t in trades}
        for order in orders.of_open_trades(conn, session.book) if trades else []:
            if order["trade_id"] in by_trade:
                by_trade[order["trade_id"]].append(order)
        strange = outgrown(session, conn, trades)
    if not trades:
        return []
    word, overdue = session.control(), _overdue(session, by_trade, trades)
    steps: list[Step] = []
    for trade in trades:
        mine = by_trade[trade["trade_id"]]
        resting = [o for o in mine if o["leg"] == "ENTRY" and o["state"] in WORKING]
        if trade["symbol"] in broken:
            known = "split" if trade["symbol"] in session.apart else "locked"
            asked_for = [o for o in mine if o["leg"] == "ENTRY" and o["state"] == "PENDING_CANCEL" and not local(o)]
            steps += [(trade, mine, Cancel(o, o["reason"] or known)) for o in (*resting, *asked_for)]
            steps += [(trade, mine, a) for a in _least(session, trade, mine)]
            continue
        is_open = session.is_open((trade["symbol"], trade["market"], trade["contract"]))
        touched = any(o["leg"] == "TARGET" and local(o) for o in mine) and session.touched(trade)
        actions = plan(trade, mine, session.broker.caps, is_open=is_open, touched=touched)
        why = "flatten" if word.flatten else "split" if trade["trade_id"] in strange else None
        if why is not None:
            actions = _out(trade, mine, why, session.run.as_of, is_open=is_open) or actions
        asked = {a.order["client_order_id"] for a in actions if isinstance(a, Cancel)}
        if word.state != "ACTIVE" or trade["trade_id"] in overdue:  # what rests would add exposure
            why = "entry_expired" if word.state == "ACTIVE" else word.state.lower()
            actions += [Cancel(o, why) for o in resting if o["client_order_id"] not in asked]
        steps += [(trade, mine, a) for a in actions]
    return [step for step in steps if not _unseen(step[-1])]


def _unseen(action: Action) -> bool:
    """Asks to cancel what the broker shows nothing of: there is nothing to cancel until it turns up."""
    return (
        isinstance(action, Cancel)
        and action.order["state"] == "PENDING_CANCEL"
        and action.order["broker_order_id"] is None
    )


def _least(session: Session, trade: RowMapping, mine: Sequence[RowMapping]) -> list[Action]:
    """
    Where the books do not agree and no stop is there: one of what is open in both, which is right for either. Not
    before a split was followed: nobody can tell its price.
    """
    key = (trade["symbol"], trade["market"], trade["contract"])
    leaving = any(o["leg"] == "EXIT" and o["state"] not in TERMINAL for o in mine)
    if trade["state"] != "OPEN" or leaving or trade["symbol"] in session.apart:
        return []
    actions = plan(trade, mine, session.broker.caps, is_open=session.is_open(key), touched=False)
    stops: list[Place | Send] = [
        a
        for a in actions
        if (isinstance(a, Place) and a.leg == "STOP") or (isinstance(a, Send) and a.order["leg"] == "STOP")
    ]
    if not stops:
        return []
    held = session.broker.positions().get(key, Decimal(0)) * (1 if trade["side"] == "LONG" else -1)
    return [replace(a, qty=min(a.qty, held)) for a in stops] if held > 0 else []


def _overdue(session: Session, by_trade: Mapping[int, Sequence[RowMapping]], trades: Sequence[RowMapping]) -> set[int]:
    """The trades of which a part has filled, and whose limit entry has waited for the rest longer than it may."""
    waiting = {
        t["symbol"]: t
        for t in trades
        for o in by_trade[t["trade_id"]]
        if t["state"] == "OPEN" and (o["leg"], o["kind"]) == ("ENTRY", "LIMIT") and o["state"] in WORKING
    }
    if not waiting:
        return set()
    stamps = {symbol: t["as_of"] for symbol, t in waiting.items()}
    age = quotes.ages(stamps, session.run.as_of, session.interval, session.instruments)
    most = patience(session.settings.execution, session.settings.entry)
    return {t["trade_id"] for symbol, t in waiting.items() if age[symbol] > most}


def _out(trade: RowMapping, mine: Sequence[RowMapping], why: str, as_of: datetime, *, is_open: bool) -> list[Action]:
    """The operator wants out, or it was entered by mistake: no entry goes on, and what is open leaves at market."""
    live = {o["leg"]: o for o in mine if o["state"] not in TERMINAL}
    entry, open_qty = live.get("ENTRY"), position(trade, mine)
    if entry is not None and entry["state"] != "PENDING_CANCEL" and entry["broker_order_id"] is not None:
        return [Cancel(entry, why)]
    if open_qty <= 0 or "EXIT" in live or not is_open:
        return []
    tried = [o for o in mine if o["leg"] == "EXIT" and o["state"] == "REJECTED" and o["active_from"] >= as_of]
    if tried:  # not again in this run: its protection goes on
        return []
    return [Place("EXIT", "SELL" if trade["side"] == "LONG" else "BUY", "MARKET", open_qty, None, why)]


def _do(session: Session, steps: Sequence[Step]) -> None:
    """All that is wanted is committed first; then it is asked of the broker, and the answers are recorded."""
    with session.hub.engine.begin() as conn:
        placed = _commit(session, conn, steps)
        session.count(conn, sum(isinstance(action, Cancel | Replace) for _, _, action in steps))
    for _, mine, action in steps:
        try:
            if isinstance(action, Cancel):
                session.alive()
                session.broker.cancel(orders.ref(action.order))
            elif isinstance(action, Replace):
                session.alive()
                _replace(session, mine, action)
        except Unavailable as error:  # the others' protection goes on; this one is asked again
            session.report.notes.append(str(error))
        except TradingHalted as error:
            control.halt(session.hub, session.book, str(error), "alphapivot")
            session.report.notes.append(f"book {session.book} is halted: {error}")
            raise
    send(session, placed)


def _commit(session: Session, conn: Connection, steps: Sequence[Step]) -> list[str]:
    """Writes what is wanted; the ids of what is to be sent."""
    wanted: list[dict[str, Any]] = []
    new: list[dict[str, Any]] = []
    to_send: list[str] = []
    locks: dict[str, str] = {}
    for trade, mine, action in steps:
        match action:
            case Place():
                new.append(_row(session, trade, mine, action))
                # an exit waits until what rests beside it has ended
                to_send += [] if action.held or action.leg == "EXIT" else [new[-1]["client_order_id"]]
            case Send(order, qty, price):
                wanted.append(
                    {"client_order_id": order["client_order_id"], "state": "CREATED", "qty": qty, "price": price}
                )
                to_send.append(order["client_order_id"])
            case Cancel(order, reason):
                wanted.append(
                    {"client_order_id": order["client_order_id"], "state": "PENDING_CANCEL", "reason": reason}
                )
            case Drop(order, reason):
                wanted.append({"client_order_id": order["client_order_id"], "state": "CANCELED", "reason": reason})
            case Replace(order):
                wanted.append({"client_order_id": order["client_order_id"], "state": "PENDING_REPLACE"})
            case Lock(why):
                locks[trade["symbol"]] = why
    now = session.clock.now()
    orders.set_orders(conn, wanted, session.fence, now)
    orders.add(conn, new, session.fence, now)
    session.block(conn, locks)
    return to_send


def _row(session: Session, trade: RowMapping, mine: Sequence[RowMapping], place: Place) -> dict[str, Any]:
    version = 1 + max((o["version"] for o in mine if o["leg"] == place.leg), default=0)
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


def _replace(session: Session, mine: Sequence[RowMapping], action: Replace) -> None:
    order, now = action.order, session.clock.now()
    changes: dict[str, Any] = {"client_order_id": orders.successor(order), "qty": action.qty, "price": action.price}
    answer = session.broker.replace(
        orders.ref(order), spec(session, order, mine, **changes, active_from=session.run.as_of)
    )
    with session.hub.engine.begin() as conn:
        if isinstance(answer, Accepted):
            done = {"client_order_id": order["client_order_id"], "state": "REPLACED"}
            orders.set_orders(conn, [done], session.fence, now)
            theirs = answer.broker_order_ids.get(changes["client_order_id"])
            row = successor_row(order, found=None, **changes, broker_order_id=theirs)
            orders.add(conn, [row | {"active_from": session.run.as_of}], session.fence, now)
        elif isinstance(answer, Rejected | Throttled | NotSent):
            back = {"client_order_id": order["client_order_id"], "state": "NEW"}
            orders.set_orders(conn, [back], session.fence, now)
            session.report.notes.append(f"{order['leg']} of {order['symbol']} stays as it is: {answer}")
