"""
One executor run: lock, fence, reconcile, protect, decide, commit, send, record. Can be killed at any instant and run
again.

Every order is committed before it is sent; an order that was sent but not recorded is found at the broker by its id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg

from alphapivot.brokers.base import Broker, Replaying
from alphapivot.brokers.registry import open_broker
from alphapivot.clock import SimulatedClock
from alphapivot.errors import ConfigError, DataError, Unavailable
from alphapivot.execution.account import books, shares
from alphapivot.execution.account.part import AccountPart
from alphapivot.execution.book import ledger
from alphapivot.execution.book.mark import mark
from alphapivot.execution.market import market
from alphapivot.execution.market.source import Stored
from alphapivot.execution.run import ended
from alphapivot.execution.run.choose import choose
from alphapivot.execution.run.entries import send_entries
from alphapivot.execution.run.foreign import foreign
from alphapivot.execution.run.gather import standing_of
from alphapivot.execution.run.reconcile import broken, naked, reconcile
from alphapivot.execution.run.session import Session, TradeReport
from alphapivot.execution.run.settle import settle
from alphapivot.execution.run.trail import trail
from alphapivot.execution.run.unseen import unseen

if TYPE_CHECKING:
    from alphapivot.brokers.base import Account
    from alphapivot.clock import Clock
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef


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
    Trades the book of [execution] on the scores known at ``run.as_of``; without ``decide_too`` it only acts on earlier
    decisions: entries that wait for the open, protection, exits.

    ``fx``: currency -> book currency per unit; missing rates come from instruments named as pairs (EURUSD). ``terms``:
    symbol -> the terms of its composite, recorded with the decision. ``broker``: replaces the configured one.
    Idempotent: a second call with the same inputs sends no orders and writes only the fence. Raises ConfigError if a
    trade is open in an instrument that is no longer in config.ini or whose terms have changed, DataError if as_of has
    not come, Unavailable if the database or the broker is lost.
    """
    book = settings.execution.book
    not_yet(run.as_of, clock, settings.execution.max_clock_skew)
    report = TradeReport(run.run_id, book, run.as_of)
    with only_executor(hub, book) as lock:
        if lock is None:
            report.busy = True
            report.notes.append(f"another executor is running on book {book!r}: nothing was done")
            return report
        with hub.engine.begin() as conn:
            fence = ledger.raise_fence(conn, book)
            last = ledger.last_as_of(conn, book)
            number = books.number_of(conn, book)
            other_strategies = ledger.strategies(conn, book) - {settings.execution.strategy}
        if other_strategies:
            raise ConfigError(
                f"book {book!r} holds open trades of strategy {', '.join(sorted(other_strategies))}, but [execution]"
                f" strategy is {settings.execution.strategy}: a broker nets positions, so each strategy needs a book of"
                " its own"
            )
        # before a connection is made, as some brokers take one at a time
        if number is not None and shares.admitted(lock, number, report, pause) is None:
            return report
        broker = broker or open_broker(hub, settings)
        now, ahead = clock.now(), None
        replayed = isinstance(broker, Replaying) and isinstance(clock, SimulatedClock)  # its time is that of its runs
        if last is not None and run.as_of < last and last > now and not replayed:
            ahead = (
                f"book {book!r} has decided for {last.isoformat()}, and it is {now.isoformat()}: open trades are"
                " managed, nothing is entered until that time has come or `alphapivot repair` is run"
            )
            report.notes.append(ahead)
        elif last is not None and run.as_of < last:
            report.stale = True
            report.notes.append(
                f"book {book!r} has decided for {last.isoformat()}, which is later than {run.as_of.isoformat()}:"
                " nothing was done"
            )
            return report
        _fits(broker, settings)
        session = Session(
            hub=hub,
            run=run,
            settings=settings,
            clock=clock,
            broker=broker,
            lock=lock,
            fence=fence,
            report=report,
            source=Stored(hub, run, settings),
            pause=pause,
            ahead=ahead,
        )
        go(session, fx or {}, terms or {}, decide_too=decide_too and ahead is None)
    return report


def not_yet(as_of: datetime, clock: Clock, tolerance: float = 0) -> None:
    """Raises DataError if ``as_of`` is later than the clock by more than ``tolerance`` seconds."""
    now = clock.now()
    if as_of > now + timedelta(seconds=tolerance):
        raise DataError(f"as_of {as_of.isoformat()} has not come: it is {now.isoformat()}, and nothing later is known")


def busy(hub: Hub, book: str) -> bool:
    """True if another executor is running on this book; the lock of a killed one is free at once."""
    with only_executor(hub, book) as lock:
        return lock is None


@contextmanager
def only_executor(hub: Hub, book: str) -> Iterator[psycopg.Connection | None]:
    """A connection that holds the book's lock while it is open; None if another executor has the lock."""
    conn = hub.dbapi(autocommit=True)
    try:
        yield conn if locked(conn, book) else None
    finally:
        # a busy server may notice a closed connection only after the next run has started
        with suppress(psycopg.Error):
            conn.execute("SELECT pg_advisory_unlock_all()")
        conn.close()


def locked(conn: psycopg.Connection, book: str) -> bool:
    """Takes the book's lock for the life of the connection; False if another executor has it."""
    row = conn.execute("SELECT pg_try_advisory_lock(hashtext('alphapivot.trade'), hashtext(%s))", [book]).fetchone()
    return row is not None and bool(row[0])


