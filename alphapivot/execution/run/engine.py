"""
One executor run: lock, fence, reconcile, protect, decide, commit, send, record. Safe to be killed at any instant and
run again.

Nothing is sent that was not committed before; what was sent and not recorded is found at the broker by its id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg

from alphapivot.brokers.base import Broker, Replaying
from alphapivot.brokers.registry import open_broker
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.execution.book import ledger
from alphapivot.execution.book.mark import mark
from alphapivot.execution.market import market
from alphapivot.execution.market.source import Stored
from alphapivot.execution.run.choose import choose
from alphapivot.execution.run.entries import send_entries
from alphapivot.execution.run.gather import stand
from alphapivot.execution.run.reconcile import broken, foreign, naked, reconcile
from alphapivot.execution.run.session import Session, TradeReport
from alphapivot.execution.run.settle import settle
from alphapivot.execution.run.trail import trail

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
        _fits(broker, settings)
        session = Session(
            hub, run, settings, clock, broker, lock, fence, report, Stored(hub, run, settings), pause=pause
        )
        go(session, fx or {}, terms or {}, decide_too=decide_too)
    return report


@contextmanager
def _only_executor(hub: Hub, book: str) -> Iterator[psycopg.Connection | None]:
    """A connection of its own that holds the book's lock as long as it lives; None when another executor has it."""
    conn = hub.dbapi(autocommit=True)
    try:
        yield conn if locked(conn, book) else None
    finally:
        # a server at work may notice a closed connection only after the next run has come
        with suppress(psycopg.Error):
            conn.execute("SELECT pg_advisory_unlock_all()")
        conn.close()


def locked(conn: psycopg.Connection, book: str) -> bool:
    """Takes the book's lock, which lasts as long as the connection; False when another executor has it."""
    row = conn.execute("SELECT pg_try_advisory_lock(hashtext('alphapivot.trade'), hashtext(%s))", [book]).fetchone()
    return row is not None and bool(row[0])


def go(session: Session, fx: Mapping[str, Decimal], terms: Mapping[str, Any], *, decide_too: bool = True) -> None:
    """One as_of of a book whose lock and fence the session holds: what ``trade`` does, and a backtest at every bar."""
    with session.hub.engine.connect() as conn:
        trades = ledger.open_trades(conn, session.book)
    gone = sorted({t["symbol"] for t in trades} - set(session.instruments))
    if gone:
        raise ConfigError(
            f"book {session.book!r} has open trades in {', '.join(gone)}, but config.ini has no [instrument.*] for them"
        )
    account = session.broker.account()
    session.home = account.currency
    _one_book(session, account)
    session.skew = _skew(session, account)
    held = {t["symbol"] for t in trades}
    # between decisions only what is open is looked at
    session.attended = session.source.attended(held) if decide_too else sorted(held)
    session.bars = market.read(session)
    session.rates = market.rates(session, session.bars, fx)
    if session.actions is not None and len(session.actions):
        if isinstance(session.broker, Replaying):
            held |= {key[0] for key in session.broker.watching()}
        session.events = market.events(session.actions, held)
    if isinstance(session.broker, Replaying):
        session.broker.advance(session.bars, session.rates, session.events)
    reconcile(session)
    try:
        apart = broken(session)
        foreign(session)
    except Unavailable:  # what is open is protected all the same; entries wait for a run that knows all
        settle(session, session.apart)
        raise
    _carry_through(session, apart)

    if decide_too:
        fronts, priced = market.priced(session)
        if choose(session, priced, fronts, terms):
            _carry_through(session, apart)
    else:
        _, rows = stand(session)  # losses are watched between decisions too
        if trail(session, rows):
            settle(session, apart)
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


def _fits(broker: Broker, settings: Settings) -> None:
    """ConfigError where a stop would be missing from one session's end to the next one's open, and a trade not."""
    caps = broker.caps
    if not (caps.stop_survives_session or caps.stop_outside_hours or settings.exit.session_end):
        raise ConfigError(
            f"stops at [broker.{settings.execution.broker}] end with the session, and can be placed again only when the"
            " next one is open: set [exit] session_end = yes, so that nothing is held in between"
        )


def _one_book(session: Session, account: Account) -> None:
    """ConfigError where the account is another book's, or another one than this book's."""
    if account.number is None:
        return
    with session.hub.engine.begin() as conn:
        own, owner = ledger.claim_account(conn, session.book, account.number)
    if owner != session.book:
        raise ConfigError(
            f"{account.number} is the account of book {owner!r}, and a broker nets positions: book {session.book!r}"
            " needs an account of its own"
        )
    if own != account.number:
        raise ConfigError(
            f"book {session.book!r} is {own}, but these keys open {account.number}: name another [execution] book for"
            " another account"
        )


def _skew(session: Session, account: Account) -> str | None:
    at, now, most = account.at, session.clock.now(), session.settings.execution.max_clock_skew
    if at is None or abs((at - now).total_seconds()) <= most:
        return None
    why = f"our clock says {now.isoformat()}, the broker's {at.isoformat()}: over {most:g} s, so no entry"
    session.report.notes.append(why)
    return why
