"""The risk day's equity and messages, and cash that moves without a trade."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, text

from alphapivot.brokers.base import Account, Replaying
from alphapivot.errors import DataError
from alphapivot.execution.account import books
from alphapivot.execution.book import ledger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alphapivot.brokers.base import Broker, CashKind
    from alphapivot.hub import Hub


CENT = Decimal("0.01")


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


def cash_seen(conn: Connection, book: str) -> RowMapping | None:
    """The row of ``trading.cash_seen``, locked until the transaction ends; None before the first comparison."""
    query = "SELECT * FROM trading.cash_seen WHERE book = :book FOR UPDATE"
    return conn.execute(text(query), {"book": book}).mappings().one_or_none()


def explain(conn: Connection, book: str, amount: Decimal) -> None:
    """Takes a booked movement out of the gap that it explains."""
    query = """
        UPDATE trading.cash_seen
        SET booked = booked + :amount, gap = gap - :amount, gap_at = CASE WHEN gap <> :amount THEN gap_at END,
            gap_seen = CASE WHEN gap <> :amount THEN gap_seen END
        WHERE book = :book
    """
    conn.execute(text(query), {"book": book, "amount": amount})


def cash_booked(conn: Connection, book: str) -> Decimal:
    """The sum of what has moved the book's cash: fills less fees, and movements without a trade."""
    query = """
        SELECT (SELECT coalesce(sum(cash - fee), 0) FROM trading.fill WHERE book = :book)
             + (SELECT coalesce(sum(amount), 0) FROM trading.book_cash WHERE book = :book)
    """
    return Decimal(conn.execute(text(query), {"book": book}).scalar_one())


def unexplained(row: Mapping[Any, Any] | None, share: Decimal = books.WHOLE) -> str | None:
    """
    A sentence about the gap in a row of ``trading.cash_seen``; None if there is none. ``share``: the book's, of an
    account that several trade.
    """
    if row is None or not row["gap"]:
        return None
    amount = row["gap"] if share in (0, 1) else (row["gap"] / share).quantize(CENT)
    return (
        f"{abs(amount):.2f} of cash {'came' if amount > 0 else 'left'} between {row['gap_at']:%Y-%m-%d %H:%M} and"
        f" {row['gap_seen']:%Y-%m-%d %H:%M} UTC without a trade: a payment that nobody recorded? If so"
        f" `alphapivot cash {amount:f} --note TEXT`; if it is a result, such as a fee or a loss, add --kind other"
    )


def pay(
    hub: Hub,
    broker: Broker,
    book: str,
    amount: Decimal,
    note: str,
    at: datetime,
    *,
    since: datetime | None = None,
    kind: CashKind | None = None,
) -> Account:
    """
    Records cash that moved without a trade, in the book's currency; a simulated account is also credited or debited. Of
    an account that several books trade, each has its share of it. Returns the account afterwards.

    ``at``: when it moved; with ``since``: at some time between the two. ``kind``: by default a deposit, or a withdrawal
    if negative. Raises DataError for an amount of 0, for a withdrawal above the free funds of a simulated account, for
    a broker that reports its movements itself, and for a time at which the account's cash shows no such movement.
    """
    if not amount.is_finite() or amount == 0:
        raise DataError(f"the amount must be a finite number other than 0, got {amount}")
    if not note.strip():
        raise DataError("a payment needs a note, such as its reference")
    account, simulated = broker.account(), isinstance(broker, Replaying)
    if simulated and account.free + amount < 0:
        raise DataError(f"book {book!r} has {account.free:.2f} {account.currency} free to withdraw, got {-amount:f}")
    reports = broker.cash_flows(at.date()) is not None
    with hub.engine.begin() as conn:
        seen = cash_seen(conn, book)
        explains = seen is not None and seen["gap"] * amount > 0
        if reports and not explains:
            raise DataError(
                f"the broker of book {book!r} reports deposits, withdrawals, dividends, interest and fees itself: each"
                " run books them, nothing is to be typed"
            )
        number = books.number_of(conn, book)
        parts = {} if number is None else books.parts(conn, number)
        shares = {name: part.share for name, part in parts.items() if part.share} or {book: books.WHOLE}
        common = {"note": note, "kind": kind or ("deposit" if amount > 0 else "withdrawal")}
        for name, share in shares.items():
            row_of = seen if name == book else cash_seen(conn, name)
            fills_gap = row_of is not None and row_of["gap"] * amount > 0
            counts = _placed(conn, name, since or at, at, row_of, explains=fills_gap)
            ledger.insert(conn, "book_cash", [common | {"book": name, "amount": amount * share, "at": counts}])
            if fills_gap:
                explain(conn, name, amount * share)
        if isinstance(broker, Replaying):
            broker.pay(conn, amount)
    return broker.account()


def last_seen(hub: Hub, book: str) -> datetime | None:
    """When a run last saw the account."""
    query = "SELECT max(seen_at) FROM trading.risk_day WHERE book = :book"
    with hub.engine.connect() as conn:
        seen_at: datetime | None = conn.execute(text(query), {"book": book}).scalar_one()
    return seen_at


def _placed(
    conn: Connection, book: str, since: datetime, at: datetime, seen: RowMapping | None, *, explains: bool
) -> datetime:
    """
    The instant from which a typed movement counts, between ``since`` and ``at``. It must fit the account's cash:
    counted from a later run on than the one that first saw it, a withdrawal would hide a loss as large.
    """
    query = "SELECT min(start_at) AS first, max(seen_at) AS last FROM trading.risk_day WHERE book = :book"
    first, last = conn.execute(text(query), {"book": book}).one()
    if first is not None and at < first:
        raise DataError(
            f"book {book!r} began at {_utc(first)}, and the payment is of {_utc(at)}: it is part of its start"
        )
    if seen is not None and explains:
        if at < seen["gap_at"] or since > seen["gap_seen"]:
            raise DataError(
                f"the account's cash moved between {_utc(seen['gap_at'])} and {_utc(seen['gap_seen'])}, and the payment"
                f" is of {_utc(at)}: correct --at, or leave it out"
            )
        gap_at: datetime = seen["gap_at"]
        return gap_at
    last = last if seen is None else seen["at"]
    if last is not None and at <= last:
        raise DataError(
            f"the account was seen at {_utc(last)}, and its cash was explained without this payment: it moved later;"
            " correct --at, or leave it out"
        )
    return at


def reconciled(hub: Hub, broker: Broker, book: str, account: Account) -> tuple[Decimal | None, Decimal]:
    """Returns (equity before the movement that was typed last, None if unknown; cash that nothing explains)."""
    query = """
        SELECT equity FROM trading.risk_day
        WHERE book = :book AND seen_at < (
            SELECT at FROM trading.book_cash WHERE book = :book ORDER BY cash_id DESC LIMIT 1)
        ORDER BY day DESC LIMIT 1
    """
    with hub.engine.connect() as conn:
        before = conn.execute(text(query), {"book": book}).scalar_one_or_none()
        seen = cash_seen(conn, book)
        if seen is None or isinstance(broker, Replaying):
            return before, Decimal(0)
        return before, seen["gap"] + account.cash - seen["cash"] - (cash_booked(conn, book) - seen["booked"])


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
