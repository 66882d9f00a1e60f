"""
Cash that moves without a trade: booked as the broker tells it, and compared with the account in every run.

A change of cash that neither fills nor known movements explain is a possible payment that nobody recorded. Losses are
measured without it, and entries wait until someone records it or says that it is a loss: docs/execution.md, Cash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, RowMapping, text

from alphapivot.brokers.base import Account, CashFlow, Replaying
from alphapivot.execution.account import books, paid, shares
from alphapivot.execution.account.part import AccountPart
from alphapivot.execution.book import day, ledger
from alphapivot.execution.run.reconcile import reconcile

if TYPE_CHECKING:
    from alphapivot.execution.run.session import Session

LATE = timedelta(days=30)  # a movement may be told or corrected so long after its date
LOOKS = 3  # an order may fill between reading fills and cash
FIRST = "SELECT coalesce(min(start_at), :as_of) FROM trading.risk_day WHERE book = :book"
TOLD = """
    SELECT flow_id, sum(amount) AS amount, max(revision) AS revision FROM trading.book_cash
    WHERE book = ANY(:books) AND flow_id = ANY(:ids) GROUP BY flow_id
"""
# fills that were counted but not read yet; a position that somebody traded by hand; daily settlement of futures
UNCLEAR = """
    SELECT EXISTS (SELECT FROM trading.orders o WHERE o.book = ANY(:books) AND o.updated_at > :at - interval '7 days'
                   AND o.cum_qty > (SELECT coalesce(sum(f.qty), 0) FROM trading.fill f
                                    WHERE f.client_order_id = o.client_order_id)) AS unread,
           EXISTS (SELECT FROM trading.instrument_lock l
                   WHERE l.book = ANY(:books) AND coalesce(l.cleared_at, 'infinity') >= :at)
           OR EXISTS (SELECT FROM trading.trade t WHERE t.book = ANY(:books) AND t.market = 'futures'
                      AND (t.state <> 'CLOSED' OR t.exit_at >= :at)) AS moved
"""
UPSERT = """
    INSERT INTO trading.cash_seen AS s (book, at, cash, booked) VALUES (:book, :at, :cash, :booked)
    ON CONFLICT (book) DO UPDATE
    SET at = excluded.at, cash = excluded.cash, booked = excluded.booked, gap = :gap, gap_at = :gap_at,
        gap_seen = :gap_seen
    WHERE (s.cash, s.booked, s.gap) IS DISTINCT FROM (excluded.cash, excluded.booked, CAST(:gap AS numeric))
       OR s.at < excluded.at
"""


def seen(session: Session) -> tuple[Account, str | None]:
    """The account, and a sentence about cash that nothing explains; its movements are booked first, once a run."""
    if isinstance(session.broker, Replaying):
        return session.broker.account(), None  # it moves by our fills and payments alone
    if session.report.account is not None:
        return session.broker.account(), _unexplained(session)
    for look in range(LOOKS):
        flows = session.broker.cash_flows(_since(session))
        account = session.broker.account()
        with session.hub.engine.begin() as conn:
            _book(session, conn, flows or [], day.cash_seen(conn, session.book))
            jump = _compare(session, conn, account, day.cash_seen(conn, session.book), last=look == LOOKS - 1)
        if not jump:
            account = shares.take(session, account)
            break
        reconcile(session)
    sentence = _unexplained(session)
    if sentence is not None:
        session.report.notes.append(f"book {session.book!r} enters nothing: {sentence}")
    return account, sentence


def _unexplained(session: Session) -> str | None:
    with session.hub.engine.connect() as conn:
        share = _shares(session, conn).get(session.book, books.WHOLE)
        return day.unexplained(day.cash_seen(conn, session.book), share)


def _since(session: Session) -> date:
    """The first date to request: LATE before the last comparison."""
    with session.hub.engine.connect() as conn:
        row = day.cash_seen(conn, session.book)
    return ((session.run.as_of if row is None else row["at"]) - LATE).date()


def _book(session: Session, conn: Connection, flows: Sequence[CashFlow], row: RowMapping | None) -> None:
    """
    Books each movement once, and the difference where the broker has corrected or cancelled one; of an account that
    several books trade to all of them, by their shares. ``row``: of ``trading.cash_seen``.
    """
    shares_of = _shares(session, conn)
    parameters = {"books": list(shares_of), "ids": [flow.flow_id for flow in flows]}
    booked = {earlier["flow_id"]: earlier for earlier in conn.execute(text(TOLD), parameters).mappings()}
    news = []
    for flow in flows:
        earlier = booked.get(flow.flow_id)
        amount = flow.amount - (earlier["amount"] if earlier else 0)
        if amount:
            note = flow.note if earlier is None else f"{flow.note} (corrected)"
            news.append((replace(flow, amount=amount, note=note), earlier["revision"] + 1 if earlier else 1))
    divided = [(flow, number, paid.divided(conn, flow, shares_of)) for flow, number in news]
    for book in shares_of if news else ():
        seen_by = row if book == session.book else day.cash_seen(conn, book)
        mine = [(replace(f, amount=parts[book]), n) for f, n, parts in divided if parts.get(book)]
        lines = _add(conn, book, mine, seen_by, session.run.as_of)
        if book == session.book and row is not None:
            session.note(conn, [("cash", None, None, line) for line in lines])


def _shares(session: Session, conn: Connection) -> dict[str, Decimal]:
    """Book -> its share of the account's cash, with what no book has."""
    have = books.parts(conn, session.number) if session.number is not None else {}
    return {book: part.share for book, part in have.items() if part.share} or {session.book: books.WHOLE}


