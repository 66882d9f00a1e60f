"""
SQL of schema ``trading``, in bulk: the number of statements does not grow with the number of symbols.

Rows travel as JSON and PostgreSQL parses them with the table's own row type, so that Decimals stay exact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from alphapivot.brokers.base import BrokerFill

Row = dict[str, Any]


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
    """A fence higher than any earlier executor's of this book; earlier executors' writes fail from the commit on."""
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
    """The newest instant for which this book has decided, without what `alphapivot repair` set aside."""
    query = """
        SELECT max(d.as_of) FROM trading.decision d WHERE d.book = :book AND NOT EXISTS (
            SELECT FROM trading.repair r
            WHERE r.book = d.book AND d.decision_id <= r.decision_id AND d.as_of > r.at)
    """
    newest: datetime | None = conn.execute(text(query), {"book": book}).scalar_one()
    return newest


def strategies(conn: Connection, book: str) -> set[str]:
    """The strategies of the book's open trades; more than one only if [execution] strategy was changed."""
    return set(
        conn.execute(
            text("SELECT DISTINCT strategy FROM trading.trade WHERE book = :book AND state <> 'CLOSED'"), {"book": book}
        ).scalars()
    )


def decided(conn: Connection, book: str, strategy: str, as_of: datetime) -> set[tuple[str, int | None]]:
    """(symbol, batch_id) of the decisions recorded for ``as_of``."""
    rows = conn.execute(
        text(
            "SELECT symbol, batch_id FROM trading.decision WHERE book = :book AND strategy = :strategy AND as_of"
            " = :as_of"
        ),
        {"book": book, "strategy": strategy, "as_of": as_of},
    )
    return {(row.symbol, row.batch_id) for row in rows}


def intents(conn: Connection, book: str, strategy: str, as_of: datetime) -> dict[str, list[str]]:
    """symbol -> what was set about for ``as_of``."""
    query = """
        SELECT symbol, array_agg(action) AS actions FROM trading.intent
        WHERE book = :book AND strategy = :strategy AND as_of = :as_of GROUP BY symbol
    """
    rows = conn.execute(text(query), {"book": book, "strategy": strategy, "as_of": as_of})
    return {row.symbol: row.actions for row in rows}


def open_trades(conn: Connection, book: str) -> list[RowMapping]:
    """
    Trades that are not closed, with their decision's ``as_of``, the entry's id (``entry_id``), the quantity that it, or
    an addition, may still fill (``coming``), whether one is not final (``entering``), the number of ``entries`` and
    ``exits`` ordered so far, what additions have filled (``added``) and its cost (``added_cost``: quantity x price),
    whether an exit is pending (``exiting``), whether a stop or an exit is working at the broker (``protected``), the
    ``distance`` from the reference to the initial stop, in today's shares, and that stop as it was (``first_stop``);
    and what was entered at first, before any roll, in today's shares (``first_qty``).
    """
    query = """
        SELECT t.*, i.as_of, (d.plan ->> 'distance')::numeric / t.ratio AS distance,
               (d.plan ->> 'stop')::numeric AS first_stop,
               coalesce((d.plan ->> 'first_qty')::numeric, e.cum_qty) * t.ratio AS first_qty,
               e.client_order_id AS entry_id, w.entering, w.entries, w.exits, w.coming, a.added, a.added_cost,
               coalesce(w.exiting, false) AS exiting, coalesce(w.protected, false) AS protected
        FROM trading.trade t
        JOIN trading.intent i USING (intent_id)
        JOIN trading.decision d USING (decision_id)
        JOIN trading.orders e ON e.trade_id = t.trade_id AND e.leg = 'ENTRY' AND e.version = 1
        LEFT JOIN LATERAL (
            SELECT coalesce(sum(o.qty - o.cum_qty) FILTER (
                       WHERE o.leg = 'ENTRY' AND NOT trading.is_terminal(o.state)), 0) AS coming,
                   bool_or(o.leg = 'ENTRY' AND NOT trading.is_terminal(o.state)) AS entering,
                   max(o.version) FILTER (WHERE o.leg = 'ENTRY') AS entries,
                   bool_or(o.leg = 'EXIT') FILTER (WHERE NOT trading.is_terminal(o.state)) AS exiting,
                   coalesce(max(o.version) FILTER (WHERE o.leg = 'EXIT'), 0) AS exits,
                   bool_or(o.leg IN ('STOP', 'EXIT') AND o.state IN ('NEW', 'PARTIALLY_FILLED', 'PENDING_REPLACE'))
                       AS protected
            FROM trading.orders o WHERE o.trade_id = t.trade_id
        ) w ON true
        LEFT JOIN LATERAL (
            SELECT coalesce(sum(f.qty), 0) AS added, coalesce(sum(f.qty * f.price), 0) AS added_cost
            FROM trading.orders o JOIN trading.fill f USING (client_order_id)
            WHERE w.entries > 1 AND o.trade_id = t.trade_id AND o.leg = 'ENTRY' AND o.version > 1
        ) a ON true
        WHERE t.book = :book AND t.state <> 'CLOSED'
        ORDER BY t.trade_id
    """
    return list(conn.execute(text(query), {"book": book}).mappings())


