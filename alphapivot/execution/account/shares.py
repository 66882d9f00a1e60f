"""Joins a book to an account that several trade, and gives it the share that its config asks for."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from alphapivot.brokers.base import Replaying
from alphapivot.errors import ConfigError
from alphapivot.execution.account import books
from alphapivot.execution.account.divide import MICRO
from alphapivot.execution.account.part import AccountPart, Place
from alphapivot.execution.book import day, ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    import psycopg

    from alphapivot.brokers.base import Account, Broker
    from alphapivot.config.settings import Settings
    from alphapivot.execution.run.session import Session, TradeReport
    from alphapivot.hub import Hub

WAIT = 300.0  # seconds for which a run waits for one of another book of its account
STEP = 0.5
NONE = Decimal(0)
UNREAD = """
    SELECT EXISTS (SELECT FROM trading.orders o WHERE o.book = :book AND o.cum_qty > (
        SELECT coalesce(sum(f.qty), 0) FROM trading.fill f WHERE f.client_order_id = o.client_order_id))
"""
COUNTED = "UPDATE trading.cash_seen SET booked = booked + :amount WHERE book = :book"


def admitted(
    lock: psycopg.Connection | Connection, number: str, report: TradeReport, pause: Callable[[float], None]
) -> float | None:
    """
    Takes the lock of the account, for one run at a time: another book's orders may not be sent while positions are
    read. Returns the seconds waited for it; None, with a note in the report, if it stays taken.
    """
    waited = 0.0
    while not books.lock(lock, number):
        if waited >= WAIT:
            report.busy = True
            report.notes.append(
                f"a run of another book has used {number} for {WAIT:g} seconds: book {report.book!r} did nothing"
            )
            return None
        pause(STEP)
        waited += STEP
    return waited


def alone(session: Session) -> None:
    """Raises ConfigError for a share of a real account that has no number, by which its books would be known."""
    execution = session.settings.execution
    if execution.share < 1 and execution.mode != "shadow" and not isinstance(session.broker, Replaying):
        raise ConfigError(
            f"[execution] share = {execution.share:f}, but [broker.{execution.broker}] does not tell the number of its"
            " account, so that the books of one cannot be known: expected share = 1, and one book for the account"
        )


def join(session: Session, number: str) -> None:
    """
    Claims the account for the book, and shows the book its part of it if several have one. Raises ConfigError as
    ``books.claim`` does.
    """
    session.number = number
    with session.hub.engine.begin() as conn:
        books.claim(conn, session.book, number, session.settings.execution.share)
    _divide(session)


def take(session: Session, account: Account) -> Account:
    """
    Gives the book the share that its config asks for: it hands in what it has, and takes the same share of what the
    other books do not have. It waits while cash is unexplained, a fill is unread, or a symbol is locked. Returns the
    account as the book then has it.
    """
    number, wish = session.number, session.settings.execution.share
    if number is None:
        return account
    with session.hub.engine.begin() as conn:
        have = books.parts(conn, number)
        mine = have.get(session.book)
        now = mine.share if mine is not None else NONE if have else books.WHOLE
        if now == wish:
            return account
        part = session.broker
        if not _explained(conn, session.book) or (isinstance(part, AccountPart) and not part.settled):
            session.tell(
                f"book {session.book!r} keeps its share {now:f} of {number} for now: its cash, a fill or a lock is not"
                " explained"
            )
            return account
        _change(session, conn, account, have, wish)
    _divide(session)
    return session.broker.account()


def _change(session: Session, conn: Connection, account: Account, have: dict[str, books.Part], wish: Decimal) -> None:
    """Records a new share, and the money that moves with it between the book and what no book has."""
    book, number, as_of = session.book, str(session.number), session.run.as_of
    if have:
        _count(session, conn, have)
        mine, rest = have.get(book, books.Part(NONE, NONE)), have[number]
        left = rest.opening + day.cash_booked(conn, number)
    else:
        mine, rest = books.Part(books.WHOLE, account.cash - day.cash_booked(conn, book)), books.Part(NONE, NONE)
        left = NONE
    free = 1 - sum((part.share for b, part in have.items() if b not in (book, number)), NONE)
    moved = (account.equity + left) * wish / free - account.equity if wish else -account.equity
    moved = moved.quantize(MICRO)
    changed = {book: books.Part(wish, mine.opening), number: books.Part(free - wish, rest.opening)}
    books.write(conn, number, changed, as_of)
    note = f"[execution] share of {number}: {mine.share:f} became {wish:f}"
    common = {"at": as_of, "kind": "journal", "note": f"{note}, book {book}"}
    rows = [common | {"book": b, "amount": amount} for b, amount in ((book, moved), (number, -moved))]
    ledger.insert(conn, "book_cash", [r for r in rows if r["amount"]])
    line = f"{note}: {moved:.2f} {account.currency} of it"
    session.note(conn, [("share", None, None, line)])
    session.tell(line)


def _count(session: Session, conn: Connection, have: Mapping[str, books.Part]) -> None:
    """What nobody has explained so far came by the shares as they were: it is booked as a result of each book."""
    unexplained = session.broker.unexplained if isinstance(session.broker, AccountPart) else NONE
    amounts = {book: part.share * unexplained for book, part in have.items() if part.share * unexplained}
    common = {"at": session.run.as_of, "kind": "other", "note": "never explained, by share"}
    ledger.insert(conn, "book_cash", [common | {"book": book, "amount": amount} for book, amount in amounts.items()])
    if amounts:
        conn.execute(text(COUNTED), [{"book": book, "amount": amount} for book, amount in amounts.items()])


def _explained(conn: Connection, book: str) -> bool:
    """True if the ledger explains all that the book's account has."""
    seen = day.cash_seen(conn, book)
    unread = conn.execute(text(UNREAD), {"book": book}).scalar_one()
    return not (unread or ledger.locks(conn, book) or (seen is not None and seen["gap"]))


def part_of(hub: Hub, settings: Settings, broker: Broker, now: datetime) -> Broker:
    """``broker`` as the book of [execution] sees it: its part of an account that several books trade."""
    book = settings.execution.book
    with hub.engine.connect() as conn:
        number = books.number_of(conn, book)
        shared = number is not None and bool(books.parts(conn, number))
    if number is None or not shared or settings.execution.mode == "shadow":
        return broker
    lots = {symbol: i.trading(now).lot for symbol, i in settings.instruments.items()}
    return AccountPart(broker, hub, Place(book, number, lots, now, settings.timeframes.base))


def _divide(session: Session) -> None:
    """From now on the session's broker is the book's part of the account."""
    if not isinstance(session.broker, AccountPart):
        session.broker = part_of(session.hub, session.settings, session.broker, session.run.as_of)
