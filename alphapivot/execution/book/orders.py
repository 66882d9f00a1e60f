"""SQL of trading.orders: new orders, their states, new versions of a leg. In bulk."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from alphapivot.brokers.base import Leg, Ref
from alphapivot.execution.book.ledger import Row, dump, insert

PREFIX = "AP"
FILLED = "coalesce((SELECT sum(f.qty) FROM trading.fill f WHERE f.client_order_id = o.client_order_id), 0) AS filled"


def order_id(book: str, strategy: str, symbol: str, as_of: datetime, leg: Leg, *, version: int = 1) -> str:
    """A deterministic id of 20 characters: a prefix and a hash of the fields that make the order unique."""
    key = "\x1f".join((book, strategy, symbol, as_of.astimezone(UTC).isoformat(), leg, str(version)))
    return PREFIX + base64.b32encode(hashlib.sha256(key.encode()).digest()).decode()[:18]


def adds(order: Mapping[Any, Any]) -> bool:
    """True for an entry that adds to an open trade: it has no legs of its own."""
    return bool(order["leg"] == "ENTRY" and order["version"] > 1)


def looks_ours(client_order_id: str) -> bool:
    """True for an id as ``order_id`` makes them, whether or not a ledger has it."""
    return len(client_order_id) == 20 and client_order_id.startswith(PREFIX)


def ref(order: Mapping[Any, Any]) -> Ref:
    """
    The Ref of an order row with its ``entry_id``. Only a leg's first version was sent with its entry: looking for a
    later version among the entry's legs would find the order that it replaced.
    """
    bracket = order["entry_id"] if order["version"] == 1 else order["client_order_id"]
    key = order["symbol"], order["market"], order["contract"]
    return Ref(order["client_order_id"], order["broker_order_id"], bracket, order["leg"], key)


def successor(order: Mapping[Any, Any]) -> str:
    """The deterministic id of the leg's next version, which replaces this order; ``order``: of ``of_open_trades``."""
    return order_id(
        order["book"],
        order["strategy"],
        order["symbol"],
        order["as_of"],
        order["leg"],
        version=order["newest"] + 1,
    )


def of_open_trades(conn: Connection, book: str) -> list[RowMapping]:
    """
    All orders of the trades that are not closed, oldest first, each with its ``filled`` quantity, its trade's
    ``strategy`` and ``rolled_from``, the ``newest`` version of its leg, its entry's id (``entry_id``), its intent's
    ``valid_from`` and ``expires``, whether it needs an operator's yes (``to_approve``) and lacks it (``unapproved``),
    and the reason for which an exit was ``asked``, whatever became of it.
    """
    query = f"""
        SELECT o.*, t.strategy, t.rolled_from, max(o.version) OVER (PARTITION BY o.trade_id, o.leg) AS newest,
               e.client_order_id AS entry_id, i.valid_from, i.expires, {FILLED},
               i.to_approve,
               i.to_approve AND NOT EXISTS (
                   SELECT FROM trading.approval a WHERE a.intent_id = o.intent_id) AS unapproved,
               CASE o.leg WHEN 'EXIT' THEN (
                   SELECT v.reason FROM trading.order_event v WHERE v.client_order_id = o.client_order_id
                   ORDER BY v.event_id LIMIT 1) END AS asked
        FROM trading.trade t
        JOIN trading.orders o USING (trade_id)
        JOIN trading.orders e ON e.trade_id = t.trade_id AND e.leg = 'ENTRY' AND e.version = 1
        JOIN trading.intent i ON i.intent_id = o.intent_id
        WHERE t.book = :book AND t.state <> 'CLOSED'
        ORDER BY o.created_at, o.client_order_id
    """
    return list(conn.execute(text(query), {"book": book}).mappings())


def ended(conn: Connection, book: str, ids: Sequence[str]) -> list[RowMapping]:
    """The orders among ``ids`` that belong to this book and are final in the ledger."""
    query = """
        SELECT o.*, e.client_order_id AS entry_id FROM trading.orders o
        JOIN trading.orders e ON e.trade_id = o.trade_id AND e.leg = 'ENTRY' AND e.version = 1
        WHERE o.book = :book AND o.client_order_id = ANY(:ids) AND trading.is_terminal(o.state)
    """
    return list(conn.execute(text(query), {"book": book, "ids": list(ids)}).mappings())


def named(conn: Connection, book: str, ids: Sequence[str]) -> list[RowMapping]:
    """The orders of a book that have one of these ids, ours or the broker's, with what of them is ``filled``."""
    query = f"""
        SELECT o.*, {FILLED} FROM trading.orders o
        WHERE o.book = :book AND (o.client_order_id = ANY(:ids) OR o.broker_order_id = ANY(:ids))
    """
    return list(conn.execute(text(query), {"book": book, "ids": list(ids)}).mappings()) if ids else []


def handled(conn: Connection, book: str, broker_ids: Sequence[str]) -> set[str]:
    """The subset of the broker's ids that are our orders, or foreign orders already dealt with."""
    query = """
        SELECT broker_order_id FROM trading.orders WHERE book = :book AND broker_order_id = ANY(:ids)
        UNION SELECT broker_order_id FROM trading.foreign_order WHERE book = :book AND broker_order_id = ANY(:ids)
    """
    return set(conn.execute(text(query), {"book": book, "ids": list(broker_ids)}).scalars())


def cancelling(conn: Connection, book: str) -> set[str]:
    """The broker's ids of the foreign orders whose cancel is not confirmed."""
    query = "SELECT broker_order_id FROM trading.foreign_order WHERE book = :book AND what = 'cancelling'"
    return set(conn.execute(text(query), {"book": book}).scalars())


def cancelled(conn: Connection, book: str, broker_ids: Sequence[str]) -> None:
    """Records that foreign orders are gone."""
    query = """
        UPDATE trading.foreign_order SET what = 'cancelled'
        WHERE book = :book AND broker_order_id = ANY(:ids) AND what = 'cancelling'
    """
    conn.execute(text(query), {"book": book, "ids": list(broker_ids)})


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
    Moves orders from CREATED to PENDING_NEW, for one executor only, and returns the updated rows in the order of
    ``ids``. Commit before sending.
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
    claimed = {row["client_order_id"]: row for row in conn.execute(text(query), values).mappings()}
    return [claimed[i] for i in ids if i in claimed]


def set_orders(conn: Connection, rows: Iterable[Row], fence: int, now: datetime) -> None:
    """
    Updates orders: rows of client_order_id, state and optionally qty, price, cum_qty, avg_price, broker_order_id,
    reason. Only rows that differ are written.
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
    """Writes new orders before anything is sent: CREATED, or SUSPENDED if they are only watched."""
    stamp = {"cum_qty": 0, "attempts": 0, "fence": fence, "created_at": now, "updated_at": now}
    insert(conn, "orders", [{**row, **stamp} for row in rows])