def roll_on(conn: Connection, trade_ids: Sequence[int]) -> None:
    """Marks trades as rolled, so that each makes room for its successor."""
    if trade_ids:
        query = "UPDATE trading.trade SET rolled = true WHERE trade_id = ANY(:ids)"
        conn.execute(text(query), {"ids": list(trade_ids)})


def locks(conn: Connection, book: str) -> dict[str, str]:
    """symbol -> reason of its lock, until someone runs `alphapivot unlock`."""
    rows = conn.execute(
        text("SELECT symbol, reason FROM trading.instrument_lock WHERE book = :book AND cleared_at IS NULL"),
        {"book": book},
    )
    return {row.symbol: row.reason for row in rows}


def lock(conn: Connection, book: str, reasons: Mapping[str, str], at: datetime) -> dict[str, str]:
    """
    Locks symbols; returns the reasons that are new, by symbol. A locked symbol keeps each reason that it had; one that
    differs from an earlier one in its figures only takes its place.
    """
    stored = {symbol: reason.split("\n") for symbol, reason in locks(conn, book).items()}
    new = {symbol: reason for symbol, reason in reasons.items() if reason not in stored.get(symbol, [])}
    rows = [
        {
            "book": book,
            "symbol": symbol,
            "at": at,
            "reason": "\n".join([*(r for r in stored.get(symbol, []) if _plain(r) != _plain(reason)), reason]),
        }
        for symbol, reason in new.items()
    ]
    if rows:
        query = """
            INSERT INTO trading.instrument_lock (book, symbol, reason, at) SELECT book, symbol, reason, at
            FROM jsonb_populate_recordset(NULL::trading.instrument_lock, CAST(:rows AS jsonb))
            ON CONFLICT (book, symbol) WHERE cleared_at IS NULL DO UPDATE SET reason = excluded.reason
        """
        conn.execute(text(query), {"rows": dump(rows)})
    return new


def _plain(reason: str) -> str:
    return re.sub(r"\d+", "", reason)


def positions(conn: Connection, book: str) -> dict[tuple[str, str, str], Decimal]:
    """
    Positions from our orders, by (symbol, market, contract): the fills read, or an order's filled quantity at the
    broker if that is larger, adjusted for splits. Flat positions are left out.
    """
    query = "SELECT symbol, market, contract, qty FROM trading.position WHERE book = :book AND qty <> 0"
    rows = conn.execute(text(query), {"book": book})
    return {(row.symbol, row.market, row.contract): row.qty for row in rows}


def tripped_on(conn: Connection, book: str) -> date | None:
    """The risk day on which a loss last stopped this book."""
    day: date | None = conn.execute(
        text("SELECT max(day) FROM trading.risk_trip WHERE book = :book"), {"book": book}
    ).scalar_one()
    return day


def fills_since(conn: Connection, book: str, *, late: bool) -> datetime | None:
    """
    The instant from which fills must be read: the oldest open trade's decision or, if fills may come ``late``, an order
    that ended in the last days and may still report a fill. None if there is neither.
    """
    query = """
        SELECT least(
            (SELECT min(i.as_of) FROM trading.trade t JOIN trading.intent i USING (intent_id)
             WHERE t.book = :book AND t.state <> 'CLOSED'),
            (SELECT min(o.as_of) FROM trading.orders o WHERE o.book = :book AND o.attempts > 0
             AND :late AND o.updated_at > (SELECT max(updated_at) FROM trading.orders WHERE book = :book)
                                          - interval '7 days'))
    """
    since: datetime | None = conn.execute(text(query), {"book": book, "late": late}).scalar_one()
    return since


