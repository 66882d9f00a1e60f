"""What this book sent and holds, from its own ledger: an exchange knows coins and orders, not whose they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import text

from alphapivot.brokers.base import Key, Side

if TYPE_CHECKING:
    from alphapivot.hub import Hub

SENT = """
    SELECT client_order_id, symbol, contract, updated_at FROM trading.orders
    WHERE client_order_id = ANY(:ids) AND attempts > 0
"""
HELD = """
    SELECT symbol, market, contract, sum(qty) AS qty FROM trading.position
    WHERE book = :book OR book IN (SELECT a.book FROM trading.account a JOIN trading.account own USING (number)
                                   WHERE own.book = :book)
    GROUP BY symbol, market, contract HAVING sum(qty) <> 0
"""
STOPS = """
    SELECT o.client_order_id, o.broker_order_id, o.contract, o.side, o.qty - o.cum_qty AS qty,
           t.multiplier * t.quote_unit AS value
    FROM trading.orders o JOIN trading.trade t USING (trade_id)
    WHERE o.book = :book AND o.leg = 'STOP' AND o.contract <> '' AND o.broker_order_id IS NOT NULL
          AND NOT trading.is_terminal(o.state)
"""


@dataclass(frozen=True)
class Sent:
    """An order of ours in ``symbol``, sent at ``at`` or before."""

    symbol: str
    at: datetime
    contract: str = ""


@dataclass(frozen=True)
class Stop:
    """A stop that works in ``contract``; ``value``: currency per unit and point."""

    client_order_id: str
    broker_order_id: str
    contract: str
    side: Side
    qty: Decimal
    value: Decimal


class Ledger:
    """Of ``book``, and of all that it holds with the other books of its account."""

    def __init__(self, hub: Hub, book: str) -> None:
        self._hub, self._book = hub, book

    def sent(self, ids: Sequence[str]) -> Mapping[str, Sent]:
        """Our id -> the order; those that were never sent are left out."""
        with self._hub.engine.connect() as conn:
            rows = conn.execute(text(SENT), {"ids": list(ids)})
            return {row.client_order_id: Sent(row.symbol, row.updated_at, row.contract) for row in rows}

    def stops(self) -> Sequence[Stop]:
        """Those of dated futures."""
        with self._hub.engine.connect() as conn:
            return [Stop(**row) for row in conn.execute(text(STOPS), {"book": self._book}).mappings()]

    def held(self) -> Mapping[Key, Decimal]:
        """What our fills add up to, and those of the account's other books."""
        with self._hub.engine.connect() as conn:
            rows = conn.execute(text(HELD), {"book": self._book})
            return {(row.symbol, row.market, row.contract): row.qty for row in rows}
