"""One pass of the paper broker over new bars: what fills and cancels, and what that does to cash and positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, cast

import pandas as pd

from alphapivot.brokers.base import Key, Side
from alphapivot.brokers.fills import BPS, Bar, Canceled, Filled, Resting, step, to_tick

if TYPE_CHECKING:
    from alphapivot.settings import Instrument, PaperBroker

MICRO = Decimal("0.000001")  # money is kept to it, so that sums are exact


@dataclass(frozen=True)
class Position:
    """A signed quantity of one contract at its average price, and what is known of its market."""

    book: str
    symbol: str
    market: str
    contract: str
    qty: Decimal
    avg_price: Decimal
    mark: Decimal | None
    fx: Decimal
    seen_until: datetime

    def after(self, side: Side, qty: Decimal, price: Decimal) -> Position:
        """
        The position after a fill: a larger one averages its price, a smaller one keeps it, one turned round
        starts anew.
        """
        signed = qty if side == "BUY" else -qty
        total = self.qty + signed
        if self.qty * signed >= 0:
            average = (self.avg_price * abs(self.qty) + price * qty) / (abs(self.qty) + qty)
        elif self.qty * total > 0:
            average = self.avg_price
        else:
            average = price if total else Decimal(0)
        return replace(self, qty=total, avg_price=average)

    def realised(self, side: Side, qty: Decimal, price: Decimal) -> Decimal:
        """Price change times the quantity that this fill closes; zero where it opens."""
        signed = qty if side == "BUY" else -qty
        if self.qty * signed >= 0:
            return Decimal(0)
        closed = min(qty, abs(self.qty))
        return (price - self.avg_price) * (closed if self.qty > 0 else -closed)


@dataclass(frozen=True)
class Order:
    qty: Decimal
    rests: Resting


class Replay:
    """One pass over new bars: what fills and cancels, and what that does to cash and positions."""

    def __init__(
        self,
        settings: PaperBroker,
        terms: Mapping[Key, Instrument],
        cash: Decimal,
        positions: dict[Key, Position],
        resting: Mapping[Key, dict[str, list[Order]]],
    ) -> None:
        self._settings, self._terms, self.cash, self.positions, self._resting = (
            settings,
            terms,
            cash,
            positions,
            resting,
        )
        self.fills: list[dict[str, Any]] = []
        self.states: dict[str, tuple[Literal["WORKING", "FILLED", "CANCELED"], str | None]] = {}

    def bar(self, key: Key, row: Any) -> None:
        tick = self._terms[key].tick
        o, h, low, close = (
            None if pd.isna(p) else to_tick(Decimal(repr(p)), tick) for p in (row.open, row.high, row.low, row.close)
        )
        volume = None if pd.isna(row.volume) else Decimal(repr(row.volume))
        bar = Bar(row.start, row.ts, o, h, low, cast("Decimal", close), volume)
        brackets = self._resting.get(key, {})
        for bracket, orders in list(brackets.items()):
            brackets[bracket] = self._bracket(key, orders, bar, tick)
        self.positions[key] = replace(self.positions[key], mark=bar.close, seen_until=bar.ts)

    def _bracket(self, key: Key, orders: list[Order], bar: Bar, tick: Decimal) -> list[Order]:
        """What remains of a bracket after the bar."""
        qty = {o.rests.client_order_id: o.qty for o in orders}
        gone: set[str] = set()
        entered = False
        for event in step([o.rests for o in orders], bar, tick=tick, slippage_bps=self._settings.slippage_bps):
            order = event.order
            gone.add(order.client_order_id)
            if isinstance(event, Canceled):
                self.states[order.client_order_id] = "CANCELED", event.reason
            elif self._fill(key, order, qty[order.client_order_id], event, bar.ts):
                entered = entered or order.leg == "ENTRY"
            else:
                for o in orders:
                    self.states[o.rests.client_order_id] = "CANCELED", "insufficient_cash"
                return []
        left = [o for o in orders if o.rests.client_order_id not in gone]
        if not entered:
            return left
        for o in left:
            self.states[o.rests.client_order_id] = "WORKING", None
        return [Order(o.qty, replace(o.rests, state="WORKING")) for o in left]

    def _fill(self, key: Key, order: Resting, qty: Decimal, event: Filled, ts: datetime) -> bool:
        """Books a fill; False where a spot entry costs more than the cash there is."""
        terms, position = self._terms[key], self.positions[key]
        unit = terms.multiplier * terms.quote_unit * position.fx
        fee = (abs(qty * event.price) * unit * self._settings.fee_bps / BPS).quantize(MICRO)
        if position.market == "futures":
            cash = (position.realised(order.side, qty, event.price) * unit).quantize(MICRO)
        else:
            cash = (event.price * (-qty if order.side == "BUY" else qty) * unit).quantize(MICRO)
            if order.leg == "ENTRY" and order.side == "BUY" and self.cash + cash - fee < 0:
                return False
        self.cash += cash - fee
        self.positions[key] = position.after(order.side, qty, event.price)
        self.states[order.client_order_id] = "FILLED", None
        self.fills.append(
            {
                "client_order_id": order.client_order_id,
                "ts": ts,
                "qty": qty,
                "price": event.price,
                "fee": fee,
                "cash": cash,
            }
        )
        return True
