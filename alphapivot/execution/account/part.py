"""
What one book has of an account that several trade: its positions, orders and money. All books together are the account.

Each book sends orders of its own, so that a fill belongs to its order and the order to its book; the broker nets the
positions. What it holds besides the other books is this book's: what no ledger explains is a difference in each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from alphapivot.brokers.base import Account, Broker, BrokerOrder, Event, Key, Unreadable
from alphapivot.brokers.wrapper import BrokerWrapper
from alphapivot.execution.account import books, converted
from alphapivot.execution.account.divide import Held, divide
from alphapivot.execution.account.unread import Unread, unread
from alphapivot.execution.book import day, ledger
from alphapivot.execution.decide.facts import Beside

if TYPE_CHECKING:
    from alphapivot.hub import Hub

NONE = Decimal(0)
# shared-account trades that are not closed, each with its size in account currency at its contract's newest close
TRADES = """
    SELECT t.trade_id, t.book, t.symbol, t.market, t.contract, t.side,
           EXISTS (SELECT FROM trading.orders o WHERE o.trade_id = t.trade_id AND o.leg = 'ENTRY' AND o.kind = 'LIMIT'
                   AND NOT trading.is_terminal(o.state)) AS rests,
           (t.entry_qty - t.exit_qty) * CASE t.side WHEN 'LONG' THEN 1 ELSE -1 END AS held,
           coalesce(b.close, t.entry_price, t.reference) * t.multiplier * t.quote_unit
               * coalesce((d.plan ->> 'fx')::numeric, 1) AS each
    FROM trading.trade t JOIN trading.intent i USING (intent_id) JOIN trading.decision d USING (decision_id)
    LEFT JOIN LATERAL (
        SELECT close::numeric AS close FROM market.bar b
        WHERE (b.symbol, b.market, b.contract, b.interval) = (t.symbol, t.market, t.contract, :interval)
          AND b.ts <= :as_of ORDER BY b.ts DESC LIMIT 1
    ) b ON true
    WHERE t.book = ANY(:books) AND (t.state <> 'CLOSED' OR t.trade_id = ANY(:also))
"""
OWNED = """
    SELECT client_order_id, broker_order_id FROM trading.orders
    WHERE book = ANY(:books) AND (client_order_id = ANY(:ids) OR broker_order_id = ANY(:theirs))
"""


RECORD = """
    INSERT INTO trading.account_seen AS s (number, book, share, currency, equity, cash, differs, at)
    SELECT number, book, share, currency, equity, cash, differs, at
    FROM jsonb_populate_recordset(NULL::trading.account_seen, CAST(:rows AS jsonb))
    ON CONFLICT (number, book) DO UPDATE
    SET share = excluded.share, currency = excluded.currency, equity = excluded.equity, cash = excluded.cash,
        differs = excluded.differs, at = excluded.at
    WHERE (s.share, s.currency, s.equity, s.cash, s.differs, s.at) IS DISTINCT FROM (
        excluded.share, excluded.currency, excluded.equity, excluded.cash, excluded.differs, excluded.at)
"""


@dataclass(frozen=True)
class Place:
    """Whose part it is, of which account, as of when. ``symbols``: those of the book's config, each with its lot."""

    book: str
    number: str
    symbols: Mapping[str, Decimal]
    as_of: datetime
    interval: str


