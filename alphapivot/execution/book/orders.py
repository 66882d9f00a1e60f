"""SQL of trading.orders: what was ordered, what became of it, new versions of a leg. Bulk in, bulk out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from alphapivot.brokers.base import Leg, Ref
from alphapivot.execution.book.ledger import Row, dump, insert

FILLED = "coalesce((SELECT sum(f.qty) FROM trading.fill f WHERE f.client_order_id = o.client_order_id), 0) AS filled"


def order_id(book: str, strategy: str, symbol: str, as_of: datetime, leg: Leg, *, version: int = 1) -> str:
    """20 characters that the same decision always gets: a prefix and a hash of what makes the order unique."""
    key = "\x1f".join((book, strategy, symbol, as_of.astimezone(UTC).isoformat(), leg, str(version)))
    return "AP" + base64.b32encode(hashlib.sha256(key.encode()).digest()).decode()[:18]


def ref(order: Mapping[Any, Any]) -> Ref:
    """
    An order by all its names; the row holds ``entry_id`` too. Only a leg's first version went with its entry: a later
    one that is sought among the entry's legs would find the one that it came after.
    """
    bracket = order["entry_id"] if order["version"] == 1 else order["client_order_id"]
    return Ref(order["client_order_id"], order["broker_order_id"], bracket, order["leg"])


def successor(order: Mapping[Any, Any]) -> str:
    """The id of the order that replaces this one, whoever asks."""
    return order_id(
        order["book"],
        order["strategy"],
        order["symbol"],
        order["as_of"],
        order["leg"],
        version=order["version"] + 1,
    )


def of_open_trades(conn: Connection, book: str) -> list[RowMapping]:
    """
    All orders of the trades that are not closed, the oldest first, each with what has ``filled`` of it, its trade's
    ``strategy``, ``rolled_from`` and its entry's id (``entry_id``), and the intent's ``expires``.
    """
    query = f"""
        SELECT o.*, t.strategy, t.rolled_from, e.client_order_id AS entry_id, i.valid_from, i.expires, {FILLED}
        FROM trading.trade t
        JOIN trading.orders o USING (trade_id)
        JOIN trading.orders e ON e.trade_id = t.trade_id AND e.leg = 'ENTRY' AND e.version = 1
        JOIN trading.intent i ON i.intent_id = t.intent_id
        WHERE t.book = :book AND t.state <> 'CLOSED'
        ORDER BY o.created_at, o.client_order_id
    """
    return list(conn.execute(text(query), {"book": book}).mappings())


def ended(conn: Connection, book: str, ids: Sequence[str]) -> list[RowMapping]:
    """Which of ``ids`` are orders of this book that are final here."""
    query = """
        SELECT o.*, e.client_order_id AS entry_id FROM trading.orders o
        JOIN trading.orders e ON e.trade_id = o.trade_id AND e.leg = 'ENTRY' AND e.version = 1
        WHERE o.book = :book AND o.client_order_id = ANY(:ids) AND trading.is_terminal(o.state)
    """
    return list(conn.execute(text(query), {"book": book, "ids": list(ids)}).mappings())


def known(conn: Connection, book: str, broker_ids: Sequence[str]) -> set[str]:
    """Which of the broker's ids are orders of ours, or foreign ones that were dealt with."""
    query = """
        SELECT broker_order_id FROM trading.orders WHERE book = :book AND broker_order_id = ANY(:ids)
        UNION SELECT broker_order_id FROM trading.foreign_order WHERE book = :book AND broker_order_id = ANY(:ids)
    """
    return set(conn.execute(text(query), {"book": book, "ids": list(broker_ids)}).scalars())


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
    CREATED -> PENDING_NEW, for one executor only; the orders, as they are now. Commit before the send.
    """
    query = """
        UPDATE trading.orders o
        SET state = 'PENDING_NEW', attempts = attempts + 1, fence = :fence, active_from = :active_from,
            updated_at = :now
        FROM (
            SELECT client_order_id FROM trading.orders
            WHERE client_order_id = ANY(:ids) AND state = 'CREATED'
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
    Brings orders to a state: rows of client_order_id, state and, where known, qty, price, cum_qty, avg_price,
    broker_order_id, reason. Only what differs is written.
    """
    query = """
        UPDATE trading.orders o
        SET state = n.state, qty = coalesce(n.qty, o.qty), price = coalesce(n.price, o.price),
            cum_qty = coalesce(n.cum_qty, o.cum_qty), avg_price = coalesce(n.avg_price, o.avg_price),
            broker_order_id = coalesce(n.broker_order_id, o.broker_order_id),
            reason = coalesce(n.reason, o.reason),
            fence = :fence, updated_at = :now
        FROM jsonb_populate_recordset(NULL::trading.orders, CAST(:rows AS jsonb)) n
        WHERE o.client_order_id = n.client_order_id AND (
            n.state <> o.state OR n.cum_qty <> o.cum_qty OR n.qty <> o.qty OR n.price <> o.price
            OR (n.avg_price IS NOT NULL AND n.avg_price IS DISTINCT FROM o.avg_price)
            OR (n.broker_order_id IS NOT NULL AND n.broker_order_id IS DISTINCT FROM o.broker_order_id)
        )
    """
    rows = list(rows)
    if rows:
        conn.execute(text(query), {"rows": dump(rows), "fence": fence, "now": now})


def add(conn: Connection, rows: Sequence[Row], fence: int, now: datetime) -> None:
    """New orders, written before anything is sent: CREATED, or SUSPENDED where they are only watched."""
    stamp = {"cum_qty": 0, "attempts": 0, "fence": fence, "created_at": now, "updated_at": now}
    insert(conn, "orders", [{**row, **stamp} for row in rows])
