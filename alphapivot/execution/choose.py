"""One as_of decided and committed: scores, standing, quotes in; decisions with their orders in one transaction out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from alphapivot import calendars
from alphapivot.execution import ledger, orders, quotes, standing
from alphapivot.execution.decide import Rules, decide
from alphapivot.execution.facts import Decision, OpenTrade, Quote, Score, Standing
from alphapivot.execution.record import record

if TYPE_CHECKING:
    from alphapivot.execution.session import Session


def choose(session: Session, priced: Mapping[str, Quote], fronts: Mapping[str, str], terms: Mapping[str, Any]) -> bool:
    """Decides what was not decided yet and commits it; is there anything to carry through?"""
    scores = _scores(session)
    account = session.broker.account()
    session.report.account = account
    with session.hub.engine.begin() as conn:
        start = ledger.open_day(conn, session.book, session.day, account)
        known = ledger.decided(conn, session.book, session.settings.execution.strategy, session.run.as_of)
        rows = ledger.open_trades(conn, session.book)
        intents = ledger.intents(conn, session.book, session.settings.execution.strategy, session.run.as_of)
        # a market whose data went wrong takes no entry, as one whose books do not agree
        locked = session.source.halts(conn) | ledger.locks(conn, session.book)
        known_now = Standing(account, start, session.control().state, locked, skew=session.skew)
        book = standing.complete(session, conn, known_now)
        standing.trip(session, conn, book)
        distance = standing.distances(conn, session.book)
    undecided = [s for s in session.attended if (s, scores[s].batch_id if s in scores else None) not in known]
    if not undecided:
        return False
    age = quotes.ages({t["symbol"]: t["as_of"] for t in rows}, session.run.as_of, session.interval, session.instruments)
    entered = {t["symbol"]: t["entry_at"] for t in rows if t["entry_at"] is not None}
    held = quotes.ages(entered, session.run.as_of, session.interval, session.instruments)
    trades = {
        t["symbol"]: OpenTrade(
            t["trade_id"],
            t["symbol"],
            t["market"],
            t["contract"],
            t["side"],
            t["state"],
            t["entry_qty"] - t["exit_qty"] if t["state"] == "OPEN" else t["qty"],
            t["entry_price"] or t["reference"],
            age[t["symbol"]],
            t["exiting"],
            held.get(t["symbol"], 0),
            t["stop"],
            t["target"],
            distance.get(t["trade_id"]),
        )
        for t in rows
    }
    now = session.clock.now()
    decisions = decide(
        session.instruments,
        scores,
        priced,
        trades,
        book,
        rules=Rules(
            session.settings.execution,
            session.settings.risk,
            session.settings.entry,
            session.settings.exit,
            session.settings.sizing,
            session.settings.protections,
        ),
        fronts=fronts,
        fx=session.rates,
        now=now,
        moments=standing.moments(session, now),
        only=undecided,
    )
    decisions = [_once(d, intents) for d in decisions]
    entries = {t["symbol"]: t["entry_id"] for t in rows}
    cancels = {
        entries[d.symbol]: d.reasons[0]
        for d in decisions
        if d.action == "EXIT" and d.trade is not None and d.trade.state == "PENDING"
    }
    acting = [d for d in decisions if d.action in ("ENTER_LONG", "ENTER_SHORT", "EXIT")]
    amended = [d for d in decisions if d.action == "AMEND"]
    with session.hub.engine.begin() as conn:
        record(
            conn,
            decisions,
            book=session.book,
            strategy=session.settings.execution.strategy,
            run_id=session.run.run_id,
            as_of=session.run.as_of,
            fence=session.fence,
            instruments=session.instruments,
            terms=terms,
            now=now,
            times=_times(session, [d.symbol for d in acting]),
            exits={t["trade_id"]: t["exits"] for t in rows},
        )
        orders.set_orders(
            conn,
            [{"client_order_id": i, "state": "PENDING_CANCEL", "reason": why} for i, why in cancels.items()],
            session.fence,
            now,
        )
        standing.move_stops(conn, {d.trade.trade_id: d.stop for d in amended if d.trade and d.stop is not None})
        told = [*acting, *amended]
        session.note(conn, [("decided", d.symbol, None, f"{d.action}: {', '.join(d.reasons)}") for d in told])
    session.report.decisions = decisions
    return bool(told)


def _scores(session: Session) -> dict[str, Score]:
    """Each symbol's newest composite at or before as_of."""
    rows = session.source.scores(session.attended, session.settings.entry.confirm)
    streak = standing.streaks(((r.symbol, r.score) for r in rows), session.settings.execution.entry_threshold)
    newest = {r.symbol: r for r in reversed(rows)}
    age = quotes.ages({s: r.ts for s, r in newest.items()}, session.run.as_of, session.interval, session.instruments)
    return {s: Score(r.ts, r.score, r.raw, r.gate, r.veto, r.batch_id, age[s], streak[s]) for s, r in newest.items()}


def _once(decision: Decision, intents: Mapping[str, Collection[str]]) -> Decision:
    """At one instant a symbol is entered once and left once, whatever became of it and however its score changes."""
    done = intents.get(decision.symbol, ())
    if decision.action in ("ENTER_LONG", "ENTER_SHORT") and {"ENTER_LONG", "ENTER_SHORT"} & set(done):
        return replace(decision, action="DENIED", reasons=("entered_already",), plan=None)
    if decision.action == "EXIT" and "EXIT" in done:
        return replace(decision, action="HOLD", reasons=("exited_already",))
    return decision


def _times(session: Session, symbols: Sequence[str]) -> dict[str, tuple[datetime, datetime]]:
    """symbol -> the first instant of a session after as_of, and the end of the next bar, when there is a new score."""
    as_of = session.run.as_of
    found = {}
    for symbol in symbols:
        hours = session.instruments[symbol].hours
        soon = calendars.sessions(hours, as_of, as_of + timedelta(days=14))
        ends = calendars.bar_ends(hours, session.interval, as_of, as_of + timedelta(days=21))
        opens = max(soon["open"].iloc[0].to_pydatetime(), as_of) if len(soon) else as_of
        found[symbol] = opens, ends[0].to_pydatetime() if len(ends) else as_of
    return found
