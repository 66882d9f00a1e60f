"""The books that trade one account, and their shares of it: docs/execution.md, Several books on one account."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import psycopg
from sqlalchemy import Connection, text

from alphapivot.errors import ConfigError
from alphapivot.execution.book import ledger

WHOLE = Decimal(1)
NUMBERS = "SELECT book, number FROM trading.account WHERE book = :book OR number = :number ORDER BY book"
SHARES = """
    SELECT DISTINCT ON (book) book, share, opening FROM trading.share WHERE number = :number
    ORDER BY book, share_id DESC
"""


@dataclass(frozen=True)
class Part:
    """A book's share of its account; ``opening``: its cash besides its fills and movements."""

    share: Decimal
    opening: Decimal


def lock(conn: psycopg.Connection | Connection, number: str) -> bool:
    """Takes the account's lock for the life of the connection; False if a run of another book has it."""
    if isinstance(conn, Connection):  # of a backtest, whose account is its own
        return True
    query = "SELECT pg_try_advisory_lock(hashtext('alphapivot.account'), hashtext(%s))"
    row = conn.execute(query, [number]).fetchone()
    return row is not None and bool(row[0])


def hold(conn: Connection, book: str) -> bool:
    """Takes the lock of the book's account, if it has one, until the transaction ends; False if a run has it."""
    query = """
        SELECT coalesce(bool_and(pg_try_advisory_xact_lock(hashtext('alphapivot.account'), hashtext(number))), true)
        FROM trading.account WHERE book = :book
    """
    return bool(conn.execute(text(query), {"book": book}).scalar_one())


def number_of(conn: Connection, book: str) -> str | None:
    """The number of the account that the book trades; None if it has none as yet."""
    query = text("SELECT number FROM trading.account WHERE book = :book")
    number: str | None = conn.execute(query, {"book": book}).scalar_one_or_none()
    return number


def of(conn: Connection, number: str) -> list[str]:
    """The books of an account."""
    query = text("SELECT book FROM trading.account WHERE number = :number ORDER BY book")
    return list(conn.execute(query, {"number": number}).scalars())


def parts(conn: Connection, number: str) -> dict[str, Part]:
    """
    Book -> its part of a shared account; under the number itself what no book has. Empty: one book has all of it.
    """
    rows = conn.execute(text(SHARES), {"number": number})
    return {row.book: Part(row.share, row.opening) for row in rows}


def claim(conn: Connection, book: str, number: str, share: Decimal) -> None:
    """
    Gives an account to a book that has none. Raises ConfigError if the book has another one, or if the shares of the
    books of this one would add up to more than 1.
    """
    owners = {row.book: row.number for row in conn.execute(text(NUMBERS), {"book": book, "number": number})}
    if owners.get(book, number) != number:
        raise ConfigError(
            f"book {book!r} trades account {owners[book]}, but these keys open {number}: set another [execution] book"
            " for another account"
        )
    have = parts(conn, number)
    shares = {b: have[b].share if b in have else WHOLE for b in owners} | {book: share}
    if sum(shares.values()) > 1 and len(shares) > 1:
        listed, whole = ", ".join(f"{b} {s:f}" for b, s in shares.items()), sum(shares.values())
        raise ConfigError(
            f"the shares of the books of {number} add up to {whole:f}, at most 1: {listed}; set [execution] share in"
            f" their configs and run first the book that gives something up, or give {book} another account"
        )
    if book not in owners:
        ledger.insert(conn, "account", [{"book": book, "number": number}])


def positions(conn: Connection, names: Collection[str]) -> dict[str, dict[tuple[str, str, str], Decimal]]:
    """Book -> its positions, as ``ledger.positions`` has them."""
    return {name: ledger.positions(conn, name) for name in names}


def write(conn: Connection, number: str, changed: Mapping[str, Part], at: datetime) -> None:
    """Records shares from now on."""
    rows = [
        {"book": book, "number": number, "share": part.share, "opening": part.opening, "at": at}
        for book, part in changed.items()
    ]
    ledger.insert(conn, "share", rows)
