"""
One executor run: lock, fence, reconcile, protect, decide, commit, send, record. Safe to be killed at any instant and
run again.

Nothing is sent that was not committed before; what was sent and not recorded is found at the broker by its id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import psycopg
from sqlalchemy import text

from alphapivot import calendars
from alphapivot.brokers import open_broker
from alphapivot.brokers.base import Broker, Replaying
from alphapivot.errors import ConfigError
from alphapivot.execution import ledger, orders, quotes, standing
from alphapivot.execution.decide import Decision, OpenTrade, Quote, Rules, Score, Standing, decide
from alphapivot.execution.manage import send_entries, settle
from alphapivot.execution.mark import mark
from alphapivot.execution.reconcile import broken, foreign, naked, reconcile
from alphapivot.execution.record import record
from alphapivot.execution.session import Session, TradeReport
from alphapivot.frames import Bars
from alphapivot.hub import bars as hub_bars
from alphapivot.hub import issues

if TYPE_CHECKING:
    from alphapivot.clock import Clock
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef
    from alphapivot.settings import Settings


def trade(
    hub: Hub,
    run: RunRef,
    settings: Settings,
    clock: Clock,
    *,
    fx: Mapping[str, Decimal] | None = None,
    terms: Mapping[str, Any] | None = None,
    broker: Broker | None = None,
    decide_too: bool = True,
    pause: Callable[[float], None] = time.sleep,
) -> TradeReport:
    """
    Brings the book of [execution] to where the scores known at ``run.as_of`` want it; without ``decide_too`` it only
    carries through what was decided: entries that wait for the open, protection, exits.

    ``fx``: currency -> book currency for one unit; what it lacks is taken from instruments named as pairs (EURUSD).
    ``terms``: symbol -> what made its composite, kept with the decision. ``broker``: instead of the configured one.
    With the same inputs again it sends nothing and writes nothing but the fence. Raises ConfigError when a trade is
    open in an instrument that config.ini has no more, Unavailable when the database or the broker is lost.
    """
    book = settings.execution.book
    report = TradeReport(run.run_id, book, run.as_of)
    with _only_executor(hub, book) as lock:
        if lock is None:
            report.busy = True
            report.notes.append(f"another executor is at work on book {book!r}: nothing was done")
            return report
        with hub.engine.begin() as conn:
            fence = ledger.raise_fence(conn, book)
            last = ledger.last_as_of(conn, book)
            others = ledger.strategies(conn, book) - {settings.execution.strategy}
        if others:
            raise ConfigError(
                f"book {book!r} holds open trades of strategy {', '.join(sorted(others))}, but [execution] strategy is "
                f"{settings.execution.strategy}: a broker nets positions, so each strategy needs a book of its own"
            )
        if last is not None and run.as_of < last:
            report.stale = True
            report.notes.append(
                f"book {book!r} has decided for {last.isoformat()}, which is later than {run.as_of.isoformat()}:"
                f" nothing was done"
            )
            return report
        broker = broker or open_broker(hub, settings)
        session = Session(hub, run, settings, clock, broker, lock, fence, report, pause=pause)
        _go(session, fx or {}, terms or {}, decide_too=decide_too)
    return report


@contextmanager
def _only_executor(hub: Hub, book: str) -> Iterator[psycopg.Connection | None]:
    """A connection of its own that holds the book's lock as long as it lives; None when another executor has it."""
    conn = hub.dbapi(autocommit=True)
    try:
        row = conn.execute("SELECT pg_try_advisory_lock(hashtext('alphapivot.trade'), hashtext(%s))", [book]).fetchone()
        yield conn if row is not None and row[0] else None
    finally:
        conn.close()


def _go(session: Session, fx: Mapping[str, Decimal], terms: Mapping[str, Any], *, decide_too: bool) -> None:
    with session.hub.engine.connect() as conn:
        trades = ledger.open_trades(conn, session.book)
    gone = sorted({t["symbol"] for t in trades} - set(session.instruments))
    if gone:
        raise ConfigError(
            f"book {session.book!r} has open trades in {', '.join(gone)}, but config.ini has no [instrument.*] for them"
        )
    session.skew = _skew(session)
    bars, rolls = _market(session)
    session.rates = _rates(session, bars, fx)
    session.bars = quotes.opened(bars, session.interval, session.instruments)
    if isinstance(session.broker, Replaying):
        session.broker.advance(session.bars, session.rates)
    reconcile(session)
    apart = broken(session)
    foreign(session)
    _carry_through(session, apart)

    fronts = quotes.fronts(rolls, session.instruments, session.run.as_of)
    traded = bars["symbol"].map({s: i.trade_market for s, i in session.instruments.items()})
    priced = quotes.quotes(
        bars[bars["market"] == traded],
        rolls,
        fronts,
        session.instruments,
        interval=session.interval,
        atr=session.settings.execution.atr,
        as_of=session.run.as_of,
        known_at=session.run.known_at,
        volatility_bars=_volatility_bars(session),
        a_year=standing.bars_a_year(session) if _volatility_bars(session) else None,
    )
    if decide_too and _decide(session, priced, fronts, terms):
        _carry_through(session, apart)
    naked(session)
    mark(session)


