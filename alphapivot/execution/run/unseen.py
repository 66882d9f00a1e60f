"""
What a simulated account could not see: a bar that came too late to fill a stop, and a feed that brings no more bars.

Neither is repaired: fills are never written into the past, where later decisions rest on what was held. The symbol is
locked, and someone decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from alphapivot.brokers.base import Replaying
from alphapivot.execution.book import ledger
from alphapivot.execution.market.source import Stored
from alphapivot.execution.run.ended import silent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from alphapivot.brokers.base import Key
    from alphapivot.execution.run.session import Session

HELD = """
    SELECT symbol, market, contract FROM trading.trade
    WHERE book = :book AND state = 'OPEN' AND entry_qty <> exit_qty ORDER BY trade_id
"""
# of each open trade the first bar that was stored after the account had gone past it, and went through the stop: the
# wider of those that were in force at its end and before it. After a split prices do not compare.
PASSED = """
    SELECT DISTINCT ON (t.trade_id) t.symbol, t.trade_id, b.ts, s.price,
           CASE t.side WHEN 'LONG' THEN b.low ELSE b.high END AS reached
    FROM trading.trade t
    JOIN jsonb_to_recordset(CAST(:seen AS jsonb)) AS n (symbol text, market text, contract text, seen timestamptz)
      ON (n.symbol, n.market, n.contract) = (t.symbol, t.market, t.contract)
    JOIN market.bar b ON (b.symbol, b.market, b.contract, b.interval) = (t.symbol, t.market, t.contract, :interval)
     AND b.ts > t.entry_at AND b.ts <= n.seen AND b.open IS NOT NULL AND b.volume IS DISTINCT FROM 0
    CROSS JOIN LATERAL (
        SELECT CASE t.side WHEN 'LONG' THEN min(price) ELSE max(price) END AS price FROM (
            SELECT price FROM trading.orders o
            WHERE o.trade_id = t.trade_id AND o.leg = 'STOP' AND o.active_from < b.ts ORDER BY o.version DESC LIMIT 2
        ) latest
    ) s
    WHERE t.book = :book AND t.state = 'OPEN' AND t.entry_qty <> t.exit_qty AND t.exit_qty = 0 AND t.adjusted_at IS NULL
      AND CASE t.side WHEN 'LONG' THEN b.low::numeric <= s.price ELSE b.high::numeric >= s.price END
    ORDER BY t.trade_id, b.ts
"""
KNOWN = "SELECT reason FROM trading.instrument_lock WHERE book = :book AND symbol = ANY(:symbols)"


def unseen(session: Session) -> None:
    """Locks symbols whose open trade missed a late bar, or whose feed is silent; each reason once."""
    if not isinstance(session.broker, Replaying) or not isinstance(session.source, Stored):
        return  # the bars of a backtest cannot come late
    with session.hub.engine.begin() as conn:
        held = [tuple(row) for row in conn.execute(text(HELD), {"book": session.book})]
        if not held:
            return
        watched = session.broker.watching()
        seen = {key: watched[key] for key in held if key in watched}
        reasons = silent(session, seen) | _passed(session, conn, seen)
        known = set(conn.execute(text(KNOWN), {"book": session.book, "symbols": sorted(reasons)}).scalars())
        session.block(conn, {symbol: reason for symbol, reason in reasons.items() if reason not in known})


def _passed(session: Session, conn: Connection, seen: Mapping[Key, datetime]) -> dict[str, str]:
    rows = [{"symbol": s, "market": m, "contract": c, "seen": at} for (s, m, c), at in seen.items()]
    parameters = {"book": session.book, "interval": session.interval, "seen": ledger.dump(rows)}
    return {
        row.symbol: (
            f"the bar of {row.ts:%Y-%m-%d %H:%M} UTC came after later bars were traded, and went to {row.reached:g},"
            f" through the stop of trade {row.trade_id} at {row.price:f}: the trade is still open here;"
            " close it, or keep it and unlock"
        )
        for row in conn.execute(text(PASSED), parameters)
    }
