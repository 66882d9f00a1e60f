"""
All SQL of schema ``trading``. Rows go in and out in bulk: the number of statements does not grow with the number of
symbols.

Rows travel as JSON and PostgreSQL reads them with the table's own row type, so that a Decimal arrives as it left.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from alphapivot.brokers.base import Account, BrokerFill, Leg, Ref

Row = dict[str, Any]


def order_id(book: str, strategy: str, symbol: str, as_of: datetime, leg: Leg, *, version: int = 1) -> str:
    """20 characters that the same decision always gets: a prefix and a hash of what makes the order unique."""
    key = "\x1f".join((book, strategy, symbol, as_of.astimezone(UTC).isoformat(), leg, str(version)))
    return "AP" + base64.b32encode(hashlib.sha256(key.encode()).digest()).decode()[:18]


def ref(order: RowMapping) -> Ref:
    """An order by all its names; the row holds ``entry_id`` too."""
    return Ref(order["client_order_id"], order["broker_order_id"], order["entry_id"], order["leg"])


def dump(rows: Any) -> str:
    """JSON with Decimals and instants as text; refuses NaN."""
    return json.dumps(rows, default=_text, allow_nan=False)


def _text(value: Any) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def insert(conn: Connection, table: str, rows: Sequence[Row], returning: str = "1") -> list[RowMapping]:
    """Inserts rows that all have the same columns, in one statement."""
    if not rows:
        return []
    columns = ", ".join(rows[0])
    return list(
        conn.execute(
            text(
                f"INSERT INTO trading.{table} ({columns}) SELECT {columns}"
                f" FROM jsonb_populate_recordset(NULL::trading.{table}, CAST(:rows AS jsonb)) RETURNING {returning}"
            ),
            {"rows": dump(rows)},
        ).mappings()
    )


def raise_fence(conn: Connection, book: str) -> int:
    """A number that no earlier executor of this book has; the earlier ones' writes are refused from the commit on."""
    return int(
        conn.execute(
            text(
                "INSERT INTO trading.lease (book, fence) VALUES (:book, 1)"
                " ON CONFLICT (book) DO UPDATE SET fence = lease.fence + 1 RETURNING fence"
            ),
            {"book": book},
        ).scalar_one()
    )


def last_as_of(conn: Connection, book: str) -> datetime | None:
    """The newest instant for which this book has decided."""
    found: datetime | None = conn.execute(
        text("SELECT max(as_of) FROM trading.decision WHERE book = :book"), {"book": book}
    ).scalar_one()
    return found


def strategies(conn: Connection, book: str) -> set[str]:
    """Whose trades this book holds: one strategy's, or somebody changed [execution] strategy."""
    return set(
        conn.execute(
            text("SELECT DISTINCT strategy FROM trading.trade WHERE book = :book AND state <> 'CLOSED'"), {"book": book}
        ).scalars()
    )


def decided(conn: Connection, book: str, strategy: str, as_of: datetime) -> set[tuple[str, int | None]]:
    """(symbol, batch_id) of the decisions that were made for ``as_of``."""
    rows = conn.execute(
        text(
            "SELECT symbol, batch_id FROM trading.decision WHERE book = :book AND strategy = :strategy AND as_of"
            " = :as_of"
        ),
        {"book": book, "strategy": strategy, "as_of": as_of},
    )
    return {(row.symbol, row.batch_id) for row in rows}


def open_trades(conn: Connection, book: str) -> list[RowMapping]:
    """Trades that are not closed, with their decision's ``as_of``, the entry's id; does an exit work, does a stop?"""
    query = """
        SELECT t.*, i.as_of, e.client_order_id AS entry_id,
               coalesce(w.exiting, false) AS exiting, coalesce(w.protected, false) AS protected
        FROM trading.trade t
        JOIN trading.intent i USING (intent_id)
        JOIN trading.orders e ON e.trade_id = t.trade_id AND e.leg = 'ENTRY' AND e.version = 1
        LEFT JOIN LATERAL (
            SELECT bool_or(o.leg = 'EXIT') AS exiting,
                   bool_or(o.leg = 'STOP' AND o.state IN ('NEW', 'PARTIALLY_FILLED')) AS protected
            FROM trading.orders o WHERE o.trade_id = t.trade_id AND NOT trading.is_terminal(o.state)
        ) w ON true
        WHERE t.book = :book AND t.state <> 'CLOSED'
        ORDER BY t.trade_id
    """
    return list(conn.execute(text(query), {"book": book}).mappings())


def working_orders(conn: Connection, book: str) -> list[RowMapping]:
    """Orders that are not final, with the id of their trade's entry (``entry_id``), the oldest first."""
    return list(
        conn.execute(
            text(
                "SELECT o.*, e.client_order_id AS entry_id FROM trading.orders o"
                " JOIN trading.orders e ON e.trade_id = o.trade_id AND e.leg = 'ENTRY' AND e.version = 1"
                " WHERE o.book = :book AND NOT trading.is_terminal(o.state) ORDER BY o.created_at, o.client_order_id"
            ),
            {"book": book},
        ).mappings()
    )


