"""
The rows of one book in memory, as the engine and the paper broker would have written them, until they are stored in
bulk.

Ids count from 1 by table; ``write`` replaces them by the database's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from alphapivot.brokers.base import OrderState
from alphapivot.execution.book.ledger import Row

IDS = {"decision": "decision_id", "intent": "intent_id", "trade": "trade_id"}
EVENT = ("cum_qty", "avg_price", "price", "fence", "reason")
FRESH = {
    "rolled": False, "rolled_from": None, "spread": None, "spread_at": None, "basis": None, "opened_at": None,
    "adjusted": 0, "ratio": 1, "paid": 0, "adjusted_at": None, "entry_price": None, "entry_at": None,
    "exit_price": None, "exit_at": None, "realised": None, "close_reason": None,
}  # fmt: skip


class Ledger:
    """``rows``: table of schema trading, or ``paper.`` and its name -> its rows."""

    def __init__(self, book: str, run_id: str, fence: int) -> None:
        self.book, self.run_id, self.fence = book, run_id, fence
        self.rows: dict[str, list[Row]] = defaultdict(list)

    def insert(self, table: str, rows: Sequence[Row], returning: str = "") -> list[Row]:
        """As ``execution.book.ledger.insert``: adds rows with ids, and returns the columns ``returning`` of each."""
        stored, name = self.rows[table], IDS.get(table)
        added = []
        for given in rows:
            row = {**FRESH, **given} if table == "trade" else dict(given)
            if table == "orders":
                row |= {"avg_price": None, "broker_order_id": None}
                self._event(row, None)
            if name is not None:
                row[name] = len(stored) + 1
            stored.append(row)
            added.append(row)
        columns = [c for c in returning.split(", ") if c]
        return [{c: row[c] for c in columns} for row in added] if columns else added

    def set_order(self, order: Row, state: OrderState | str, now: datetime, **changes: Any) -> None:
        """A new state of an order, with its other ``changes``; None leaves a column as it is."""
        before = {name: order[name] for name in ("state", "cum_qty", "price")}
        order |= {name: value for name, value in changes.items() if value is not None}
        order |= {"state": state, "fence": self.fence, "updated_at": now}
        if before != {name: order[name] for name in before}:
            self._event(order, before["state"])

    def note(self, as_of: datetime, kind: str, symbol: str | None, order_id: str | None, message: Any) -> None:
        """A line of the journal. ``message``: text, or a trade's row and the text in which its id replaces ``{}``."""
        line = {"at": as_of, "book": self.book, "run_id": self.run_id, "as_of": as_of}
        line |= {"kind": kind, "symbol": symbol, "client_order_id": order_id, "message": message}
        self.rows["journal"].append(line)

    def _event(self, order: Row, before: str | None) -> None:
        event = {"client_order_id": order["client_order_id"], "old_state": before, "new_state": order["state"]}
        self.rows["order_event"].append(event | {name: order[name] for name in EVENT})
