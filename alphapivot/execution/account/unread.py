"""What the other books of an account have traded and not read yet: their own runs book it, here it is only counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from sqlalchemy import Connection, RowMapping

from alphapivot.brokers.base import Broker, BrokerFill, BrokerOrder, Key
from alphapivot.execution.book import ledger, orders
from alphapivot.execution.run.look import Seen, look, on_their_way

NONE = Decimal(0)


@dataclass
class Unread:
    """
    ``qty`` and ``cash``: by trade_id, signed, less fees; ``keys``: the trades' books and contracts. ``clear``: False if
    something has filled at a price that the broker does not report yet. ``ids``: the broker's ids of their orders.
    """

    qty: dict[int, Decimal] = field(default_factory=dict)
    cash: dict[int, Decimal] = field(default_factory=dict)
    keys: dict[int, tuple[str, Key]] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    clear: bool = True

    def held(self, book: str, key: Key) -> Decimal:
        """By how much the book's position in a contract has changed."""
        return sum((self.qty[i] for i, of in self.keys.items() if of == (book, key)), NONE)


def unread(conn: Connection, broker: Broker, books: Sequence[str]) -> Unread:
    """Asks the broker for the orders and fills of ``books``."""
    found = Unread()
    for book in books:
        rows = orders.of_open_trades(conn, book)
        seen, _ = look(broker, on_their_way(rows, broker.caps), rows)
        # fills are read after the orders, so that no fill of an order is missing
        since = ledger.fills_since(conn, book, late=broker.caps.late_fills)
        told = {f.exec_id: f for f in broker.fills(since) if isinstance(f, BrokerFill)} if since is not None else {}
        known = ledger.recorded(conn, book, min((f.ts for f in told.values()), default=None))
        _count(found, conn, book, rows, seen, [f for i, f in told.items() if i not in known])
    return found


def _count(
    found: Unread, conn: Connection, book: str, rows: Sequence[RowMapping], seen: Seen, fills: Sequence[BrokerFill]
) -> None:
    """Adds what a book's orders have filled beyond its ledger. ``rows``: of its open trades."""
    successors = {orders.successor(o): o["client_order_id"] for o in rows}
    owners: dict[str, str] = {}  # any id of an order -> the id under which the ledger has it
    cum: dict[str, Decimal] = {}
    for name, order in seen.items():
        if isinstance(order, BrokerOrder):
            owner = successors.get(name, name)
            owners |= {name: owner, order.broker_order_id: owner}
            cum[owner] = cum.get(owner, NONE) + order.cum_qty
            found.ids |= {i for i in (order.broker_order_id, order.replaced_by) if i}
    new: dict[str, list[BrokerFill]] = {}
    for fill in fills:
        name = fill.client_order_id or fill.broker_order_id or ""
        new.setdefault(owners.get(name, name), []).append(fill)
    for row in orders.named(conn, book, [*new, *cum]):
        i, b, trade_id = row["client_order_id"], row["broker_order_id"], row["trade_id"]
        read = [f for name in {i, b} - {None} for f in new.get(name, [])]
        filled = row["filled"] + sum((f.qty for f in read), NONE)
        total = max(filled, row["cum_qty"], cum.get(i, NONE))
        found.clear &= total == filled
        more = total - max(row["filled"], row["cum_qty"])
        if more or read:
            found.keys[trade_id] = book, (row["symbol"], row["market"], row["contract"])
            sign = 1 if row["side"] == "BUY" else -1
            found.qty[trade_id] = found.qty.get(trade_id, NONE) + sign * more
            found.cash[trade_id] = found.cash.get(trade_id, NONE) + sum((f.cash - f.fee for f in read), NONE)