def locks(conn: Connection, book: str) -> dict[str, str]:
    """symbol -> why it trades no more until a person clears it."""
    rows = conn.execute(
        text("SELECT symbol, reason FROM trading.instrument_lock WHERE book = :book AND cleared_at IS NULL"),
        {"book": book},
    )
    return {row.symbol: row.reason for row in rows}


def lock(conn: Connection, book: str, reasons: Mapping[str, str], at: datetime) -> list[str]:
    """Locks symbols; those that were not locked before."""
    rows = [{"book": book, "symbol": symbol, "reason": reason, "at": at} for symbol, reason in reasons.items()]
    made = conn.execute(
        text(
            "INSERT INTO trading.instrument_lock (book, symbol, reason, at) SELECT book, symbol, reason, at"
            " FROM jsonb_populate_recordset(NULL::trading.instrument_lock, CAST(:rows AS jsonb))"
            " ON CONFLICT (book, symbol) WHERE cleared_at IS NULL DO NOTHING RETURNING symbol"
        ),
        {"rows": dump(rows)},
    )
    return list(made.scalars())


def positions(conn: Connection, book: str) -> dict[tuple[str, str, str], Decimal]:
    """The sum of our fills by (symbol, market, contract); flat ones are left out."""
    rows = conn.execute(
        text(
            "SELECT symbol, market, contract, sum(CASE side WHEN 'BUY' THEN qty ELSE -qty END) AS qty FROM trading.fill"
            " WHERE book = :book GROUP BY symbol, market, contract HAVING sum(CASE side WHEN 'BUY' THEN qty ELSE"
            " -qty END) <> 0"
        ),
        {"book": book},
    )
    return {(row.symbol, row.market, row.contract): row.qty for row in rows}


def open_day(conn: Connection, book: str, day: date, account: Account) -> Decimal:
    """Notes today's equity and cash; the equity with which the day began: the last one seen before it."""
    upsert = """
        INSERT INTO trading.risk_day AS r (book, day, currency, start_equity, equity, cash)
        SELECT :book, :day, :currency, coalesce(
            (SELECT equity FROM trading.risk_day WHERE book = :book AND day < :day ORDER BY day DESC LIMIT 1), :equity
        ), :equity, :cash
        ON CONFLICT (book, day) DO UPDATE SET equity = excluded.equity, cash = excluded.cash
        WHERE (r.equity, r.cash) IS DISTINCT FROM (excluded.equity, excluded.cash)
    """
    now = {"currency": account.currency, "equity": account.equity, "cash": account.cash}
    conn.execute(text(upsert), {"book": book, "day": day, **now})
    query = "SELECT start_equity FROM trading.risk_day WHERE book = :book AND day = :day"
    return Decimal(conn.execute(text(query), {"book": book, "day": day}).scalar_one())


def count_messages(conn: Connection, book: str, day: date, messages: int) -> None:
    conn.execute(
        text("UPDATE trading.risk_day SET messages = messages + :n WHERE book = :book AND day = :day"),
        {"book": book, "day": day, "n": messages},
    )


def brackets(conn: Connection, ids: Sequence[str]) -> list[RowMapping]:
    """All orders of the trades to which ``ids`` belong, with the id of the trade's entry (``entry_id``)."""
    query = """
        SELECT o.*, e.client_order_id AS entry_id
        FROM trading.orders o
        JOIN trading.orders e ON e.trade_id = o.trade_id AND e.leg = 'ENTRY' AND e.version = 1
        WHERE o.trade_id IN (SELECT trade_id FROM trading.orders WHERE client_order_id = ANY(:ids))
    """
    return list(conn.execute(text(query), {"ids": list(ids)}).mappings())


def claim(conn: Connection, ids: Sequence[str], fence: int, active_from: datetime, now: datetime) -> list[RowMapping]:
    """
    CREATED, PENDING_NEW or UNKNOWN -> PENDING_NEW, for one executor only; the orders, as they are now. Commit before
    the send.
    """
    query = """
        UPDATE trading.orders o
        SET state = 'PENDING_NEW', attempts = attempts + 1, fence = :fence, active_from = :active_from,
            updated_at = :now
        FROM (
            SELECT client_order_id FROM trading.orders
            WHERE client_order_id = ANY(:ids) AND state IN ('CREATED', 'PENDING_NEW', 'UNKNOWN')
            FOR UPDATE SKIP LOCKED
        ) mine
        WHERE o.client_order_id = mine.client_order_id
        RETURNING o.*
    """
    values = {"ids": list(ids), "fence": fence, "active_from": active_from, "now": now}
    found = {row["client_order_id"]: row for row in conn.execute(text(query), values).mappings()}
    return [found[i] for i in ids if i in found]  # in the order in which they were decided


