"""The paper broker's storage between runs (schema ``paper``): positions, orders and the changes of a replay."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text

from alphapivot.brokers.base import BrokerOrder, Key, OrderState
from alphapivot.brokers.fills import Resting
from alphapivot.brokers.paper.replay import Order, Position, Replay
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument


STATES: dict[str, OrderState] = {
    "HELD": "SUSPENDED",
    "WORKING": "NEW",
    "FILLED": "FILLED",
    "CANCELED": "CANCELED",
    "REPLACED": "REPLACED",
}
# orders o, each with its filled quantity and average price
ORDERS = """
    paper.orders o LEFT JOIN LATERAL (
        SELECT sum(qty) AS done, trim_scale(sum(qty * price) / sum(qty)) AS price
        FROM paper.fill WHERE (fill.book, fill.client_order_id) = (o.book, o.client_order_id)
    ) f ON true
"""


class Memory:
    """The rows of one book; ``instruments``: symbol -> terms."""

    def __init__(self, engine: Engine, book: str, instruments: Mapping[str, Instrument]) -> None:
        self._engine, self.book, self.instruments = engine, book, instruments

    def terms(self, symbol: str) -> Instrument:
        if symbol not in self.instruments:
            raise ConfigError(
                f"book {self.book!r} has an open position or order in {symbol}, but config.ini has no"
                f" [instrument.{symbol}]"
            )
        return self.instruments[symbol]

    def positions(self, conn: Connection) -> dict[Key, Position]:
        """The positions with a quantity or a resting order."""
        rows = conn.execute(
            text(
                "SELECT book, symbol, market, contract, qty, avg_price, mark, fx, seen_until FROM paper.position"
                " p WHERE book = :book"
                " AND (qty <> 0 OR EXISTS (SELECT FROM paper.orders o WHERE o.book = p.book AND o.state IN"
                " ('HELD', 'WORKING')"
                " AND (o.symbol, o.market, o.contract) = (p.symbol, p.market, p.contract))) ORDER BY symbol,"
                " market, contract"
            ),
            {"book": self.book},
        )
        return {(p.symbol, p.market, p.contract): p for p in (Position(*row) for row in rows)}

    def resting(self, conn: Connection) -> dict[Key, dict[str, list[Order]]]:
        """contract -> bracket -> its resting orders."""
        rows = conn.execute(
            text(
                "SELECT symbol, market, contract, bracket, o.qty, coalesce(f.done, 0) AS done,"
                " client_order_id, leg, side, o.price, active_from, state, o.qty, was, triggered"
                f" FROM {ORDERS} WHERE book = :book AND state IN ('HELD', 'WORKING') ORDER BY broker_order_id"
            ),
            {"book": self.book},
        )
        resting: dict[Key, dict[str, list[Order]]] = defaultdict(lambda: defaultdict(list))
        for symbol, market, contract, bracket, qty, done, *order in rows:
            resting[symbol, market, contract][bracket].append(Order(qty, Resting(*order), done))
        return resting

    def orders(self, where: str, parameters: dict[str, Any]) -> list[BrokerOrder]:
        with self._engine.connect() as conn:
            rows = conn.execute(
                text(
                    "SELECT o.client_order_id, o.broker_order_id::text, o.state, coalesce(f.done, 0), f.price,"
                    " o.reason, o.qty, o.symbol, o.market, o.contract, o.side, o.price"
                    f" FROM {ORDERS} WHERE o.book = :book AND {where} ORDER BY o.broker_order_id"
                ),
                {"book": self.book, **parameters},
            )
            return [
                BrokerOrder(
                    client_order_id=client_order_id,
                    broker_order_id=broker_order_id,
                    state="PARTIALLY_FILLED" if state == "WORKING" and filled else STATES[state],
                    cum_qty=filled,
                    avg_price=avg_price,
                    reason=reason,
                    qty=qty,
                    key=(symbol, market, contract),
                    side=side,
                    price=price,
                )
                for (
                    client_order_id,
                    broker_order_id,
                    state,
                    filled,
                    avg_price,
                    reason,
                    qty,
                    symbol,
                    market,
                    contract,
                    side,
                    price,
                ) in rows
            ]

    def write(self, conn: Connection, replay: Replay, positions: list[Position]) -> None:
        """Writes the changes of a replay, in at most five statements."""
        if replay.booked:
            rows = [
                {"book": self.book, "kind": b.event.kind, "ts": b.event.ts, "value": b.event.value}
                | dict(zip(("symbol", "market", "contract"), b.event.key, strict=True))
                | {"before": b.before, "after": b.after, "cash": b.cash}
                for b in replay.booked
            ]
            conn.execute(
                text(
                    "INSERT INTO paper.action SELECT * FROM"
                    " jsonb_populate_recordset(NULL::paper.action, CAST(:rows AS jsonb))"
                ),
                {"rows": as_json(rows)},
            )
        if replay.fills:
            conn.execute(
                text(
                    "INSERT INTO paper.fill (book, client_order_id, ts, qty, price, fee, cash)"
                    " SELECT book, client_order_id, ts, qty, price, fee, cash FROM"
                    " jsonb_populate_recordset(NULL::paper.fill, CAST(:rows AS jsonb))"
                ),
                {"rows": as_json([{"book": self.book, **fill} for fill in replay.fills])},
            )
        if replay.fills or replay.booked:
            conn.execute(
                text("UPDATE paper.account SET cash = :cash WHERE book = :book"),
                {"book": self.book, "cash": replay.cash},
            )
        if replay.orders:
            conn.execute(
                text(
                    "UPDATE paper.orders o SET state = n.state, reason = coalesce(n.reason, o.reason), qty = n.qty,"
                    " price = n.price, was = n.was, triggered = n.triggered"
                    " FROM jsonb_populate_recordset(NULL::paper.orders, CAST(:rows AS jsonb)) n"
                    " WHERE o.book = :book AND o.client_order_id = n.client_order_id"
                ),
                {
                    "book": self.book,
                    "rows": as_json([{"client_order_id": i, **changes} for i, changes in replay.orders.items()]),
                },
            )
        conn.execute(
            text(
                "UPDATE paper.position p SET qty = n.qty, avg_price = n.avg_price, mark = n.mark, fx = n.fx,"
                " seen_until = n.seen_until"
                " FROM jsonb_populate_recordset(NULL::paper.position, CAST(:rows AS jsonb)) n"
                " WHERE (p.book, p.symbol, p.market, p.contract) = (n.book, n.symbol, n.market, n.contract)"
            ),
            {"rows": as_json([vars(p) for p in positions])},
        )


def as_json(rows: list[dict[str, Any]]) -> str:
    """JSON with Decimals and instants as text, which PostgreSQL parses exactly."""
    return json.dumps(rows, default=str, allow_nan=False)
