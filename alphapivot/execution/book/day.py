"""The risk day's equity and messages, and deposits and withdrawals, which do not count as profit or loss."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from alphapivot.brokers.base import Account, Replaying
from alphapivot.errors import DataError

if TYPE_CHECKING:
    from alphapivot.brokers.base import Broker
    from alphapivot.hub import Hub


def open_day(conn: Connection, book: str, day: date, account: Account, at: datetime) -> Decimal:
    """
    Records today's equity and cash as of ``at``. Returns the equity at the start of the day: the last one seen before
    it, plus deposits and less withdrawals since.
    """
    upsert = """
        INSERT INTO trading.risk_day AS r (book, day, currency, start_equity, start_at, equity, cash, seen_at)
        SELECT :book, :day, :currency, coalesce(l.equity, :equity), coalesce(l.seen_at, :at), :equity, :cash, :at
        FROM (VALUES (1)) one LEFT JOIN LATERAL (
            SELECT equity, seen_at FROM trading.risk_day WHERE book = :book AND day < :day ORDER BY day DESC LIMIT 1
        ) l ON true
        ON CONFLICT (book, day) DO UPDATE SET equity = excluded.equity, cash = excluded.cash, seen_at = excluded.seen_at
        WHERE (r.equity, r.cash) IS DISTINCT FROM (excluded.equity, excluded.cash) OR EXISTS (
            SELECT FROM trading.external_cash c
            WHERE c.book = r.book AND c.at > r.seen_at AND c.at <= excluded.seen_at)
    """
    now = {"currency": account.currency, "equity": account.equity, "cash": account.cash, "at": at}
    conn.execute(text(upsert), {"book": book, "day": day, **now})
    query = """
        SELECT start_equity + coalesce((SELECT sum(amount) FROM trading.external_cash c
                                        WHERE c.book = r.book AND c.at > r.start_at AND c.at <= :at), 0)
        FROM trading.risk_day r WHERE book = :book AND day = :day
    """
    return Decimal(conn.execute(text(query), {"book": book, "day": day, "at": at}).scalar_one())


def count_messages(conn: Connection, book: str, day: date, messages: int) -> bool:
    """Adds to the day's message count; False if the day is not open yet."""
    query = "UPDATE trading.risk_day SET messages = messages + :n WHERE book = :book AND day = :day"
    return conn.execute(text(query), {"book": book, "day": day, "n": messages}).rowcount > 0


def pay(hub: Hub, broker: Broker, book: str, amount: Decimal, note: str, at: datetime) -> Account:
    """
    Records a deposit, or a withdrawal if negative, in the book's currency; a simulated account is also credited or
    debited. Returns the account afterwards. Raises DataError for an amount of 0, and for a withdrawal above the free
    funds of a simulated account.
    """
    if not amount.is_finite() or amount == 0:
        raise DataError(f"the amount must be a finite number other than 0, got {amount}")
    if not note.strip():
        raise DataError("a payment needs a note, such as its reference")
    account = broker.account()
    if isinstance(broker, Replaying) and account.free + amount < 0:
        raise DataError(f"book {book!r} has {account.free:.2f} {account.currency} free to withdraw, got {-amount:f}")
    query = """
        INSERT INTO trading.book_cash (book, at, amount, note, kind) VALUES (:book, :at, :amount, :note, :kind)
    """
    row = {"book": book, "at": at, "amount": amount, "note": note}
    with hub.engine.begin() as conn:
        conn.execute(text(query), row | {"kind": "deposit" if amount > 0 else "withdrawal"})
        if isinstance(broker, Replaying):
            broker.pay(conn, amount)
    return broker.account()