def set_orders(conn: Connection, rows: Iterable[Row], fence: int, now: datetime) -> None:
    """
    Brings orders to a state: rows of client_order_id, state and, where known, cum_qty, avg_price, broker_order_id,
    reason. Only what differs is written.
    """
    query = """
        UPDATE trading.orders o
        SET state = n.state, cum_qty = coalesce(n.cum_qty, o.cum_qty), avg_price = coalesce(n.avg_price, o.avg_price),
            broker_order_id = coalesce(n.broker_order_id, o.broker_order_id), reason = coalesce(n.reason, o.reason),
            fence = :fence, updated_at = :now
        FROM jsonb_populate_recordset(NULL::trading.orders, CAST(:rows AS jsonb)) n
        WHERE o.client_order_id = n.client_order_id AND (
            n.state <> o.state OR n.cum_qty <> o.cum_qty
            OR (n.avg_price IS NOT NULL AND n.avg_price IS DISTINCT FROM o.avg_price)
            OR (n.broker_order_id IS NOT NULL AND n.broker_order_id IS DISTINCT FROM o.broker_order_id)
        )
    """
    rows = list(rows)
    if rows:
        conn.execute(text(query), {"rows": dump(rows), "fence": fence, "now": now})


def add_fills(conn: Connection, book: str, fills: Sequence[BrokerFill]) -> list[RowMapping]:
    """Writes executions of our orders, each once; those that were new. Executions of other orders stay out."""
    query = """
        INSERT INTO trading.fill
            (book, exec_id, client_order_id, symbol, market, contract, side, qty, price, fee, cash, ts)
        SELECT :book, n.exec_id, o.client_order_id, o.symbol, o.market, o.contract, o.side,
               n.qty, n.price, n.fee, n.cash, n.ts
        FROM jsonb_populate_recordset(NULL::trading.fill, CAST(:rows AS jsonb)) n
        JOIN trading.orders o ON o.client_order_id = n.client_order_id AND o.book = :book
        ON CONFLICT (book, exec_id) DO NOTHING
        RETURNING *
    """
    if not fills:
        return []
    return list(conn.execute(text(query), {"book": book, "rows": dump([asdict(f) for f in fills])}).mappings())


def roll_up(conn: Connection, book: str) -> list[RowMapping]:
    """
    Trades as their fills and orders make them; those that changed.

    A trade is closed when it is flat and none of its orders works: what it realised is the cash of its fills less their
    fees.
    """
    query = """
        WITH legs AS (
            SELECT o.trade_id, o.leg = 'ENTRY' AS entry, o.state, f.qty, f.price, f.fee, f.cash, f.ts, o.reason,
                   CASE o.leg WHEN 'EXIT' THEN o.reason ELSE lower(o.leg) END AS cause
            FROM trading.trade t JOIN trading.orders o USING (trade_id) LEFT JOIN trading.fill f USING (client_order_id)
            WHERE t.book = :book AND t.state <> 'CLOSED'
        ), sums AS (
            SELECT trade_id, bool_or(NOT trading.is_terminal(state)) AS working,
                   coalesce(sum(qty) FILTER (WHERE entry), 0) AS entry_qty,
                   sum(qty * price) FILTER (WHERE entry) / sum(qty) FILTER (WHERE entry) AS entry_price,
                   min(ts) FILTER (WHERE entry) AS entry_at,
                   coalesce(sum(qty) FILTER (WHERE NOT entry), 0) AS exit_qty,
                   sum(qty * price) FILTER (WHERE NOT entry) / sum(qty) FILTER (WHERE NOT entry) AS exit_price,
                   max(ts) FILTER (WHERE NOT entry) AS exit_at,
                   coalesce(sum(fee), 0) AS fees, coalesce(sum(cash - fee), 0) AS realised,
                   coalesce(string_agg(DISTINCT cause, ', ') FILTER (WHERE NOT entry AND qty > 0),
                            max(reason) FILTER (WHERE entry), 'never entered') AS why
            FROM legs GROUP BY trade_id
        ), now AS (
            SELECT *, CASE WHEN NOT working AND entry_qty = exit_qty THEN 'CLOSED'
                           WHEN entry_qty > 0 THEN 'OPEN' ELSE 'PENDING' END AS state
            FROM sums
        )
        UPDATE trading.trade t
        SET state = now.state, entry_qty = now.entry_qty, entry_price = now.entry_price, entry_at = now.entry_at,
            exit_qty = now.exit_qty, exit_price = now.exit_price, exit_at = now.exit_at, fees = now.fees,
            realised = CASE now.state WHEN 'CLOSED' THEN now.realised END,
            close_reason = CASE now.state WHEN 'CLOSED' THEN now.why END
        FROM now
        WHERE t.trade_id = now.trade_id AND (t.state, t.entry_qty, t.exit_qty, t.fees)
              IS DISTINCT FROM (now.state, now.entry_qty, now.exit_qty, now.fees)
        RETURNING t.*
    """
    return list(conn.execute(text(query), {"book": book}).mappings())


def note(
    conn: Connection,
    lines: Iterable[tuple[str, str | None, str | None, str]],
    *,
    book: str,
    run_id: str,
    as_of: datetime,
    now: datetime,
) -> None:
    """Journal lines: (kind, symbol, client_order_id, message)."""
    common = {"at": now, "book": book, "run_id": run_id, "as_of": as_of}
    insert(
        conn,
        "journal",
        [{**common, "kind": k, "symbol": s, "client_order_id": i, "message": m} for k, s, i, m in lines],
    )