def _add(
    conn: Connection, book: str, flows: Sequence[tuple[CashFlow, int]], row: RowMapping | None, as_of: datetime
) -> list[str]:
    """Writes movements of a book's cash, each with its revision; returns a line for each."""
    rows: list[dict[str, Any]] = [
        {
            "book": book,
            "at": _placed(conn, book, flow.amount, row, as_of),
            "amount": flow.amount,
            "note": flow.note,
            "kind": flow.kind,
            "flow_id": flow.flow_id,
            "revision": revision,
            "dated": flow.dated,
        }
        for flow, revision in flows
    ]
    ledger.insert(conn, "book_cash", rows)
    explained = sum((r["amount"] for r in rows if row is not None and r["at"] == row["gap_at"]), Decimal(0))
    if explained:
        day.explain(conn, book, explained)
    return [f"{r['kind']} of {r['amount']:f} dated {r['dated']}: {r['note']}" for r in rows]


def _placed(conn: Connection, book: str, amount: Decimal, row: RowMapping | None, as_of: datetime) -> datetime:
    """
    When a movement counts: a date has no time, so the account's cash says it. It is that of the gap which it explains,
    else just after the last comparison, whose cash was explained without it. What the first comparison finds was there
    before.
    """
    if row is None:
        first: datetime = conn.execute(text(FIRST), {"book": book, "as_of": as_of}).scalar_one()
        return first
    if row["gap"] * amount > 0:
        gap_at: datetime = row["gap_at"]
        return gap_at
    return _after(row, as_of)


def _after(row: RowMapping, as_of: datetime) -> datetime:
    """Just after the last comparison; a run for the same instant again counts what it sees as of that instant."""
    return min(cast("datetime", row["at"]) + timedelta(microseconds=1), as_of)


def _compare(session: Session, conn: Connection, account: Account, row: RowMapping | None, *, last: bool) -> bool:
    """
    Compares the change of cash with what explains it, and records the rest. True if there is a new rest; unless it is
    the ``last`` look, nothing is recorded then.
    """
    book, as_of = session.book, session.run.as_of
    if isinstance(session.broker, AccountPart) and not session.broker.settled:
        return False  # what the ledgers do not explain may be another book's
    members = _shares(session, conn)
    own = members.get(book, books.WHOLE)
    booked = day.cash_booked(conn, book)
    new = {"book": book, "at": as_of, "cash": account.cash, "booked": booked}
    explained = {"gap": Decimal(0), "gap_at": None, "gap_seen": None}
    if row is None:
        conn.execute(text(UPSERT), new | explained)
        return False
    unclear = conn.execute(text(UNCLEAR), {"books": [*members], "at": row["at"]}).one()
    if unclear.unread:
        return False
    moved = unclear.moved or session.settings.execution.mode == "shadow"  # another book may trade that account
    change = Decimal(0) if moved else (account.cash - row["cash"]) - (booked - row["booked"])
    gap = row["gap"] + change
    tolerance = session.settings.risk.unexplained_cash * abs(account.equity)
    if abs(gap) <= tolerance:
        if abs(change) > tolerance:  # it went as it came, and both count from when they were seen
            common = {"book": book, "kind": "journal", "note": "unexplained, and gone again"}
            ends = [(row["gap_at"], row["gap"]), (_after(row, as_of), -row["gap"])]
            ledger.insert(conn, "book_cash", [common | {"at": at, "amount": amount} for at, amount in ends])
        conn.execute(text(UPSERT), new | explained)
        return False
    if abs(change) > tolerance and not last:
        return True
    since = {"gap_at": _after(row, as_of), "gap_seen": as_of}
    if row["gap"] * gap > 0:
        since = {"gap_at": row["gap_at"], "gap_seen": row["gap_seen"]}
    conn.execute(text(UPSERT), new | {"gap": gap} | since)
    if abs(change) > tolerance:
        session.note(conn, [("cash", None, None, day.unexplained({"gap": gap, **since}, own) or "")])
    return False
