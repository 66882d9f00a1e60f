"""A stop or target that somebody moved at the broker: its new price becomes the trade's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, text

from alphapivot.brokers.base import Absent, BrokerOrder, Unreadable
from alphapivot.execution.book import ledger

if TYPE_CHECKING:
    from alphapivot.execution.run.session import Session

MOVE = """
    UPDATE trading.trade t SET stop = n.stop, target = n.target
    FROM (
        SELECT t.trade_id, coalesce(m.stop, t.stop) AS stop, coalesce(m.target, t.target) AS target
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS m (trade_id bigint, stop numeric, target numeric)
        JOIN trading.trade t USING (trade_id)
    ) n
    WHERE t.trade_id = n.trade_id AND (
        n.target IS NULL OR CASE t.side WHEN 'LONG' THEN n.stop < n.target ELSE n.stop > n.target END)
    RETURNING t.trade_id
"""


def adopt(
    session: Session, conn: Connection, moved: Sequence[tuple[RowMapping, BrokerOrder | Absent | Unreadable]]
) -> None:
    """
    Takes over the prices of the orders that replaced ours (our order, its replacement). A broker that adjusts its
    orders at a split does the same: then our own conversion counts.
    """
    split = {e.key[0]: e.ts for e in session.events if e.kind != "dividend"}
    prices: dict[int, dict[str, Any]] = {}
    lines = []
    for order, replacement in moved:
        symbol, leg = order["symbol"], order["leg"].lower()
        if not isinstance(replacement, BrokerOrder) or replacement.price in (None, order["price"]):
            continue
        if leg not in ("stop", "target") or (symbol in split and split[symbol] >= order["created_at"]):
            continue
        prices.setdefault(order["trade_id"], {})[leg] = replacement.price
        message = (
            f"somebody moved the {leg} of trade {order['trade_id']} at the broker from {order['price']:f} to"
            f" {replacement.price:f}: it stays there"
        )
        lines.append((order["trade_id"], (symbol, order["client_order_id"], message)))
    rows = [{"trade_id": i} | legs for i, legs in prices.items()]
    kept = set(conn.execute(text(MOVE), {"rows": ledger.dump(rows)}).scalars()) if rows else set()
    # a stop beyond its target protects nothing: it is put back
    session.note(conn, [("moved", *line) for trade_id, line in lines if trade_id in kept])
    session.tell(*(message for trade_id, (_, _, message) in lines if trade_id in kept))
