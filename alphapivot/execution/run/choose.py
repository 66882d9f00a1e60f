"""Decides one as_of and commits the decisions, with all orders that follow from them, in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from alphapivot.calendar import bar_ends
from alphapivot.execution.book import ledger, orders, positions_now
from alphapivot.execution.book.record import ACTING, record
from alphapivot.execution.decide.decide import decide
from alphapivot.execution.decide.facts import Decision, Quote
from alphapivot.execution.run.gather import gather

if TYPE_CHECKING:
    from alphapivot.calendar.schedule import Calendar
    from alphapivot.execution.run.session import Session


def choose(session: Session, priced: Mapping[str, Quote], fronts: Mapping[str, str], terms: Mapping[str, Any]) -> bool:
    """Decides the undecided symbols and commits; returns True if there are orders or stops to act on."""
    facts, rows = gather(session, priced, fronts)
    settings, as_of, scores = session.settings, session.run.as_of, facts.scores
    with session.hub.engine.connect() as conn:
        decided = ledger.decided(conn, session.book, settings.execution.strategy, as_of)
        intents = ledger.intents(conn, session.book, settings.execution.strategy, as_of)
    undecided = [s for s in session.attended if (s, scores[s].batch_id if s in scores else None) not in decided]
    if not undecided:
        return False
    decisions = decide(facts, undecided)
    decisions = [_once(d, intents) for d in decisions]
    cancels = {
        rows[d.trade.trade_id]["entry_id"]: d.reasons[0]
        for d in decisions
        if d.action == "EXIT" and d.trade is not None and d.trade.state == "PENDING"
    }
    acting = [d for d in decisions if d.action in ACTING]
    with session.hub.engine.begin() as conn:
        ledger.roll_on(conn, [d.trade.trade_id for d in acting if d.action == "ROLL" and d.trade is not None])
        record(
            partial(ledger.insert, conn),
            decisions,
            book=session.book,
            strategy=session.settings.execution.strategy,
            run_id=session.run.run_id,
            as_of=session.run.as_of,
            fence=session.fence,
            instruments=session.instruments,
            terms=terms,
            now=facts.now,
            times=times_of(session, [d.symbol for d in acting]),
            held=rows,
            approve=settings.execution.approve == "entries",
        )
        orders.set_orders(
            conn,
            [{"client_order_id": i, "state": "PENDING_CANCEL", "reason": reason} for i, reason in cancels.items()],
            session.fence,
            facts.now,
        )
        positions_now.move_stops(conn, {d.trade.trade_id: d.stop for d in decisions if d.trade and d.stop is not None})
        changing = [*acting, *(d for d in decisions if d.action == "AMEND")]
        session.note(conn, [("decided", d.symbol, None, f"{d.action}: {', '.join(d.reasons)}") for d in changing])
    session.report.decisions = decisions
    return bool(changing)


def _once(decision: Decision, intents: Mapping[str, Collection[str]]) -> Decision:
    """Limits each symbol to one entry, addition and exit per as_of, whatever became of them and of its score."""
    earlier = intents.get(decision.symbol, ())
    entered = {"ENTER_LONG", "ENTER_SHORT", "ROLL"} & set(earlier)
    if decision.action in ("ENTER_LONG", "ENTER_SHORT") and entered:
        return replace(decision, action="DENIED", reasons=("entered_already",), plan=None)
    if decision.action in ("EXIT", "REDUCE") and decision.action in earlier:
        return replace(decision, action="HOLD", reasons=("exited_already",), stop=None, qty=None)
    if decision.action == "ADD" and earlier:
        return replace(decision, action="HOLD", reasons=("acted_already",), plan=None, stop=None)
    return decision


def times_of(session: Session, symbols: Sequence[str]) -> dict[str, tuple[datetime, datetime]]:
    """symbol -> (the first session time at or after as_of, the end of the next bar, when there is a new score)."""
    as_of = session.run.as_of
    times: dict[Calendar, tuple[datetime, datetime]] = {}
    for hours in {session.instruments[symbol].trading_hours for symbol in symbols}:
        ends = bar_ends.ends(hours, session.interval, as_of, as_of + timedelta(days=21))
        opens = bar_ends.next_open(hours, as_of, as_of + timedelta(days=14)) or as_of
        times[hours] = max(opens, as_of), bar_ends.aware(ends[:1])[0].to_pydatetime() if len(ends) else as_of
    return {symbol: times[session.instruments[symbol].trading_hours] for symbol in symbols}
