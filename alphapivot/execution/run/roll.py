"""
A roll is two orders: the old trade's exit, and the entry of the new trade in the next contract.

The exit goes first. The entry is sent once the broker has accepted the exit, for the exit's quantity; if the old stop
has filled first, there is nothing to roll. Each trade has its own stop meanwhile. If only the exit fills, the book is
flat; if only the entry fills, both trades are protected and the old one keeps exiting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, text

from alphapivot.brokers.events import inward
from alphapivot.execution.book import ledger

if TYPE_CHECKING:
    from alphapivot.execution.run.session import Session

LEGS = """
    SELECT n.trade_id, p.state AS before,
           coalesce(sum(f.filled) FILTER (WHERE trading.is_terminal(o.state)), 0)
               + coalesce(sum(o.qty) FILTER (WHERE o.state IN ('NEW', 'PARTIALLY_FILLED')), 0) AS leaves,
           coalesce(bool_or(o.state IN ('CREATED', 'PENDING_NEW', 'UNKNOWN', 'PENDING_CANCEL')), false) AS open
    FROM trading.trade n JOIN trading.trade p ON p.trade_id = n.rolled_from
    LEFT JOIN trading.orders o ON o.trade_id = p.trade_id AND o.leg = 'EXIT' AND o.reason = 'roll'
    LEFT JOIN LATERAL (
        SELECT coalesce(sum(qty), 0) AS filled FROM trading.fill WHERE fill.client_order_id = o.client_order_id
    ) f ON true
    WHERE n.trade_id = ANY(:ids) GROUP BY n.trade_id, p.state
"""
BOTH_FILLED = """
    SELECT n.trade_id, n.symbol, n.side, n.stop, n.target, n.spread, n.entry_price, x.price AS left_at
    FROM trading.trade n JOIN trading.trade p ON p.trade_id = n.rolled_from
    JOIN LATERAL (
        SELECT sum(f.qty * f.price) / sum(f.qty) AS price
        FROM trading.fill f JOIN trading.orders o USING (client_order_id)
        WHERE o.trade_id = p.trade_id AND o.leg = 'EXIT' AND o.reason = 'roll'
    ) x ON x.price IS NOT NULL
    WHERE n.book = :book AND n.state = 'OPEN' AND n.spread_at IS NULL AND p.state = 'CLOSED' AND NOT EXISTS (
        SELECT FROM trading.orders e
        WHERE e.trade_id = n.trade_id AND e.leg = 'ENTRY' AND NOT trading.is_terminal(e.state))
"""
SHIFT = """
    UPDATE trading.trade t
    SET stop = n.stop, target = n.target, basis = t.basis + n.spread - t.spread, spread = n.spread,
        spread_at = n.spread_at
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS n (
        trade_id bigint, stop numeric, target numeric, spread numeric, spread_at timestamptz)
    WHERE t.trade_id = n.trade_id
"""


def ready(conn: Connection, trade_ids: Sequence[int]) -> dict[int, Decimal | None]:
    """
    For rolled trades whose entry was not sent yet: trade_id -> the quantity of the old trade's roll exit; 0 if the old
    trade ended otherwise; None while that is undecided.
    """
    if not trade_ids:
        return {}
    rows = conn.execute(text(LEGS), {"ids": list(trade_ids)}).all()
    return {r.trade_id: None if r.open or (not r.leaves and r.before != "CLOSED") else r.leaves for r in rows}


def spread_of(entered: Decimal, left: Decimal) -> Decimal:
    """The spread at which a roll was made: the new contract's price less the old one's, to the twelfth decimal."""
    return round(entered - left, 12).normalize()


def shifted(trade: Mapping[Any, Any], spread: Decimal, tick: Decimal) -> dict[str, Decimal | None]:
    """Stop and target of a rolled trade, moved from its ``spread`` of the closes to that of the fills."""
    exit_side: Literal["BUY", "SELL"] = "SELL" if trade["side"] == "LONG" else "BUY"
    change, target = spread - trade["spread"], trade["target"]
    return {
        "stop": inward("STOP", exit_side, trade["stop"] + change, tick),
        "target": None if target is None else inward("TARGET", exit_side, target + change, tick),
    }


def shift(session: Session, conn: Connection) -> None:
    """
    Once both legs have filled, moves stop, target and basis from the spread of the closes to the spread of the fills.
    """
    rows: list[dict[str, Any]] = []
    for t in conn.execute(text(BOTH_FILLED), {"book": session.book}).mappings():
        spread = spread_of(t["entry_price"], t["left_at"])
        moved = shifted(t, spread, session.instruments[t["symbol"]].tick)
        rows.append({"trade_id": t["trade_id"], **moved, "spread": spread, "spread_at": session.clock.now()})
    if rows:
        conn.execute(text(SHIFT), {"rows": ledger.dump(rows)})
        messages = [f"trade {r['trade_id']}: rolled at a spread of {r['spread']:f}, stop {r['stop']:f}" for r in rows]
        session.note(conn, [("rolled", None, None, message) for message in messages])