class AccountPart(BrokerWrapper):
    """
    The Broker port of one book. ``settled``: see ``divide``, as the account was last seen, and ``unexplained`` its cash
    that no ledger explains; ``events``: splits and the like of the symbols that any book of the account holds.
    """

    def __init__(self, broker: Broker, hub: Hub, place: Place) -> None:
        super().__init__(broker)
        self._hub, self._place = hub, place
        self.settled, self.unexplained = True, NONE
        self.events: Sequence[Event] = ()
        self._seen: list[dict[str, Any]] = []
        self._last: tuple[Mapping[Key, Decimal], Mapping[str, Mapping[Key, Decimal]]] = ({}, {})

    def positions(self) -> dict[Key, Decimal]:
        theirs = super().positions()
        with self._hub.engine.connect() as conn:
            ours = self._ledgers(conn)
            keys = [k for k in {*theirs, *(k for held in ours.values() for k in held)} if k[0] in self._place.symbols]
            if any(theirs.get(k, NONE) != _sum(ours, k) for k in keys):
                new = unread(conn, self._broker, self._others(ours))
                ours = {b: {k: held.get(k, NONE) + new.held(b, k) for k in keys} for b, held in ours.items()}
                self._convert(conn, ours, theirs)
        self._last = theirs, ours
        others = {b: held for b, held in ours.items() if b != self._place.book}
        mine = {k: theirs.get(k, NONE) - _sum(others, k) for k in keys}
        return {k: q for k, q in mine.items() if q}

    def open_orders(self) -> Sequence[BrokerOrder | Unreadable]:
        """Those of this book, and those of nobody."""
        resting = super().open_orders()
        with self._hub.engine.connect() as conn:
            names = books.of(conn, self._place.number)
            others = [b for b in names if b != self._place.book]
            mine, theirs = self._owned(conn, [self._place.book], resting), self._owned(conn, others, resting)
            left = [o for o in resting if not _ids(o) & theirs]
            if any(not _ids(o) & mine for o in left):
                found = unread(conn, self._broker, others).ids  # legs without an id of ours, and what replaced them
                left = [o for o in left if o.broker_order_id not in found]
        return left

    def account(self) -> Account:
        whole = super().account()
        theirs = super().positions()
        with self._hub.engine.connect() as conn:
            number, ours, have = self._place.number, self._ledgers(conn), books.parts(conn, self._place.number)
            cash = {b: part.opening + day.cash_booked(conn, b) for b, part in have.items()}
            new = Unread()
            if _differs(theirs, ours, new) or sum(cash.values()) != whole.cash:
                new = unread(conn, self._broker, sorted(ours))
            held = self._held(conn, ours, new)
        for trade_id, amount in new.cash.items():
            cash[new.keys[trade_id][0]] += amount
        different = _differs(theirs, ours, new)
        self.settled, self.unexplained = different is None and new.clear, whole.cash - sum(cash.values(), NONE)
        shares = {b: part.share for b, part in have.items()}
        accounts = divide(whole, shares, cash, held, settled=self.settled)
        self._seen = self._rows(whole, shares, accounts, different)
        nothing = Account(whole.currency, NONE, NONE, NONE, whole.at, number)  # until the book has a share
        return accounts.get(self._place.book, nothing)

    def record(self, conn: Connection) -> None:
        """Writes what each book has of the account, as it was last seen."""
        conn.execute(text(RECORD), {"rows": ledger.dump(self._seen)})

    def _rows(
        self, whole: Account, shares: Mapping[str, Decimal], accounts: Mapping[str, Account], differs: str | None
    ) -> list[dict[str, Any]]:
        """Of ``trading.account_seen``; what no book has is the rest of the account."""
        number, books_of = self._place.number, [b for b in accounts if b != self._place.number]
        money = {b: (accounts[b].equity, accounts[b].cash) for b in books_of}
        equity, cash = (sum((m[i] for m in money.values()), NONE) for i in (0, 1))
        money[number] = whole.equity - equity, whole.cash - cash
        common = {"number": number, "currency": whole.currency, "differs": differs, "at": self._place.as_of}
        return [common | {"book": b, "share": shares[b], "equity": e, "cash": c} for b, (e, c) in money.items()]

    def against(self) -> dict[Key, Beside]:
        """
        Contract -> another book's trade there, where the broker does not take every order beside every other: a stop
        that may only reduce has nothing to reduce on the other side, and an order against a resting one is refused.
        """
        if self.caps.adds and not self.caps.reduce_only:
            return {}
        with self._hub.engine.connect() as conn:
            names = books.of(conn, self._place.number)
            rows = self._trades(conn, [b for b in names if b != self._place.book])
        rows = sorted(rows, key=lambda row: row.rests)  # the strictest counts
        return {(row.symbol, row.market, row.contract): Beside(row.book, row.side, limit=row.rests) for row in rows}

    def elsewhere(self) -> set[str]:
        """The symbols of this book's config in which another book has a trade."""
        with self._hub.engine.connect() as conn:
            names = books.of(conn, self._place.number)
            rows = self._trades(conn, [b for b in names if b != self._place.book])
        return {row.symbol for row in rows} & set(self._place.symbols)

    def told(self, key: Key) -> str:
        """What the books have and what the broker holds, as positions were last read."""
        theirs, ours = self._last
        held = " and ".join(f"{q:f} of {book}" for book in sorted(ours) if (q := ours[book].get(key, NONE)))
        whole, place = f"{_sum(ours, key):f} ({held or 'none'})", self._place
        return f"the fills of the books of {place.number} add up to {whole}, the broker holds {theirs.get(key, NONE):f}"

    def lock(self, conn: Connection, reasons: Mapping[str, str], at: datetime) -> None:
        """Locks symbols in the other books that have a trade there: no book can explain the difference."""
        names = books.of(conn, self._place.number)
        rows = self._trades(conn, [b for b in names if b != self._place.book])
        for book in sorted({row.book for row in rows}):
            held = {row.symbol for row in rows if row.book == book}
            ledger.lock(conn, book, {s: why for s, why in reasons.items() if s in held}, at)

    def _convert(self, conn: Connection, ours: dict[str, dict[Key, Decimal]], theirs: Mapping[Key, Decimal]) -> None:
        """Where the broker has booked a split that some books have not, puts their parts of it into ``ours``."""
        after = {b: converted.pending(conn, b, self.events) for b in ours} if self.events else {}
        for key in {k for exact in after.values() for k in exact if k[0] in self._place.symbols}:
            exact = {b: e[key] for b, e in after.items() if key in e}
            fixed = sum((ours[b].get(key, NONE) for b in ours if b not in exact), NONE)
            parts = converted.allot(theirs.get(key, NONE) - fixed, exact, self._place.symbols[key[0]])
            for book, qty in (parts or {}).items():
                ours[book][key] = qty

    def _ledgers(self, conn: Connection) -> dict[str, dict[Key, Decimal]]:
        return books.positions(conn, {*books.of(conn, self._place.number), self._place.book})

    def _others(self, names: Collection[str]) -> list[str]:
        return sorted(set(names) - {self._place.book})

    def _owned(self, conn: Connection, names: Sequence[str], orders: Sequence[BrokerOrder | Unreadable]) -> set[str]:
        """The ids among those of ``orders`` that the ledgers of these books have."""
        ids = {i for o in orders for i in _ids(o)}
        rows = conn.execute(text(OWNED), {"books": list(names), "ids": list(ids), "theirs": list(ids)})
        return {i for row in rows for i in row if i is not None}

    def _trades(self, conn: Connection, names: Sequence[str], also: Collection[int] = ()) -> Sequence[Any]:
        values = {"books": list(names), "as_of": self._place.as_of, "interval": self._place.interval}
        return conn.execute(text(TRADES), values | {"also": list(also)}).all()

    def _held(self, conn: Connection, names: Collection[str], new: Unread) -> dict[str, Held]:
        held: dict[str, Held] = {}
        for row in self._trades(conn, sorted(names), list(new.qty)):
            value = (row.held + new.qty.get(row.trade_id, NONE)) * row.each
            before = held.get(row.book, Held())
            held[row.book] = Held(before.net + value, before.gross + abs(value))
        return held


def _sum(ours: Mapping[str, Mapping[Key, Decimal]], key: Key) -> Decimal:
    return sum((held.get(key, NONE) for held in ours.values()), NONE)


def _differs(theirs: Mapping[Key, Decimal], ours: Mapping[str, Mapping[Key, Decimal]], new: Unread) -> str | None:
    """Where the books together do not hold what the broker holds; None: nowhere."""
    keys = {*theirs, *(k for held in ours.values() for k in held), *(k for _, k in new.keys.values())}
    sums = {k: _sum(ours, k) + sum((new.held(b, k) for b in ours), NONE) for k in sorted(keys)}
    different = [
        f"{' '.join(part for part in (k[0], k[2]) if part)}: the books {q:f}, the broker {theirs.get(k, NONE):f}"
        for k, q in sums.items()
        if q != theirs.get(k, NONE)
    ]
    return "; ".join(different) or None


def _ids(order: BrokerOrder | Unreadable) -> set[str]:
    ours = order.client_order_id if isinstance(order, BrokerOrder) else ""
    return {i for i in (ours, order.broker_order_id) if i}
