"""
Our own broker with few capabilities: no unique ids (a tag is for look-up only), no brackets, no OCO, no reduce-only and
no atomic replace. Its state is a file, so that it outlives a killed client; prices drive it.
"""

from __future__ import annotations

import fcntl
import pickle
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Account,
    BrokerFill,
    BrokerOrder,
    Caps,
    Duplicate,
    Hours,
    OrderSpec,
    Rejected,
)

FINAL = ("FILLED", "CANCELED", "REPLACED", "REJECTED", "EXPIRED")
POOR = Caps(idempotent_submit=False, id_max_len=20, native_bracket=False)
UNIQUE = replace(POOR, idempotent_submit=True)  # the same, but it recognises a repeated id
ABLE = replace(UNIQUE, atomic_replace=True, adds=True)  # and resizes a stop in one step, with entries beside it


@dataclass
class Memory:
    now: datetime
    cash: Decimal = Decimal(100_000)
    open: bool = True
    prices: dict = field(default_factory=dict)
    orders: list = field(default_factory=list)  # (BrokerOrder, kind)
    fills: list = field(default_factory=list)
    by_hand: dict = field(default_factory=dict)  # positions changed manually


class Fake:
    """The Broker port over a file; ``move`` moves its market."""

    def __init__(self, file: Path, now: datetime | None = None, caps: Caps = POOR, number: str | None = None) -> None:
        self.file, self.caps, self.number = file, caps, number
        if now is not None:
            self._write(Memory(now))

    # the port

    def account(self):
        m = self._read()
        worth = sum((q * m.prices.get(k, Decimal(0)) for k, q in self.positions().items()), Decimal(0))
        return Account("EUR", m.cash, m.cash + worth, m.cash, m.now, self.number)

    def positions(self):
        m = self._read()
        held = dict(m.by_hand)
        sides = {o.broker_order_id: o for o, _ in m.orders}
        for fill in m.fills:
            order = sides[fill.broker_order_id]
            held[order.key] = held.get(order.key, Decimal(0)) + (fill.qty if order.side == "BUY" else -fill.qty)
        return {key: qty for key, qty in held.items() if qty}

    def open_orders(self):
        return [o for o, _ in self._read().orders if o.state not in FINAL]

    def find(self, refs, since):
        orders = {o.client_order_id: o for o, _ in self._read().orders}
        return {r.client_order_id: orders.get(r.client_order_id, Absent()) for r in refs}

    def fills(self, since):
        return [f for f in self._read().fills if f.ts >= since]

    def cash_flows(self, since):
        return None

    def submit(self, spec: OrderSpec):
        with self._change() as m:
            if self.caps.idempotent_submit and any(o.client_order_id == spec.client_order_id for o, _ in m.orders):
                return Duplicate()
            price = m.prices.get(spec.key)
            closed = not (m.open or (spec.kind == "STOP" and self.caps.stop_outside_hours))
            if spec.attached or closed:
                return Rejected("no brackets here" if spec.attached else "the market is closed")
            if spec.kind == "STOP" and price is not None and _reached(spec.kind, spec.side, spec.price, price):
                return Rejected("the stop would trigger now")
            theirs = f"F{len(m.orders) + 1}"
            order = BrokerOrder(
                spec.client_order_id, theirs, "NEW", Decimal(0), None, None, spec.qty, spec.key, spec.side, spec.price
            )
            m.orders.append((order, spec.kind))
            return Accepted({spec.client_order_id: theirs})

    def replace(self, ref, spec):
        if not self.caps.atomic_replace:
            return Rejected("no replacing here")
        with self._change() as m:
            if any(o.client_order_id == spec.client_order_id for o, _ in m.orders):
                return Duplicate()
            if _reached(spec.kind, spec.side, spec.price, m.prices[spec.key]):
                return Rejected("it would trigger now")
            for n, (order, kind) in enumerate(m.orders):
                if order.client_order_id == ref.client_order_id and order.state not in FINAL:
                    theirs = f"F{len(m.orders) + 1}"
                    m.orders[n] = (replace(order, state="REPLACED", replaced_by=theirs), kind)
                    new = replace(order, client_order_id=spec.client_order_id, broker_order_id=theirs, state="NEW")
                    left = replace(new, qty=spec.qty - order.cum_qty, cum_qty=Decimal(0), price=spec.price)
                    m.orders.append((left, kind))
                    return Accepted({spec.client_order_id: theirs})
            return Rejected(f"order {ref.client_order_id} is not working")

    def cancel(self, ref):
        with self._change() as m:
            for n, (order, kind) in enumerate(m.orders):
                same = ref.broker_order_id in (None, order.broker_order_id)
                if same and order.client_order_id == ref.client_order_id and order.state not in FINAL:
                    m.orders[n] = (replace(order, state="CANCELED"), kind)

    def session(self, key):
        m = self._read()
        return Hours(m.open, None if m.open else m.now + timedelta(hours=1))

    # the market

    def move(self, key, price, *, at=None, most=None):
        """Trades at ``price``: the orders that it reaches fill there, at most ``most`` of each at once."""
        with self._change() as m:
            m.now = at or m.now
            m.prices[key] = price = Decimal(price)
            for n, (order, kind) in enumerate(m.orders):
                if order.key != key or order.state in FINAL or not _reached(kind, order.side, order.price, price):
                    continue
                qty = order.qty - order.cum_qty if most is None else min(order.qty - order.cum_qty, Decimal(most))
                cum = order.cum_qty + qty
                state = "FILLED" if cum == order.qty else "PARTIALLY_FILLED"
                cash = -qty * price if order.side == "BUY" else qty * price
                m.cash += cash
                m.orders[n] = (replace(order, state=state, cum_qty=cum, avg_price=price), kind)
                number, mine = f"X{len(m.fills) + 1}", order.client_order_id
                m.fills.append(BrokerFill(number, mine, qty, price, Decimal(0), cash, m.now, order.broker_order_id))

    def set(self, **changes):
        with self._change() as m:
            for name, value in changes.items():
                setattr(m, name, value)

    def end(self, leg_ids, state="EXPIRED"):
        """The broker ends orders by itself."""
        with self._change() as m:
            m.orders = [
                (replace(o, state=state) if o.client_order_id in leg_ids and o.state not in FINAL else o, k)
                for o, k in m.orders
            ]

    # the state

    def _read(self) -> Memory:
        return pickle.loads(self.file.read_bytes())  # noqa: S301 - our own file

    def _write(self, memory: Memory) -> None:
        new = self.file.with_suffix(".new")
        new.write_bytes(pickle.dumps(memory))
        new.replace(self.file)

    @contextmanager
    def _change(self):
        with self.file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            memory = self._read()
            yield memory
            self._write(memory)


def _reached(kind, side, price, now):
    if kind == "MARKET":
        return True
    return now >= price if (kind == "STOP") == (side == "BUY") else now <= price
