"""
Divides a movement of cash among the books of an account: what is paid for a position by position, all else by share.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from sqlalchemy import Connection, text

from alphapivot.brokers.base import CashFlow
from alphapivot.execution.account.divide import MICRO

LATE = timedelta(days=60)  # a dividend may be paid so long after its ex-date
NONE = Decimal(0)
# what each book's trades counted on at the newest ex-date
DIVIDEND = """
    SELECT book, sum(cash) AS weight FROM trading.adjustment a
    WHERE book = ANY(:books) AND symbol = :symbol AND kind IN ('dividend', 'distribution')
      AND ts = (SELECT max(ts) FROM trading.adjustment WHERE book = ANY(:books) AND symbol = :symbol
                AND kind IN ('dividend', 'distribution') AND ts >= :since AND ts < :until)
    GROUP BY book
"""
# funding and the like: who held it on that day
HELD = """
    SELECT book, sum(entry_qty * CASE side WHEN 'LONG' THEN 1 ELSE -1 END) AS weight FROM trading.trade
    WHERE book = ANY(:books) AND symbol = :symbol AND entry_at < :until AND (exit_at IS NULL OR exit_at >= :day
                                                                            OR state <> 'CLOSED')
    GROUP BY book
"""


def divided(conn: Connection, flow: CashFlow, shares: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Book -> its part of a movement; they add up to it. ``shares``: of the books, and of what no book has."""
    weights = _weights(conn, flow, shares)
    whole = sum(weights.values(), NONE)
    if not whole:
        return {book: flow.amount * share for book, share in shares.items()}
    parts = {book: (flow.amount * weight / whole).quantize(MICRO) for book, weight in weights.items()}
    largest = max(parts, key=lambda book: (abs(parts[book]), book))
    parts[largest] += flow.amount - sum(parts.values(), NONE)
    return parts


def _weights(conn: Connection, flow: CashFlow, shares: Mapping[str, Decimal]) -> dict[str, Decimal]:
    if flow.symbol is None or len(shares) == 1:
        return {}
    values = {"books": list(shares), "symbol": flow.symbol, "day": flow.dated, "until": flow.dated + timedelta(days=1)}
    query, since = (DIVIDEND, flow.dated - LATE) if flow.kind == "dividend" else (HELD, flow.dated)
    rows = conn.execute(text(query), values | {"since": since})
    return {row.book: row.weight for row in rows if row.weight}
