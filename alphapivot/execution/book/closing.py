"""An operator's requests to close one trade, in whole or in part; the next run carries them out like any exit."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from alphapivot.errors import DataError
from alphapivot.execution.book import ledger

if TYPE_CHECKING:
    from alphapivot.hub import Hub

OUTSTANDING = """
    SELECT DISTINCT ON (r.trade_id) r.trade_id, 'close ' || r.request_id AS reason, r.qty
    FROM trading.close_request r JOIN trading.trade t USING (trade_id)
    WHERE t.book = :book AND t.state <> 'CLOSED' AND NOT EXISTS (
        SELECT FROM trading.orders o JOIN trading.order_event v USING (client_order_id)
        WHERE o.trade_id = r.trade_id AND o.leg = 'EXIT' AND v.reason = 'close ' || r.request_id)
    ORDER BY r.trade_id, r.request_id
"""


@dataclass(frozen=True)
class Request:
    """``reason``: of the exit order. ``qty``: None for the whole trade."""

    reason: str
    qty: Decimal | None = None


def requests(conn: Connection, book: str) -> dict[int, Request]:
    """trade_id -> its oldest request without an exit order; once there is one, its states tell the rest."""
    rows = conn.execute(text(OUTSTANDING), {"book": book})
    return {row.trade_id: Request(row.reason, row.qty) for row in rows}


def ask(hub: Hub, book: str, symbol: str, qty: Decimal | None, lot: Decimal, reason: str, by: str) -> str:
    """
    Asks the next run to close the open trade in ``symbol`` at market: ``qty`` of it, a multiple of ``lot``, or all of
    it. A trade that has not entered loses its entry. Returns what was asked.

    Raises DataError if there is no such trade, or not that much of it.
    """
    if not reason.strip() or not by.strip():
        raise ValueError(f"a reason and a name are required, got reason {reason!r} by {by!r}")
    with hub.engine.begin() as conn:
        trades = [t for t in ledger.open_trades(conn, book) if t["symbol"] == symbol and not t["rolled"]]
        if not trades:
            symbols = ", ".join(sorted({t["symbol"] for t in ledger.open_trades(conn, book)}))
            raise DataError(f"book {book!r} has no open trade in {symbol!r}; open trades: {symbols or 'none'}")
        (trade,) = trades
        held = trade["entry_qty"] - trade["exit_qty"]
        if qty is not None and not (qty.is_finite() and 0 < qty <= held and qty % lot == 0):
            raise DataError(f"{symbol}: --qty must be a multiple of {lot:f} up to {held:f}, which is open; got {qty}")
        query = """
            INSERT INTO trading.close_request (trade_id, qty, reason, by) VALUES (:trade_id, :qty, :reason, :by)
        """
        part = None if qty == held else qty
        conn.execute(text(query), {"trade_id": trade["trade_id"], "qty": part, "reason": reason, "by": by})
        if not held:
            return f"the entry of trade {trade['trade_id']} in {symbol}, which has not filled, is to be cancelled"
        return f"{held if part is None else part:f} of trade {trade['trade_id']} in {symbol} are to be closed at market"