def go(session: Session, fx: Mapping[str, Decimal], terms: Mapping[str, Any], *, decide_too: bool = True) -> None:
    """Runs one as_of of a book whose lock and fence the session holds; a backtest calls it at every bar."""
    with session.hub.engine.connect() as conn:
        trades = ledger.open_trades(conn, session.book)
    missing = sorted({t["symbol"] for t in trades} - set(session.instruments))
    if missing:
        raise ConfigError(
            f"book {session.book!r} has open trades in {', '.join(missing)}, but config.ini has no [instrument.*] for"
            " them, so nobody looks after their stops: put the sections back, with tradable = no until the trades are"
            " closed (alphapivot close SYMBOL)"
        )
    _same_terms(session, trades)
    account = _account(session)
    if account is None:
        return
    session.skew = _skew(session, account)
    _see(session, {t["symbol"] for t in trades}, fx, decide_too=decide_too)
    if trades:
        ended.close_out(session)
    reconcile(session)
    try:
        mismatched = broken(session)
        foreign(session, mismatched)
        unseen(session)
    except Unavailable:  # open trades are still protected; entries wait for a run with all facts
        settle(session, session.apart)
        raise
    _carry_through(session, mismatched)

    if decide_too:
        fronts, priced = market.priced(session)
        if choose(session, priced, fronts, terms) or session.tripped:
            _carry_through(session, mismatched)
    else:
        _, rows = standing_of(session)  # loss limits apply between decisions too
        if trail(session, rows) or session.tripped:
            settle(session, mismatched)
    naked(session)
    mark(session)


def _account(session: Session) -> Account | None:
    """The account, which from here on is this run's alone, and this book's part of it; None if it is in use."""
    account = session.broker.account()
    session.home = account.currency
    if account.number is None:
        shares.alone(session)
        return account
    waited = shares.admitted(session.lock, account.number, session.report, session.pause)
    if waited is None:
        return None
    account = session.broker.account() if waited else account
    shares.join(session, str(account.number))
    return account


def _see(session: Session, held: set[str], fx: Mapping[str, Decimal], *, decide_too: bool) -> None:
    """Reads the market; a broker that replays bars sees them too. ``held``: symbols with an open trade."""
    if isinstance(session.broker, AccountPart):
        held = held | session.broker.elsewhere()  # their splits change what the account holds
    # between decisions only open trades are managed
    session.attended = session.source.attended(held) if decide_too else sorted(held)
    session.bars = market.read(session)
    session.rates = market.rates(session, session.bars, fx)
    if session.actions is not None and len(session.actions):
        if isinstance(session.broker, Replaying):
            held |= {key[0] for key in session.broker.watching()}
        session.events = market.events(session.actions, held)
    if isinstance(session.broker, AccountPart):
        session.broker.events = session.events
    if isinstance(session.broker, Replaying):
        session.broker.advance(session.bars, session.rates, session.events)


def _same_terms(session: Session, trades: Sequence[Mapping[Any, Any]]) -> None:
    """Raises ConfigError if terms that an open trade's money is counted by have changed under it."""
    changed = [
        f"[instrument.{t['symbol']}] {name} = {now}, and trade {t['trade_id']} was opened with {t[name]}"
        for t in trades
        for name in ("multiplier", "quote_unit", "currency")
        if (now := getattr(session.instruments[t["symbol"]], name)) != t[name]
    ]
    if changed:
        raise ConfigError(
            f"terms have changed under open trades of book {session.book!r}: set them back until they are closed\n  "
            + "\n  ".join(changed)
        )


def _carry_through(session: Session, mismatched: set[str]) -> None:
    """Exits and protection, then entries; twice, so that an entry that provably did not arrive is sent again."""
    settle(session, mismatched)
    for _ in range(2):
        if not send_entries(session):
            return
        reconcile(session)
        settle(session, mismatched)


def _fits(broker: Broker, settings: Settings) -> None:
    """Raises ConfigError if trades could stay open overnight, or grow, without a working stop of all of them."""
    caps = broker.caps
    if settings.execution.form == "positions" and not (caps.adds and caps.atomic_replace):
        why = (
            "takes no entry beside the working stop of its position"
            if caps.atomic_replace
            else "cannot resize a stop in one step: while the old one is cancelled, a position would have none"
        )
        raise ConfigError(
            f"[execution] form = positions: [broker.{settings.execution.broker}] {why}; expected form = trades, or a"
            " paper account"
        )
    if not (caps.stop_survives_session or caps.stop_outside_hours or settings.exit.session_end):
        raise ConfigError(
            f"stops at [broker.{settings.execution.broker}] end with the session and can be placed again only in the"
            " next one: set [exit] session_end = yes, so that no trade is held in between"
        )


def _skew(session: Session, account: Account) -> str | None:
    at, now, limit = account.at, session.clock.now(), session.settings.execution.max_clock_skew
    if at is None or abs((at - now).total_seconds()) <= limit:
        return None
    message = f"our clock is at {now.isoformat()}, the broker's at {at.isoformat()}: over {limit:g} s apart, no entries"
    session.report.notes.append(message)
    return message