def _carry_through(session: Session, apart: set[str]) -> None:
    """Exits and protection first, then the entries; twice, for one that is proven never to have arrived."""
    settle(session, apart)
    for _ in range(2):
        if not send_entries(session):
            return
        reconcile(session)
        settle(session, apart)


def _skew(session: Session) -> str | None:
    at, now, most = session.broker.account().at, session.clock.now(), session.settings.execution.max_clock_skew
    if at is None or abs((at - now).total_seconds()) <= most:
        return None
    why = f"our clock says {now.isoformat()}, the broker's {at.isoformat()}: over {most:g} s, so no entry"
    session.report.notes.append(why)
    return why


def _volatility_bars(session: Session) -> int:
    sizing = session.settings.sizing
    return 0 if sizing.target_volatility is None else sizing.volatility_bars


def _market(session: Session) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    Bars of all that is traded, held or converts a currency, as far back as ATR and replay need; and the
    rolls.
    """
    as_of = session.run.as_of
    needed = max(session.settings.execution.atr, _volatility_bars(session) // quotes.SMOOTHING + 1)
    after = as_of - quotes.lookback(session.interval, needed)
    watched: dict[Any, datetime] = {}
    if isinstance(session.broker, Replaying):
        watched = session.broker.watching()
        gone = sorted({key[0] for key in watched} - set(session.instruments))
        if gone:
            raise ConfigError(
                f"book {session.book!r} holds {', '.join(gone)}, but config.ini has no [instrument.*] for them"
            )
        after = min([after, *watched.values()])
    wanted: dict[str, set[str]] = {"spot": set(), "futures": set()}
    for symbol, instrument in session.instruments.items():
        wanted[instrument.trade_market].add(symbol)
    for symbol, market, _ in watched:
        wanted[market].add(symbol)
    wanted["spot"] |= {s for s in _pairs(session) if session.instruments[s].spot is not None}
    read = [
        hub_bars.window(
            session.hub,
            sorted(symbols),
            market,
            session.interval,
            after=after,
            until=as_of,
            known_at=session.run.known_at,
        )
        for market, symbols in wanted.items()
        if symbols
    ]
    # a roll that was decided at as_of holds for the next bar
    rolls = hub_bars.rolls(session.hub, sorted(session.instruments), until=as_of, known_at=session.run.known_at)
    bars = pd.concat([r for r in read if len(r)], ignore_index=True) if any(len(r) for r in read) else Bars.empty()
    return bars, rolls


def _pairs(session: Session) -> list[str]:
    """Instruments that convert a traded currency into the account's."""
    home = session.broker.account().currency
    foreign = {i.currency for i in session.instruments.values()} - {home}
    return sorted({p for c in foreign for p in (c + home, home + c)} & set(session.instruments))


def _rates(session: Session, bars: pd.DataFrame, fx: Mapping[str, Decimal]) -> dict[str, Decimal]:
    home = session.broker.account().currency
    currencies = sorted({i.currency for i in session.instruments.values()})
    found = quotes.rates(
        bars,
        currencies,
        home,
        as_of=session.run.as_of,
        interval=session.interval,
        instruments=session.instruments,
        max_age=session.settings.execution.max_score_age,
    )
    return {**found, **fx}


def _scores(session: Session) -> dict[str, Score]:
    """Each symbol's newest composite at or before as_of."""
    with session.hub.engine.connect() as conn:
        rows = conn.execute(
            text(
                "SELECT c.* FROM unnest(CAST(:symbols AS text[])) AS wanted(name) CROSS JOIN LATERAL"
                " (SELECT symbol, ts, score, raw, gate, veto, batch_id FROM signals.composite"
                "  WHERE scope = :scope AND symbol = wanted.name AND ts <= :as_of ORDER BY ts DESC LIMIT :confirm) c"
                " ORDER BY symbol, ts DESC"
            ),
            {
                "symbols": sorted(session.instruments),
                "scope": session.run.scope,
                "as_of": session.run.as_of,
                "confirm": session.settings.entry.confirm,
            },
        ).all()
    streak = standing.streaks(((r.symbol, r.score) for r in rows), session.settings.execution.entry_threshold)
    newest = {r.symbol: r for r in reversed(rows)}
    age = quotes.ages({s: r.ts for s, r in newest.items()}, session.run.as_of, session.interval, session.instruments)
    return {s: Score(r.ts, r.score, r.raw, r.gate, r.veto, r.batch_id, age[s], streak[s]) for s, r in newest.items()}


def _decide(session: Session, priced: Mapping[str, Quote], fronts: Mapping[str, str], terms: Mapping[str, Any]) -> bool:
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
        locked = issues.halts(conn, session.run.known_at) | ledger.locks(conn, session.book)
        known_now = Standing(account, start, session.control().state, locked, skew=session.skew)
        book = standing.complete(session, conn, known_now)
        standing.trip(session, conn, book)
        distance = standing.distances(conn, session.book)
    undecided = [s for s in session.instruments if (s, scores[s].batch_id if s in scores else None) not in known]
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
