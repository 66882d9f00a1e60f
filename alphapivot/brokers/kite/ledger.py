"""What this book sent, from its own ledger: Kite forgets its orders overnight, and its triggers have no id of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import text

from alphapivot.brokers.base import Key
from alphapivot.brokers.kite import triggers

if TYPE_CHECKING:
    from alphapivot.hub import Hub

SENT = """
    SELECT client_order_id, symbol, market, contract, side, price, updated_at
    FROM trading.orders WHERE client_order_id = ANY(:ids) AND attempts > 0
"""
TRIGGERS = """
    SELECT broker_order_id FROM trading.orders
    WHERE starts_with(broker_order_id, :prefix)
      AND (book = :book OR book IN (SELECT a.book FROM trading.account a JOIN trading.account own USING (number)
                                    WHERE own.book = :book))
"""


@dataclass(frozen=True)
class Sent:
    """An order as it was sent, at ``at`` or before."""

    key: Key
    side: str
    price: Decimal | None
    at: datetime


class Ledger:
    """Of ``book``; without a hub nothing was sent before."""

    def __init__(self, hub: Hub | None = None, book: str = "") -> None:
        self._hub, self._book = hub, book

    def sent(self, ids: Sequence[str]) -> Mapping[str, Sent]:
        """Our id -> the order; those that were never sent are left out."""
        if self._hub is None:
            return {}
        with self._hub.engine.connect() as conn:
            return {
                row.client_order_id: Sent((row.symbol, row.market, row.contract), row.side, row.price, row.updated_at)
                for row in conn.execute(text(SENT), {"ids": list(ids)})
            }

    def triggers(self) -> Mapping[int, str]:
        """The number of each trigger -> the order that it is a part of, of any book of the account."""
        if self._hub is None:
            return {}
        with self._hub.engine.connect() as conn:
            values = {"book": self._book, "prefix": triggers.PREFIX}
            owners = conn.execute(text(TRIGGERS), values).scalars().all()
        return {number: owner for owner in owners for number in triggers.ids(owner)}
