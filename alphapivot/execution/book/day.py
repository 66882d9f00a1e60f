"""The risk day's equity and messages, and what was paid into a book or out of it: losses are measured without."""

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
    Notes today's equity and cash, as seen ``at``; the equity with which the day began: the last one seen before it, and
    what was deposited since less what was withdrawn, which is neither gain nor loss.
    """
    upsert = """
        INSERT INTO trading.risk_day AS r (book, day, currency, start_equity, start_at, equity, cash, seen_at)
        SELECT :book, :day, :currency, coalesce(l.equity, :equity), coalesce(l.seen_at, :at), :equity, :cash, :at
        FROM (VALUES (1)) one LEFT JOIN LATERAL (
            SELECT equity, seen_at FROM trading.risk_day WHERE book = :book AND day < :day ORDER BY day DESC LIMIT 1
        ) l ON true
        ON CONFLICT (book, day) DO UPDATE SET equity = excluded.equity, cash = excluded.cash, seen_at = excluded.seen_at
        WHERE (r.equity, r.cash) IS DISTINCT FROM (excluded.equity, excluded.cash)
    """
    now = {"currency": account.currency, "equity": account.equity, "cash": account.cash, "at": at}
    conn.execute(text(upsert), {"book": book, "day": day, **now})
    query = """
        SELECT start_equity + coalesce((SELECT sum(amount) FROM trading.book_cash c
                                        WHERE c.book = r.book AND c.at > r.start_at AND c.at <= :at), 0)
        FROM trading.risk_day r WHERE book = :book AND day = :day
    """
    return Decimal(conn.execute(text(query), {"book": book, "day": day, "at": at}).scalar_one())


def count_messages(conn: Connection, book: str, day: date, messages: int) -> bool:
    """Adds to the day's messages; False where the day has not been opened yet."""
    query = "UPDATE trading.risk_day SET messages = messages + :n WHERE book = :book AND day = :day"
    return conn.execute(text(query), {"book": book, "day": day, "n": messages}).rowcount > 0


def pay(hub: Hub, broker: Broker, book: str, amount: Decimal, note: str, at: datetime) -> Account:
    """
    Records a deposit, or a withdrawal below zero, in the book's currency; into a simulated account it is also paid. The
    account afterwards. DataError for nothing, and for more than a simulated account has.
    """
    if not amount.is_finite() or amount == 0:
        raise DataError(f"an amount other than 0 is needed, got {amount}")
    if not note.strip():
        raise DataError("a payment needs a note, such as its reference")
    account = broker.account()
    if isinstance(broker, Replaying) and account.free + amount < 0:
        raise DataError(f"book {book!r} has {account.free:.2f} {account.currency} to withdraw, got {-amount:f}")
    query = "INSERT INTO trading.book_cash (book, at, amount, note) VALUES (:book, :at, :amount, :note)"
    with hub.engine.begin() as conn:
        conn.execute(text(query), {"book": book, "at": at, "amount": amount, "note": note})
        if isinstance(broker, Replaying):
            broker.pay(conn, amount)
    return broker.account()