def add_fills(conn: Connection, book: str, fills: Sequence[BrokerFill]) -> list[RowMapping]:
    """
    Writes executions of our orders, matched by our id or by the broker's, each once; returns the new ones. Executions
    of other orders are ignored.
    """
    query = """
        INSERT INTO trading.fill
            (book, exec_id, client_order_id, symbol, market, contract, side, qty, price, fee, cash, ts)
        SELECT DISTINCT ON (n.exec_id) :book, n.exec_id, o.client_order_id, o.symbol, o.market, o.contract, o.side,
               n.qty, n.price, n.fee, n.cash, n.ts
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS n (
            exec_id text, client_order_id text, broker_order_id text, qty numeric, price numeric, fee numeric,
            cash numeric, ts timestamptz)
        JOIN trading.orders o ON o.book = :book AND (o.client_order_id = n.client_order_id
             OR (n.client_order_id = '' AND o.broker_order_id = n.broker_order_id))
        ORDER BY n.exec_id, trading.is_terminal(o.state), o.version DESC
        ON CONFLICT (book, exec_id) DO NOTHING
        RETURNING *
    """
    if not fills:
        return []
    known = recorded(conn, book, min(f.ts for f in fills))
    rows = [vars(f) for f in fills if f.exec_id not in known]
    return list(conn.execute(text(query), {"book": book, "rows": dump(rows)}).mappings()) if rows else []


def recorded(conn: Connection, book: str, since: datetime | None) -> set[str]:
    """The ids of the executions at or after ``since`` that a book has read; none without it."""
    query = text("SELECT exec_id FROM trading.fill WHERE book = :book AND ts >= :since")
    return set() if since is None else set(conn.execute(query, {"book": book, "since": since}).scalars())


def closed_trades_of(conn: Connection, ids: Sequence[str]) -> dict[int, str]:
    """trade_id -> symbol of the closed trades to which these orders belong."""
    query = """
        SELECT DISTINCT t.trade_id, t.symbol FROM trading.orders o JOIN trading.trade t USING (trade_id)
        WHERE o.client_order_id = ANY(:ids) AND t.state = 'CLOSED'
    """
    return {row.trade_id: row.symbol for row in conn.execute(text(query), {"ids": list(ids)})} if ids else {}


