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
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, text

from alphapivot.brokers.base import Account, BrokerFill, Leg

if TYPE_CHECKING:
    from alphapivot.execution.decide import Decision
    from alphapivot.settings import Instrument

Row = dict[str, Any]


def order_id(book: str, strategy: str, symbol: str, as_of: datetime, leg: Leg, *, version: int = 1) -> str:
    """20 characters that the same decision always gets: a prefix and a hash of what makes the order unique."""
    key = "\x1f".join((book, strategy, symbol, as_of.astimezone(UTC).isoformat(), leg, str(version)))
    return "AP" + base64.b32encode(hashlib.sha256(key.encode()).digest()).decode()[:18]


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
    """Trades that are not closed, with what protects them."""
    return list(
        conn.execute(
            text(
                "SELECT t.*, i.as_of, coalesce(w.exiting, false) AS exiting, coalesce(w.protected, false) AS"
                " protected, e.client_order_id AS entry_id"
                " FROM trading.trade t JOIN trading.intent i USING (intent_id)"
                " JOIN trading.orders e ON e.trade_id = t.trade_id AND e.leg = 'ENTRY' AND e.version = 1"
                " LEFT JOIN LATERAL (SELECT bool_or(o.leg = 'EXIT') AS exiting,"
                "   bool_or(o.leg = 'STOP' AND o.state IN ('NEW', 'PARTIALLY_FILLED')) AS protected"
                "   FROM trading.orders o WHERE o.trade_id = t.trade_id AND NOT trading.is_terminal(o.state)) w ON true"
                " WHERE t.book = :book AND t.state <> 'CLOSED' ORDER BY t.trade_id"
            ),
            {"book": book},
        ).mappings()
    )


