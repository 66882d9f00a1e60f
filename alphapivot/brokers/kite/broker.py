"""
Zerodha behind the Broker port, through Kite Connect: shares for delivery (CNC), futures carried over (NRML).

Orders are orders of the day. So a stop is an order at the exchange while its market is open, and a trigger at Zerodha
(GTT) overnight; ``BrokerOrder.renew`` says when one is to take the place of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Account,
    Answer,
    BrokerFill,
    BrokerOrder,
    Caps,
    CashFlow,
    Hours,
    Key,
    NotSent,
    OrderSpec,
    Ref,
    Rejected,
    Unknown,
    Unreadable,
)
from alphapivot.brokers.kite import money, rows, triggers
from alphapivot.brokers.kite.changing import Changer
from alphapivot.brokers.kite.rows import Row
from alphapivot.brokers.kite.sending import Sender
from alphapivot.errors import Unavailable
from alphapivot.venues.kite import instruments
from alphapivot.venues.kite.login import INDIA

if TYPE_CHECKING:
    from alphapivot.brokers.kite.ledger import Ledger
    from alphapivot.brokers.kite.names import Names
    from alphapivot.brokers.kite.wire import Wire
    from alphapivot.config.sections.brokers import KiteBroker
    from alphapivot.venues.kite.tickers import Ticker


class Kite:
    """The Broker port over one account."""

    caps = Caps(
        idempotent_submit=False,  # a tag is for looking up, and need not be unique
        id_max_len=20,
        native_bracket=False,  # Zerodha has none since 2020
        atomic_replace=True,
        amends=True,  # both ids stay
        reduce_only=False,
        queues_for_open=False,
        stop_survives_session=True,  # as a trigger
        stop_outside_hours=True,
    )

    def __init__(self, section: KiteBroker, names: Names, wire: Wire, ledger: Ledger) -> None:
        self._section, self._names, self._wire, self._ledger = section, names, wire, ledger
        self._sender, self._changer = Sender(section, names, wire), Changer(section, names, wire)

    @property
    def symbols(self) -> list[str]:
        return list(self._names.instruments)

    def ticker(self, symbol: str) -> Ticker:
        """Its share, or the underlying of its futures, as Kite names it."""
        return self._names.ticker(symbol)

    def listed(self, exchange: str) -> list[instruments.Listed]:
        """Today's list of an exchange; it is asked for once a day."""
        return self._wire.read(lambda kite: instruments.listed(kite, exchange, datetime.now(UTC)), "instruments")

    def account(self) -> Account:
        margins = self._wire.read(lambda kite: kite.margins(), "margins")
        number = f"Zerodha {self._wire.user}"
        exchanges = {self.ticker(symbol).exchange for symbol in self.symbols} or {"NSE"}
        positions, holdings = self._positions(), self._holdings()
        return money.account(margins, positions, holdings, self._wire.at, number, exchanges=exchanges)

    def misfits(self) -> list[str]:
        """Values of a point that the config contradicts."""
        lines = [money.misfit(row, self._names.instruments.get(self._key(row)[0])) for row in self._positions()]
        return [line for line in lines if line]

    def positions(self) -> dict[Key, Decimal]:
        """
        Shares of earlier days are holdings, today's trades in them are positions, negative where holdings were sold;
        futures are positions.
        """
        held: dict[Key, Decimal] = {}
        for row, name in [(r, "opening_quantity") for r in self._holdings()] + [
            (r, "quantity") for r in self._positions()
        ]:
            key = self._key(row)
            held[key] = held.get(key, Decimal(0)) + _quantity(row, name)
        return {key: qty for key, qty in held.items() if qty}

    def open_orders(self) -> Sequence[BrokerOrder | Unreadable]:
        listed, owners = self._triggers(), self._ledger.triggers()
        book = self._orders()
        sent = {triggers.child(row) for row in listed}
        stops: dict[str, list[Row]] = {}
        for row in listed:
            stops.setdefault(owners.get(int(row["id"]), triggers.name([int(row["id"])])), []).append(row)
        groups: dict[str, list[Row]] = {}
        for order_id, row in book.items():
            if order_id not in sent:
                groups.setdefault(rows.tag(row) or order_id, []).append(row)
        found = [self._trigger_order(parts, book, "") for parts in stops.values()]
        found += [self._order(parts, rows.tag(parts[0])) for parts in groups.values()]
        return [o for o in found if isinstance(o, Unreadable) or o.state not in rows.FINAL]

    def find(self, refs: Sequence[Ref], since: datetime) -> Mapping[str, BrokerOrder | Absent | Unreadable]:
        """
        From the day's orders, by tag, and from the triggers. An order of an earlier day that is in no list has ended
        with its day: what it filled after the last look is in the positions, and nowhere else.
        """
        if not refs:
            return {}
        sent = self._ledger.sent([ref.client_order_id for ref in refs])
        listed = {int(row["id"]): row for row in self._triggers()} if any(_may_trigger(ref) for ref in refs) else {}
        book = self._orders()  # after the triggers, so that what one has sent is in it
        tags: dict[str, list[Row]] = {}
        for row in book.values():
            tags.setdefault(rows.tag(row), []).append(row)
        taken = {number for ref in refs for number in triggers.ids(ref.broker_order_id)}
        found: dict[str, BrokerOrder | Absent | Unreadable] = {}
        for ref in refs:
            name = ref.client_order_id
            if numbers := triggers.ids(ref.broker_order_id):
                stop = [listed.get(number) or self._trigger(number) for number in numbers]
                found[name] = self._seen(ref, self._trigger_order(stop, book, name), stop)
            elif parts := tags.get(name) or [r for r in (book.get(ref.broker_order_id or ""),) if r]:
                found[name] = self._seen(ref, self._order(parts, name))
            elif stop := self._matching(ref, sent, listed, taken, since):
                taken |= {int(row["id"]) for row in stop}
                found[name] = self._seen(ref, self._trigger_order(stop, book, name), stop)
            else:
                found[name] = self._gone(ref, sent[name].at if name in sent else since)
        return found

    def _seen(self, ref: Ref, order: BrokerOrder | Unreadable, stop: Sequence[Row] = ()) -> BrokerOrder | Unreadable:
        """An order with the reason to place it again, if there is one."""
        if isinstance(order, Unreadable) or order.state not in ("NEW", "PARTIALLY_FILLED"):
            return order
        if ref.leg not in ("STOP", "EXIT"):
            return replace(order, renew=None)
        if order.renew is not None or ref.leg == "EXIT" or order.key is None:
            return order
        night = self._names.overnight(order.key, self._wire.now, self._section.overnight)
        if stop and not night and all(row["status"] == "active" for row in stop):
            return replace(order, renew="its market is open: an order at the exchange takes the trigger's place")
        if not stop and night:
            return replace(order, renew="it ends with the day: a trigger takes its place overnight")
        return order

    def _gone(self, ref: Ref, at: datetime) -> BrokerOrder | Absent | Unreadable:
        """What is in no list: of an earlier day it has ended; of today it never came, if it had no id."""
        if _day(at) < _day(self._wire.now):
            told = "Kite: ended with its day"
            return BrokerOrder(ref.client_order_id, ref.broker_order_id or "", "EXPIRED", Decimal(0), None, told)
        if ref.broker_order_id:
            told = f"order {ref.client_order_id}: Kite has given it the id {ref.broker_order_id} and lists it no more"
            return Unreadable(told, ref.broker_order_id)
        return Absent()

    def _matching(
        self, ref: Ref, sent: Mapping[str, Any], listed: Mapping[int, Row], taken: Iterable[int], since: datetime
    ) -> list[Row]:
        """The triggers of a stop whose answer was lost."""
        known = sent.get(ref.client_order_id)
        if ref.leg != "STOP" or ref.broker_order_id or known is None or known.price is None:
            return []
        free = [row for number, row in listed.items() if number not in taken and number not in self._ledger.triggers()]
        return triggers.matching(free, self._names.listing(known.key), known.side, known.price, since)

    def fills(self, since: datetime) -> Sequence[BrokerFill | Unreadable]:
        """Today's: Kite forgets its trades overnight."""
        trades = self._wire.read(lambda kite: kite.trades(), "trades")
        if not trades:
            return []
        book = self._orders()
        first: dict[str, str] = {}
        for number, row in book.items():
            first.setdefault(rows.tag(row) or number, number)
        owners: dict[str, str] = {}
        if any(not rows.tag(book.get(str(t.get("order_id")), {})) for t in trades):
            parts = self._ledger.triggers()
            owners = {
                triggers.child(r): parts.get(int(r["id"]), triggers.name([int(r["id"])])) for r in self._triggers()
            }
        told = []
        for trade in trades:
            number = str(trade.get("order_id"))
            ours = rows.tag(book.get(number, {}))
            key = self._key(trade)
            order_id = owners.get(number) or first.get(ours, number)
            fill = rows.fill(trade, ours, order_id, key, self._value(key))
            told.append(money.charged(fill, self._section, self._names.instruments.get(key[0])))
        kept = [f for f in told if isinstance(f, Unreadable) or f.ts >= since.replace(microsecond=0)]
        return sorted(kept, key=lambda f: f.ts if isinstance(f, BrokerFill) else since)

    def cash_flows(self, since: date) -> list[CashFlow] | None:  # noqa: ARG002 - the API has no movements of cash
        return None

    def session(self, key: Key) -> Hours:
        """By the instrument's hours in the config: Kite has no clock of its markets."""
        is_open, _, opens = self._names.hours(key, self._wire.now)
        return Hours(is_open, opens)

    def submit(self, spec: OrderSpec) -> Answer:
        if spec.attached:
            return Rejected("there are no brackets at Zerodha")
        if spec.leg == "ENTRY" and spec.side == "SELL" and spec.market == "spot":
            return Rejected("shares cannot be sold short for delivery at Zerodha: set [execution] allow_shorts = no")
        if spec.kind != "STOP":
            return self._sender.order(spec)
        try:
            return self._sender.stop(spec, self._last(self._names.listing(spec.key)))
        except Unavailable as error:
            return NotSent(str(error))

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:
        try:
            parts = self._parts(ref)
            if not parts:
                return Rejected(f"Kite: order {ref.broker_order_id} no longer works")
            last = self._last(self._names.listing(spec.key))
            reply = self._changer.change(spec, parts, last)
            if reply is None and not self._changer.has(spec, self._parts(ref)):
                reply = Unknown("Kite has received a change and does not show it yet")
        except Unavailable as error:
            return Unknown(str(error))
        return reply or Accepted({spec.client_order_id: ref.broker_order_id or ""})

    def _parts(self, ref: Ref) -> list[Row]:
        """What an order of ours consists of, as far as it works."""
        if numbers := triggers.ids(ref.broker_order_id):
            return [row for row in map(self._trigger, numbers) if row["status"] == "active"]
        found = [r for i, r in self._orders().items() if i == ref.broker_order_id or rows.tag(r) == ref.client_order_id]
        return [row for row in found if rows.STATES.get(str(row.get("status"))) not in rows.FINAL]

    def cancel(self, ref: Ref) -> None:
        resting = {ref.broker_order_id}
        for number in triggers.ids(ref.broker_order_id):
            trigger = self._trigger(number)
            if trigger["status"] == "active":
                self._wire.cancel(partial(_delete, number=number), ref.client_order_id)
            else:
                resting.add(triggers.child(trigger) or None)
        for order_id, row in self._orders().items():
            mine = order_id in resting or rows.tag(row) == ref.client_order_id != ""
            if mine and rows.STATES.get(str(row.get("status"))) not in rows.FINAL:
                self._wire.cancel(
                    partial(_cancel, variety=str(row.get("variety")), order_id=order_id), ref.client_order_id
                )

    def _order(self, parts: Sequence[Row], name: str) -> BrokerOrder | Unreadable:
        key = self._key(parts[0])
        return rows.order(parts, name, key, self._wire.now, self._section.chase)

    def _trigger_order(self, parts: Sequence[Row], book: Mapping[str, Row], name: str) -> BrokerOrder | Unreadable:
        key = self._key(parts[0].get("condition") or {})
        return triggers.order(parts, book, name, key, self._wire.now, self._section.chase)

    def _orders(self) -> dict[str, Row]:
        """The day's orders by id, oldest first."""
        listed = self._wire.read(lambda kite: kite.orders() or [], "orders")
        return {str(row["order_id"]): row for row in sorted(listed, key=lambda row: str(row.get("order_timestamp")))}

    def _triggers(self) -> list[Row]:
        return self._wire.read(lambda kite: kite.get_gtts() or [], "triggers")

    def _trigger(self, number: int) -> Row:
        return self._wire.read(lambda kite: kite.get_gtt(number), f"trigger {number}")

    def _positions(self) -> list[Row]:
        return self._wire.read(lambda kite: kite.positions()["net"] or [], "positions")

    def _holdings(self) -> list[Row]:
        return self._wire.read(lambda kite: kite.holdings() or [], "holdings")

    def _last(self, listing: Ticker) -> Decimal | None:
        """The last price of what is held; None of anything else."""
        for rows_of in (self._positions, self._holdings):
            for row in rows_of():
                if row["tradingsymbol"] == listing.symbol and row.get("last_price"):
                    return rows.number(row["last_price"])
        return None

    def _key(self, row: Row) -> Key:
        return self._names.key(str(row.get("exchange")), str(row.get("tradingsymbol")))

    def _value(self, key: Key) -> Decimal:
        """Rupees per point and unit."""
        instrument = self._names.instruments.get(key[0])
        return instrument.multiplier * instrument.quote_unit if instrument else Decimal(1)


def _delete(kite: Any, number: int) -> Any:
    return kite.delete_gtt(number)


def _cancel(kite: Any, variety: str, order_id: str) -> Any:
    return kite.cancel_order(variety, order_id)


def _may_trigger(ref: Ref) -> bool:
    return bool(triggers.ids(ref.broker_order_id)) or (ref.leg == "STOP" and ref.broker_order_id is None)


def _quantity(row: Row, name: str) -> Decimal:
    """NaN if it cannot be read."""
    try:
        return rows.number(row[name])
    except rows.UNREADABLE:
        return Decimal("NaN")


def _day(at: datetime) -> date:
    return at.astimezone(INDIA).date()