def roll_up(conn: Connection, book: str, late: Collection[int] = ()) -> list[RowMapping]:
    """
    Updates trades from their fills and orders; returns those that changed. ``late``: closed trades with a new fill,
    which are reopened unless their symbol has another open trade by now.

    A trade is closed when it is flat and none of its orders is working; its realised profit is the cash of its fills
    less their fees. A trade of which a split left no share ends with the split. An entry that filled more than was
    ordered makes its trade larger.
    """
    query = """
        WITH legs AS (
            SELECT o.trade_id, o.leg = 'ENTRY' AS entry, o.state, f.qty, f.price, f.fee, f.cash, f.ts, o.reason,
                   -- today's shares per share of the fill
                   CASE WHEN t.ratio = 1 OR o.version = 1 THEN t.ratio
                        ELSE (SELECT coalesce(round(exp(sum(ln(a.value))), 12), 1) FROM trading.adjustment a
                              WHERE a.trade_id = t.trade_id AND a.kind = 'split' AND a.ts >= f.ts) END AS since,
                   CASE WHEN (o.side = 'BUY') = (t.side = 'LONG') THEN -f.qty ELSE f.qty END AS left_qty,
                   CASE WHEN o.leg = 'STOP' AND o.reason IN ('settled', 'delisted', 'merger', 'delisting', 'target')
                            THEN o.reason
                        WHEN o.reason IN ('scale_out', 'target_smaller') THEN NULL -- the trade went on
                        WHEN o.leg <> 'EXIT' THEN lower(o.leg) WHEN o.reason LIKE 'close %' THEN 'operator'
                        ELSE o.reason END AS cause, t.adjusted, t.ratio, t.paid, t.adjusted_at
            FROM trading.trade t JOIN trading.orders o USING (trade_id) LEFT JOIN trading.fill f USING (client_order_id)
            WHERE t.book = :book AND (t.state <> 'CLOSED' OR (t.trade_id = ANY(:late) AND (t.rolled OR NOT EXISTS (
                SELECT FROM trading.trade u WHERE u.book = t.book AND u.strategy = t.strategy AND u.symbol = t.symbol
                AND u.state <> 'CLOSED' AND NOT u.rolled))))
        ), sums AS (
            SELECT trade_id, bool_or(NOT trading.is_terminal(state)) AS working,
                   coalesce(sum(qty) FILTER (WHERE entry), 0) + adjusted AS entry_qty,
                   sum(qty * price) FILTER (WHERE entry) / sum(qty * since) FILTER (WHERE entry) AS entry_price,
                   min(ts) FILTER (WHERE entry) AS entry_at,
                   coalesce(sum(left_qty) FILTER (WHERE NOT entry), 0) AS exit_qty,
                   sum(qty * price) FILTER (WHERE NOT entry AND left_qty > 0)
                       / sum(qty) FILTER (WHERE NOT entry AND left_qty > 0) AS exit_price,
                   max(ts) FILTER (WHERE NOT entry) AS exit_at,
                   max(adjusted_at) FILTER (WHERE entry AND qty > 0) AS split_at,
                   coalesce(sum(fee), 0) AS fees, coalesce(sum(cash - fee), 0) + paid AS realised,
                   coalesce(string_agg(DISTINCT cause, ', ') FILTER (WHERE NOT entry AND qty > 0),
                            (SELECT max(kind) FROM trading.adjustment a WHERE a.trade_id = legs.trade_id
                             AND kind IN ('merger', 'delisting')),
                            CASE WHEN adjusted <> 0 THEN 'split' END,
                            max(reason) FILTER (WHERE entry), 'never entered') AS why
            FROM legs GROUP BY trade_id, adjusted, ratio, paid
        ), now AS (
            SELECT *, CASE WHEN NOT working AND entry_qty = exit_qty THEN 'CLOSED'
                           WHEN entry_at IS NOT NULL THEN 'OPEN' ELSE 'PENDING' END AS state
            FROM sums
        )
    """
    differs = """
        t.trade_id = now.trade_id AND (t.state, t.entry_qty, t.exit_qty, t.fees)
        IS DISTINCT FROM (now.state, now.entry_qty, now.exit_qty, now.fees)
    """
    update = """
        UPDATE trading.trade t
        SET state = now.state, qty = greatest(t.qty, now.entry_qty), entry_qty = now.entry_qty,
            entry_price = now.entry_price, entry_at = now.entry_at,
            exit_qty = now.exit_qty, exit_price = now.exit_price, fees = now.fees,
            exit_at = coalesce(now.exit_at, CASE now.state WHEN 'CLOSED' THEN now.split_at END),
            realised = CASE now.state WHEN 'CLOSED' THEN now.realised END,
            close_reason = CASE now.state WHEN 'CLOSED' THEN now.why END
        FROM now WHERE
    """
    parameters = {"book": book, "late": list(late)}
    # most calls find nothing new, and a plain SELECT takes no lock
    probe = text(f"{query} SELECT FROM trading.trade t, now WHERE {differs} LIMIT 1")
    if conn.execute(probe, parameters).first() is None:
        return []
    return list(conn.execute(text(f"{query} {update} {differs} RETURNING t.*"), parameters).mappings())


def note(
    conn: Connection,
    lines: Iterable[tuple[str, str | None, str | None, str]],
    *,
    book: str,
    run_id: str,
    as_of: datetime,
    now: datetime,
) -> None:
    """Writes journal lines: (kind, symbol, client_order_id, message)."""
    common = {"at": now, "book": book, "run_id": run_id, "as_of": as_of}
    insert(
        conn,
        "journal",
        [{**common, "kind": k, "symbol": s, "client_order_id": i, "message": m} for k, s, i, m in lines],
    )
