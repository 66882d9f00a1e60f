"""
A paper account in memory: the rules of ``brokers/paper/`` applied to the bars that matter, in Decimal.

The screening kernel says on which bars an order does something; of the others only the last close is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from alphapivot.brokers.base import Account, Booked, Ended, Event, Key
from alphapivot.brokers.fills import Bar, Resting
from alphapivot.brokers.paper.replay import Order, Position, Replay

if TYPE_CHECKING:
    from alphapivot.config.sections.brokers import PaperBroker
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.execution.book.ledger import Row

NOTHING = Decimal(0)


@dataclass
class Changes:
    """What an instant has changed: fills, orders by id, and bookings, as ``Replay`` has them."""

    fills: list[Row]
    orders: dict[str, Row]
    booked: list[Booked]


@dataclass
class Stored:
    """The rows of an account in schema ``paper``: ``orders`` by client_order_id."""

    row: Row
    positions: list[Row]
    orders: dict[str, Row]
    actions: list[Row]


class PaperAccount:
    """``rows``: client_order_id -> the row of its order in ``paper.orders``, for all orders ever taken."""

    def __init__(self, book: str, settings: PaperBroker, instruments: Mapping[str, Instrument]) -> None:
        self._book, self._settings, self._instruments = book, settings, instruments
        self._resting: dict[Key, dict[str, list[Order]]] = defaultdict(dict)
        self._replay = Replay(settings, {}, settings.cash, {}, self._resting)
        self.rows: dict[str, Row] = {}
        self.flat: dict[Key, Position] = {}  # without a quantity or an order
        self.actions: list[Row] = []  # the rows of ``paper.action``

    @property
    def positions(self) -> Mapping[Key, Position]:
        """Those with a quantity or a resting order."""
        return self._replay.positions

    @property
    def cash(self) -> Decimal:
        return self._replay.cash

    def account(self) -> Account:
        equity = free = self.cash
        for key, p in self._replay.positions.items():
            terms = self._instruments[key[0]]
            value = p.value(terms)
            equity += value
            free -= value if p.market == "spot" and p.qty > 0 else p.margin(terms)
        return Account(self._settings.currency, self.cash, equity, free + equity - self.cash)

    def stored(self) -> Stored:
        """Its rows as they are now, not copied."""
        account = {"book": self._book, "currency": self._settings.currency, "deposited": self._settings.cash}
        positions = [*self.flat.values(), *self._replay.positions.values()]
        return Stored(
            account | {"cash": self.cash},
            [dict(vars(p)) for p in positions],
            self.rows,
            self.actions,
        )

    def convert(self, key: Key, rate: Decimal) -> None:
        """A new rate of exchange for a position."""
        position = self._replay.positions[key]
        if position.fx != rate:
            self._replay.positions[key] = replace(position, fx=rate)

    def see(self, key: Key, close: Decimal, until: datetime) -> None:
        """The last close of a contract, on whose bars up to ``until`` no order does anything."""
        position = self._replay.positions[key]
        if position.seen_until < until:
            self._replay.positions[key] = replace(position, mark=close, seen_until=until)

    def reached(self, key: Key, low: Decimal, high: Decimal) -> bool:
        """True if an order may do something on a bar with these prices: one at market, or one that they reach."""
        for order in (o.rests for bracket in self._resting[key].values() for o in bracket):
            if order.leg in ("ENTRY", "EXIT") or order.triggered:
                return True
            below = (order.side == "SELL") == (order.leg == "STOP")
            for price in (order.price, order.was):
                if price is not None and (low <= price if below else high >= price):
                    return True
        return False

    def meet(self, key: Key, bar: Bar) -> None:
        self._replay.meet(key, bar)

    def book(self, event: Event) -> None:
        self._replay.book(event)

    def close_out(self, key: Key, how: Ended, at: datetime) -> Decimal | None:
        return self._replay.close_out(key, how, at)

    def take(self, key: Key, entry: Row, legs: list[Row], fx: Decimal) -> None:
        """Takes an entry with the legs that its fill activates."""
        before = self.flat.pop(key, None)
        since: datetime = entry["active_from"]
        if before is None:
            position = Position(self._book, *key, NOTHING, NOTHING, None, fx, since)
        else:
            position = replace(before, fx=fx, seen_until=max(before.seen_until, since))
        self._replay.watch(key, position, self._instruments[key[0]])
        bracket = entry["client_order_id"]
        resting = [self._rest(key, bracket, entry, "WORKING"), *(self._rest(key, bracket, leg, "HELD") for leg in legs)]
        self._resting[key][bracket] = resting

    def beside(self, key: Key, bracket: str, order: Row) -> None:
        """Takes a market exit, or an addition, beside the legs of its bracket."""
        self._resting[key][bracket].append(self._rest(key, bracket, order, "WORKING"))

    def replace(self, key: Key, bracket: str, old: str, new: Row) -> None:
        """A new price for a leg; the old one holds for bars that opened before."""
        orders = self._resting[key][bracket]
        number, order = next((n, o) for n, o in enumerate(orders) if o.rests.client_order_id == old)
        row = self.rows[old]
        row["state"] = "REPLACED"
        left, rests = order.qty - order.done, order.rests
        self.rows[new["client_order_id"]] = {
            **row, "client_order_id": new["client_order_id"], "qty": left, "price": new["price"], "was": rests.price,
            "state": rests.state, "active_from": new["active_from"],
        }  # fmt: skip
        orders.pop(number)
        ordered = Resting(
            new["client_order_id"], rests.leg, rests.side, new["price"], new["active_from"], rests.state, left,
            rests.price, rests.triggered,
        )  # fmt: skip
        orders.append(Order(left, ordered))

    def cancel(self, key: Key, bracket: str) -> None:
        """Cancels an entry that rests, with its legs."""
        for order in self._resting[key].pop(bracket):
            self.rows[order.rests.client_order_id]["state"] = "CANCELED"

    def drop(self, key: Key, bracket: str, order_id: str) -> None:
        """Cancels one order of a bracket."""
        orders = self._resting[key][bracket]
        self._resting[key][bracket] = [o for o in orders if o.rests.client_order_id != order_id]
        self.rows[order_id]["state"] = "CANCELED"

    def changes(self) -> Changes:
        """What has changed since the last call."""
        replay = self._replay
        found = Changes(replay.fills, replay.orders, replay.booked)
        self.actions += [
            {"book": self._book, **dict(zip(("symbol", "market", "contract"), b.event.key, strict=True))}
            | {"kind": b.event.kind, "ts": b.event.ts, "value": b.event.value}
            | {"before": b.before, "after": b.after, "cash": b.cash}
            for b in found.booked
        ]
        for order_id, change in found.orders.items():
            self.rows[order_id] |= change
        replay.fills, replay.orders, replay.booked = [], {}, []
        return found

    def ended(self, key: Key, bracket: str) -> None:
        """Forgets a bracket of which nothing rests and nothing is held, if it was ever taken."""
        self._resting[key].pop(bracket, None)
        if key in self._replay.positions and not self._resting[key] and not self._replay.positions[key].qty:
            self.flat[key] = self._replay.positions.pop(key)

    def _rest(self, key: Key, bracket: str, order: Row, state: str) -> Order:
        columns = ("client_order_id", "leg", "side", "qty", "price", "active_from")
        row = {name: order[name] for name in columns} | {"bracket": bracket, "state": state, "reason": None}
        row |= {"book": self._book, "was": None, "triggered": False}
        self.rows[order["client_order_id"]] = row | dict(zip(("symbol", "market", "contract"), key, strict=True))
        rests = Resting(
            order["client_order_id"], order["leg"], order["side"], order["price"], order["active_from"],
            "HELD" if state == "HELD" else "WORKING", order["qty"],
        )  # fmt: skip
        return Order(order["qty"], rests)