def working_orders(conn: Connection, book: str) -> list[RowMapping]:
    """Orders that are not final, the oldest first."""
    return list(
        conn.execute(
            text(
                "SELECT * FROM trading.orders WHERE book = :book AND NOT trading.is_terminal(state) ORDER BY"
                " created_at, client_order_id"
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
    conn.execute(
        text(
            "INSERT INTO trading.risk_day AS r (book, day, currency, start_equity, equity, cash) SELECT :book,"
            " :day, :currency,"
            " coalesce((SELECT equity FROM trading.risk_day WHERE book = :book AND day < :day ORDER BY day DESC"
            " LIMIT 1), :equity), :equity, :cash"
            " ON CONFLICT (book, day) DO UPDATE SET equity = excluded.equity, cash = excluded.cash"
            " WHERE (r.equity, r.cash) IS DISTINCT FROM (excluded.equity, excluded.cash)"
        ),
        {"book": book, "day": day, "currency": account.currency, "equity": account.equity, "cash": account.cash},
    )
    return Decimal(
        conn.execute(
            text("SELECT start_equity FROM trading.risk_day WHERE book = :book AND day = :day"),
            {"book": book, "day": day},
        ).scalar_one()
    )


def count_messages(conn: Connection, book: str, day: date, messages: int) -> None:
    conn.execute(
        text("UPDATE trading.risk_day SET messages = messages + :n WHERE book = :book AND day = :day"),
        {"book": book, "day": day, "n": messages},
    )


def record(
    conn: Connection,
    decisions: Sequence[Decision],
    *,
    book: str,
    strategy: str,
    run_id: str,
    as_of: datetime,
    fence: int,
    instruments: Mapping[str, Instrument],
    terms: Mapping[str, Any],
    now: datetime,
) -> list[str]:
    """
    Writes decisions, and with each entry its intent, trade and three orders (CREATED), with each exit of an open
    trade its order.

    Returns the client_order_ids to send: entries and exits. One transaction, before any byte goes to the broker.
    A unique key that exists already is an error: the caller has read
    what was decided, and two executors cannot be here at once.
    """
    common = {"book": book, "strategy": strategy, "as_of": as_of}
    made = insert(
        conn,
        "decision",
        [
            {
                **common,
                "symbol": d.symbol,
                "batch_id": d.score and d.score.batch_id,
                "run_id": run_id,
                "action": d.action,
                "reasons": d.reasons,
                "gates": {name: asdict(gate) for name, gate in d.gates.items()},
                "score_ts": d.score and d.score.ts,
                **{name: d.score and getattr(d.score, name) for name in ("score", "raw", "gate", "veto")},
                "terms": terms.get(d.symbol),
                "bars": {**d.quote.bars, "close": d.quote.close, "atr": d.quote.atr} if d.quote else {},
                "plan": asdict(d.plan) if d.plan else None,
                "decided_at": d.decided_at,
            }
            for d in decisions
        ],
        "decision_id, symbol",
    )
    ids = {row["symbol"]: row["decision_id"] for row in made}
    acting = [d for d in decisions if d.action in ("ENTER_LONG", "ENTER_SHORT", "EXIT")]
    intents = {
        row["symbol"]: row["intent_id"]
        for row in insert(
            conn,
            "intent",
            [
                {
                    **common,
                    "symbol": d.symbol,
                    "decision_id": ids[d.symbol],
                    "action": d.action,
                    "score": d.score and d.score.score,
                    "created_at": now,
                }
                for d in acting
            ],
            "intent_id, symbol",
        )
    }
    entries = {d.symbol: (d, d.plan) for d in acting if d.plan is not None}
    trades = insert(
        conn,
        "trade",
        [
            {
                "intent_id": intents[symbol],
                "book": book,
                "strategy": strategy,
                "symbol": symbol,
                "market": instruments[symbol].trade_market,
                "contract": d.quote.contract if d.quote else "",
                "side": plan.side,
                "state": "PENDING",
                "qty": plan.qty,
                "reference": plan.reference,
                "stop": plan.stop,
                "target": plan.target,
                "currency": instruments[symbol].currency,
                "multiplier": instruments[symbol].multiplier,
                "quote_unit": instruments[symbol].quote_unit,
                "entry_qty": 0,
                "exit_qty": 0,
                "fees": 0,
                "created_at": now,
            }
            for symbol, (d, plan) in entries.items()
        ],
        "trade_id, symbol, market, contract",
    )
    orders = []
    for trade in trades:
        _, plan = entries[trade["symbol"]]
        enter, leave = ("BUY", "SELL") if plan.side == "LONG" else ("SELL", "BUY")
        legs: tuple[tuple[Leg, str, str, Decimal | None], ...] = (
            ("ENTRY", enter, "MARKET", None),
            ("STOP", leave, "STOP", plan.stop),
            ("TARGET", leave, "LIMIT", plan.target),
        )
        orders += [
            {
                **trade,
                "client_order_id": order_id(book, strategy, trade["symbol"], as_of, leg),
                "intent_id": intents[trade["symbol"]],
                "leg": leg,
                "side": side,
                "kind": kind,
                "qty": plan.qty,
                "price": price,
                "reason": None,
            }
            for leg, side, kind, price in legs
        ]
    for d in acting:
        if d.action == "EXIT" and d.trade is not None and d.trade.state == "OPEN":
            orders.append(
                {
                    "trade_id": d.trade.trade_id,
                    "symbol": d.symbol,
                    "market": d.trade.market,
                    "contract": d.trade.contract,
                    "client_order_id": order_id(book, strategy, d.symbol, as_of, "EXIT"),
                    "intent_id": intents[d.symbol],
                    "leg": "EXIT",
                    "side": "SELL" if d.trade.side == "LONG" else "BUY",
                    "kind": "MARKET",
                    "qty": d.trade.qty,
                    "price": None,
                    "reason": d.reasons[0],
                }
            )
    stamp = {
        "book": book,
        "version": 1,
        "cum_qty": 0,
        "state": "CREATED",
        "as_of": as_of,
        "active_from": as_of,
        "attempts": 0,
        "fence": fence,
        "created_at": now,
        "updated_at": now,
    }
    insert(conn, "orders", [{**order, **stamp} for order in orders])
    return [order["client_order_id"] for order in orders if order["leg"] in ("ENTRY", "EXIT")]


def brackets(conn: Connection, ids: Sequence[str]) -> list[RowMapping]:
    """
    All orders of the trades to which ``ids`` belong, with the entry's id (``entry_id``) and whether the entry
    itself is among
    ``ids`` (``entry``).
    """
    return list(
        conn.execute(
            text(
                "SELECT o.*, e.client_order_id AS entry_id, e.client_order_id = ANY(:ids) AS entry FROM"
                " trading.orders o"
                " JOIN trading.orders e ON e.trade_id = o.trade_id AND e.leg = 'ENTRY' AND e.version = 1"
                " WHERE o.trade_id IN (SELECT trade_id FROM trading.orders WHERE client_order_id = ANY(:ids))"
            ),
            {"ids": list(ids)},
        ).mappings()
    )


def claim(conn: Connection, ids: Sequence[str], fence: int, active_from: datetime, now: datetime) -> list[RowMapping]:
    """
    CREATED, PENDING_NEW or UNKNOWN -> PENDING_NEW, for one executor only; the orders, as they are now. Commit
    before the send.
    """
    return list(
        conn.execute(
            text(
                "UPDATE trading.orders o SET state = 'PENDING_NEW', attempts = attempts + 1, fence = :fence,"
                " active_from = :active_from,"
                " updated_at = :now FROM (SELECT client_order_id FROM trading.orders WHERE client_order_id = ANY(:ids)"
                " AND state IN ('CREATED', 'PENDING_NEW', 'UNKNOWN') FOR UPDATE SKIP LOCKED) mine"
                " WHERE o.client_order_id = mine.client_order_id RETURNING o.*"
            ),
            {"ids": list(ids), "fence": fence, "active_from": active_from, "now": now},
        ).mappings()
    )


def set_orders(conn: Connection, rows: Iterable[Row], fence: int, now: datetime) -> list[RowMapping]:
    """
    Brings orders to a state: rows of client_order_id, state and, where known, cum_qty, avg_price,
    broker_order_id, reason.

    Only what differs is written; the orders that changed, with their state before.
    """
    rows = list(rows)
    if not rows:
        return []
    return list(
        conn.execute(
            text(
                "UPDATE trading.orders o SET state = n.state, cum_qty = coalesce(n.cum_qty, o.cum_qty),"
                " avg_price = coalesce(n.avg_price, o.avg_price), broker_order_id = coalesce(n.broker_order_id,"
                " o.broker_order_id),"
                " reason = coalesce(n.reason, o.reason), fence = :fence, updated_at = :now"
                " FROM jsonb_populate_recordset(NULL::trading.orders, CAST(:rows AS jsonb)) n JOIN trading.orders"
                " was USING (client_order_id)"
                " WHERE o.client_order_id = n.client_order_id AND (o.state, o.cum_qty, o.avg_price,"
                " o.broker_order_id) IS DISTINCT FROM"
                " (n.state, coalesce(n.cum_qty, o.cum_qty), coalesce(n.avg_price, o.avg_price),"
                " coalesce(n.broker_order_id, o.broker_order_id))"
                " RETURNING o.*, was.state AS was"
            ),
            {"rows": dump(rows), "fence": fence, "now": now},
        ).mappings()
    )


def add_fills(conn: Connection, book: str, fills: Sequence[BrokerFill]) -> list[RowMapping]:
    """
    Writes executions of our orders, each once; those that were new. Executions of orders that are not ours stay
    out.
    """
    if not fills:
        return []
    return list(
        conn.execute(
            text(
                "INSERT INTO trading.fill (book, exec_id, client_order_id, symbol, market, contract, side, qty,"
                " price, fee, cash, ts)"
                " SELECT :book, n.exec_id, o.client_order_id, o.symbol, o.market, o.contract, o.side, n.qty,"
                " n.price, n.fee, n.cash, n.ts"
                " FROM jsonb_populate_recordset(NULL::trading.fill, CAST(:rows AS jsonb)) n JOIN trading.orders o"
                " ON o.client_order_id = n.client_order_id AND o.book = :book"
                " ON CONFLICT (book, exec_id) DO NOTHING RETURNING *"
            ),
            {"book": book, "rows": dump([asdict(fill) for fill in fills])},
        ).mappings()
    )


def roll_up(conn: Connection, book: str) -> list[RowMapping]:
    """
    Trades as their fills and orders make them; those that changed.

    A trade is closed when it is flat and none of its orders works: what it realised is the cash of its fills less
    their fees.
    """
    return list(
        conn.execute(
            text(
                "UPDATE trading.trade t SET entry_qty = n.entry_qty, entry_price = n.entry_price, entry_at ="
                " n.entry_at, exit_qty = n.exit_qty,"
                " exit_price = n.exit_price, exit_at = n.exit_at, fees = n.fees, state = n.state,"
                " realised = CASE WHEN n.state = 'CLOSED' THEN n.realised END, close_reason = CASE WHEN n.state ="
                " 'CLOSED' THEN n.why END"
                " FROM (SELECT *, CASE WHEN working = 0 AND entry_qty = exit_qty THEN 'CLOSED' WHEN entry_qty > 0"
                " THEN 'OPEN' ELSE 'PENDING' END AS state"
                "  FROM (SELECT o.trade_id, count(*) FILTER (WHERE NOT trading.is_terminal(o.state)) AS working,"
                "   coalesce(sum(f.qty) FILTER (WHERE o.leg = 'ENTRY'), 0) AS entry_qty, coalesce(sum(f.qty)"
                " FILTER (WHERE o.leg <> 'ENTRY'), 0) AS exit_qty,"
                "   sum(f.qty * f.price) FILTER (WHERE o.leg = 'ENTRY') / sum(f.qty) FILTER (WHERE o.leg ="
                " 'ENTRY') AS entry_price,"
                "   sum(f.qty * f.price) FILTER (WHERE o.leg <> 'ENTRY') / sum(f.qty) FILTER (WHERE o.leg <>"
                " 'ENTRY') AS exit_price,"
                "   min(f.ts) FILTER (WHERE o.leg = 'ENTRY') AS entry_at, max(f.ts) FILTER (WHERE o.leg <>"
                " 'ENTRY') AS exit_at,"
                "   coalesce(sum(f.fee), 0) AS fees, coalesce(sum(f.cash - f.fee), 0) AS realised,"
                "   coalesce(string_agg(DISTINCT CASE o.leg WHEN 'EXIT' THEN o.reason ELSE lower(o.leg) END, ',"
                " ') FILTER (WHERE o.leg <> 'ENTRY' AND f.qty > 0),"
                "    max(o.reason) FILTER (WHERE o.leg = 'ENTRY'), 'never entered') AS why"
                "   FROM trading.trade t JOIN trading.orders o USING (trade_id) LEFT JOIN trading.fill f USING"
                " (client_order_id)"
                "   WHERE t.book = :book AND t.state <> 'CLOSED' GROUP BY o.trade_id) sums) n"
                " WHERE t.trade_id = n.trade_id AND (t.state, t.entry_qty, t.exit_qty, t.fees) IS DISTINCT FROM"
                " (n.state, n.entry_qty, n.exit_qty, n.fees)"
                " RETURNING t.*"
            ),
            {"book": book},
        ).mappings()
    )


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
