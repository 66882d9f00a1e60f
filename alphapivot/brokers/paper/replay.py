"""One pass of the paper broker over new bars: fills, cancels, cash and positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any, Literal, cast

import pandas as pd

from alphapivot.brokers.base import Booked, Ended, Event, Key, Side
from alphapivot.brokers.events import after, whole
from alphapivot.brokers.fills import BPS, Bar, Canceled, Filled, Resting, slipped, step
from alphapivot.money import to_tick

if TYPE_CHECKING:
    from alphapivot.config.sections.brokers import PaperBroker
    from alphapivot.config.sections.instrument import Instrument

MICRO = Decimal("0.000001")  # money is rounded to this, so that sums are exact


def on_tick(price: float, tick: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal | None:
    """A bar's price on the tick, without the noise of floats; None if it is missing."""
    return None if pd.isna(price) else to_tick(to_tick(Decimal(repr(price)), tick * MICRO), tick, rounding)


@dataclass(frozen=True)
class Position:
    """A signed quantity of one contract at its average price, with the last price and fx rate."""

    book: str
    symbol: str
    market: str
    contract: str
    qty: Decimal
    avg_price: Decimal
    mark: Decimal | None
    fx: Decimal
    seen_until: datetime

    def unit(self, terms: Instrument) -> Decimal:
        """Account currency per one quoted unit of price and one unit of quantity."""
        return terms.multiplier * terms.quote_unit * self.fx

    def unrealised(self, terms: Instrument) -> Decimal:
        mark = self.avg_price if self.mark is None else self.mark
        return (self.qty * (mark - self.avg_price) * self.unit(terms)).quantize(MICRO)

    def value(self, terms: Instrument) -> Decimal:
        """Its part of equity besides cash: for futures the open profit, for spot the market value."""
        if self.market == "futures":
            return self.unrealised(terms)
        mark = self.avg_price if self.mark is None else self.mark
        return (self.qty * mark * self.unit(terms)).quantize(MICRO)

    def margin(self, terms: Instrument) -> Decimal:
        """Initial margin at the last price; a long spot position is paid in full and needs none."""
        if self.market == "spot" and self.qty > 0:
            return Decimal(0)
        mark = self.avg_price if self.mark is None else self.mark
        return (abs(self.qty) * terms.worth(mark) * self.unit(terms) * terms.margin).quantize(MICRO)

    def after(self, side: Side, qty: Decimal, price: Decimal) -> Position:
        """
        The position after a fill: an increase averages the price, a decrease keeps it, a reversal starts at the fill's
        price.
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
        """Price change times the quantity that this fill closes; zero if it opens."""
        signed = qty if side == "BUY" else -qty
        if self.qty * signed >= 0:
            return Decimal(0)
        closed = min(qty, abs(self.qty))
        return (price - self.avg_price) * (closed if self.qty > 0 else -closed)


@dataclass(frozen=True)
class Order:
    """``qty``: total quantity, of a leg as far as its entry has filled; ``done``: filled quantity."""

    qty: Decimal
    rests: Resting
    done: Decimal = Decimal(0)

    @property
    def left(self) -> Resting:
        """The resting order with the remaining quantity."""
        return replace(self.rests, qty=self.qty - self.done)


class Replay:
    """Collects the fills and the changes of orders, cash and positions of one pass over new bars."""

    def __init__(
        self,
        settings: PaperBroker,
        terms: Mapping[Key, Instrument],
        cash: Decimal,
        positions: dict[Key, Position],
        resting: Mapping[Key, dict[str, list[Order]]],
    ) -> None:
        self._settings, self._resting = settings, resting
        self._dated, self._terms = dict(terms), {key: i.during(positions[key].seen_until) for key, i in terms.items()}
        self.cash, self.positions = cash, positions
        self.fills: list[dict[str, Any]] = []
        self.orders: dict[str, dict[str, Any]] = {}  # changed orders: state, reason, qty, price, was, triggered
        self.booked: list[Booked] = []

    def watch(self, key: Key, position: Position, terms: Instrument) -> None:
        """A position in a contract that this pass did not know."""
        self.positions[key], self._dated[key] = position, terms
        self._terms[key] = terms.during(position.seen_until)

    def bar(self, key: Key, row: Any) -> None:
        """Applies a bar of frame Bars with its ``start``."""
        tick = self._dated[key].during(row.ts).tick
        # inwards: an order is reached where prices went, not where rounding takes them
        high, low = on_tick(row.high, tick, ROUND_FLOOR), on_tick(row.low, tick, ROUND_CEILING)
        opened, close = on_tick(row.open, tick), cast("Decimal", on_tick(row.close, tick))
        volume = None if pd.isna(row.volume) else Decimal(repr(row.volume))
        self.meet(key, Bar(start=row.start, ts=row.ts, open=opened, high=high, low=low, close=close, volume=volume))

    def meet(self, key: Key, bar: Bar) -> None:
        """Applies a bar to the orders that rest in its contract, and values the position at its close."""
        self._terms[key] = terms = self._dated[key].during(bar.ts)
        share, room = self._settings.max_volume_share, None
        if share is not None and bar.volume is not None:
            room = to_tick(share * bar.volume, terms.of(key[2], bar.ts).lot, ROUND_FLOOR)
        brackets = self._resting.get(key, {})
        for bracket, orders in list(brackets.items()):
            brackets[bracket] = self._bracket(key, orders, bar, terms.tick, room)
        self.positions[key] = replace(self.positions[key], mark=bar.close, seen_until=bar.ts)

    def has_exit(self, key: Key) -> bool:
        """True if an exit is resting in this contract."""
        return any(o.rests.leg == "EXIT" for orders in self._resting.get(key, {}).values() for o in orders)

    def book(self, event: Event) -> None:
        """
        Rule 10: a split converts quantity, entry, stop and target and pays out fractions; a dividend is cash, and so is
        a distribution, which also moves stop and target.
        """
        held, terms = self.positions[event.key], self._dated[event.key].during(event.ts)
        unit, qty, paid = held.unit(terms), held.qty, held.qty * event.value
        if event.kind == "split":
            qty, fraction = whole(held.qty, event.value, terms.lot)
            mark = None if held.mark is None else held.mark / event.value
            average = held.avg_price / event.value if qty else Decimal(0)
            paid = fraction * (held.avg_price / event.value if mark is None else mark)
            self.positions[event.key] = replace(held, qty=qty, avg_price=average, mark=mark)
        if event.kind != "dividend":
            brackets = self._resting.get(event.key, {})
            for bracket, orders in list(brackets.items()):
                brackets[bracket] = [new for o in orders if (new := self._adjusted(o, event, terms)) is not None]
        if held.qty:
            cash = (paid * unit).quantize(MICRO)
            self.cash += cash
            self.booked.append(Booked(event, held.qty, qty, cash))

    def _adjusted(self, order: Order, event: Event, terms: Instrument) -> Order | None:
        """The order after a split or distribution; None if it is cancelled, as an entry is: it was sized before."""
        rests = order.rests
        if rests.leg == "ENTRY" or rests.state == "HELD":
            self._note(order, "CANCELED", event.kind)
            return None
        left = order.qty - order.done
        if event.kind == "split":
            left, _ = whole(left, event.value, terms.lot)
        if not left:
            self._note(order, "CANCELED", event.kind)
            return None
        price, was = (
            None if p is None else after(event, rests.leg, rests.side, p, terms.tick) for p in (rests.price, rests.was)
        )
        converted = replace(order, qty=order.done + left, rests=replace(rests, price=price, was=was))
        self._note(converted, "WORKING", None)
        return converted

    def close_out(self, key: Key, how: Ended, at: datetime, price: Decimal | None = None) -> Decimal | None:
        """
        Rule 11: closes the position of a market that has ended by its exit or else by its stop, and cancels what else
        rests there. ``price``: None for its last one. Returns the price; None if nothing was open.
        """
        held, terms = self.positions[key], self._terms[key]
        if price is None:
            price = held.avg_price if held.mark is None else held.mark
        if how == "delisted" and held.qty > 0:
            price = slipped(price, "SELL", self._settings.delisting_haircut * BPS, terms.tick)
        for bracket, orders in list(self._resting.get(key, {}).items()):
            leg = {o.rests.leg: o for o in orders if o.rests.state == "WORKING"}
            stop, out = leg.get("STOP"), leg.get("EXIT")
            order = out if out is not None and stop is not None and out.left.qty == stop.left.qty else stop
            if order is not None and held.qty:
                self._fill(key, order.left, Filled(order.left, price, order.left.qty), at)
                self._note(replace(order, done=order.qty), "FILLED", None if order is out else how)
            for other in orders:
                if other is not order:
                    self._note(other, "CANCELED", how)
            self._resting[key][bracket] = []
        return price if self.positions[key].qty != held.qty else None

    def settle(self) -> None:
        """
        Rule 9, after all bars of an instant: while equity is below the maintenance margin of the positions that are not
        exiting, the largest loser's stop is triggered and fills at its contract's next open.
        """
        if self._settings.maintenance_margin is None:
            return
        held = {key: p for key, p in self.positions.items() if p.qty and p.mark is not None}
        stops = {
            key: [o for b in self._resting.get(key, {}).values() for o in b if o.rests.leg == "STOP"] for key in held
        }
        needed = {k: p.margin(self._terms[k]) * self._settings.maintenance_margin for k, p in held.items()}
        staying = [key for key in held if not any(o.rests.triggered for o in stops[key])]
        staying.sort(key=lambda key: held[key].unrealised(self._terms[key]))
        equity = self.equity()
        while staying and equity < sum(needed[key] for key in staying):
            key = staying.pop(0)
            for bracket, orders in self._resting.get(key, {}).items():
                self._resting[key][bracket] = [self._margin_call(o) if o.rests.leg == "STOP" else o for o in orders]

    def equity(self) -> Decimal:
        return self.cash + sum((p.value(self._terms[key]) for key, p in self.positions.items()), Decimal(0))

    def _margin_call(self, order: Order) -> Order:
        if order.rests.state != "WORKING":
            return order
        called = replace(order, rests=replace(order.rests, triggered=True))
        self._note(called, "WORKING", "margin_call")
        return called

    def _bracket(self, key: Key, orders: list[Order], bar: Bar, tick: Decimal, room: Decimal | None) -> list[Order]:
        """Applies the bar to a bracket; returns the orders that remain."""
        settings = self._settings
        now = {o.rests.client_order_id: o for o in orders}
        for event in step(
            [o.left for o in orders],
            bar,
            tick=tick,
            slippage_bps=settings.slippage_bps,
            strict=settings.strict_targets,
            room=room,
            worth=self._terms[key].worth(bar.close) if self._terms[key].legs else None,
        ):
            name = event.order.client_order_id
            if isinstance(event, Canceled):
                self._note(now.pop(name), "CANCELED", event.reason)
                continue
            rejection = self._fill(key, event.order, event, bar.ts)
            if rejection is not None:
                for o in now.values():
                    if o.rests.leg == "ENTRY" or o.rests.state == "HELD":
                        self._note(o, "CANCELED", rejection)
                rest = [o for o in now.values() if o.rests.leg != "ENTRY" and o.rests.state != "HELD"]
                return self._bracket(key, rest, bar, tick, room)  # what is open lives through the bar without it
            filled = now[name] = replace(now[name], done=now[name].done + event.qty)
            for other in [o for o in now.values() if o.rests.leg != "ENTRY" and o is not filled]:
                now[other.rests.client_order_id] = self._resized(other, event)
            if filled.done == filled.qty:
                self._note(now.pop(name), "FILLED", None)
            else:
                triggered = filled.rests.leg == "STOP"  # the rest of a stop exits at market
                now[name] = replace(filled, rests=replace(filled.rests, triggered=triggered))
                self._note(now[name], "WORKING", None)
        return list(now.values())

    def _resized(self, other: Order, event: Filled) -> Order:
        """A leg after its entry or its sibling filled, resized to the position."""
        if event.order.leg == "ENTRY":
            before = Decimal(0) if other.rests.state == "HELD" else other.qty
            resized = replace(other, qty=before + event.qty, rests=replace(other.rests, state="WORKING"))
        else:
            resized = replace(other, qty=other.qty - event.qty)
        if resized.qty <= resized.done:
            return other  # nothing left to protect: it is cancelled next
        self._note(resized, "WORKING", None)
        return resized

    def _note(self, order: Order, state: Literal["WORKING", "FILLED", "CANCELED"], reason: str | None) -> None:
        rests = order.rests
        earlier_reason = self.orders.get(rests.client_order_id, {}).get("reason")
        self.orders[rests.client_order_id] = {
            "state": state,
            "reason": reason or earlier_reason,
            "qty": order.qty,
            "price": rests.price,
            "was": rests.was,
            "triggered": rests.triggered,
        }

    def _fill(self, key: Key, order: Resting, event: Filled, ts: datetime) -> str | None:
        """Books a fill and returns None, or returns the reason code if an entry cannot be paid for."""
        terms, position, settings = self._terms[key], self.positions[key], self._settings
        unit = position.unit(terms)
        bps, each = settings.fee(terms, order.side, terms.session_of(ts))
        fee = event.qty * terms.worth(event.price) * unit * bps / BPS + event.qty * each * position.fx
        if position.market == "futures":
            cash = (position.realised(order.side, event.qty, event.price) * unit).quantize(MICRO)
        else:
            cash = (event.price * (-event.qty if order.side == "BUY" else event.qty) * unit).quantize(MICRO)
        fee = fee.quantize(MICRO)
        after = position.after(order.side, event.qty, event.price)
        if order.leg == "ENTRY" and position.market == "spot" and order.side == "BUY" and self.cash + cash - fee < 0:
            return "insufficient_cash"
        if order.leg == "ENTRY" and settings.maintenance_margin is not None:
            other_margin = sum((p.margin(self._terms[k]) for k, p in self.positions.items() if k != key), Decimal(0))
            if other_margin + after.margin(terms) > self.equity() - fee:
                return "insufficient_margin"
        self.cash += cash - fee
        self.positions[key] = after
        self.fills.append(
            {
                "client_order_id": order.client_order_id,
                "ts": ts,
                "qty": event.qty,
                "price": event.price,
                "fee": fee,
                "cash": cash,
            }
        )
        return None
