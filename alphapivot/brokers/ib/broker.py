"""Interactive Brokers behind the Broker port: shares and futures through IB Gateway or TWS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

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
from alphapivot.brokers.ib import contracts, margin, rows, sending
from alphapivot.errors import TradingHalted, Unavailable
from alphapivot.venues.ib.link import READ_ONLY, Link

if TYPE_CHECKING:
    from ib_async import IB

    from alphapivot.brokers.ib.contracts import Book
    from alphapivot.config.sections.brokers import IbBroker

log = logging.getLogger("alphapivot.brokers")
SETTLES = 0.5  # seconds until an order that has ended is in a list
EASTERN = ZoneInfo("America/New_York")  # IB's day


class InteractiveBrokers:
    """The Broker port over one account. ``book``: which of IB's contracts is which of ours."""

    caps = Caps(
        idempotent_submit=False,  # orderRef need not be unique
        id_max_len=40,
        native_bracket=True,
        bracket_on_partial=False,
        exit_in_bracket=False,
        atomic_replace=True,
        amends=True,
        reduce_only=False,
        queues_for_open=False,  # it would, but then the gates could not be checked again
        stop_survives_session=True,
        stop_outside_hours=True,
        adds=True,  # both sides of one contract are refused for options alone
    )

    def __init__(self, section: IbBroker, book: Book, link: Link) -> None:
        self._section, self._book, self._link = section, book, link
        self._details: dict[Key, Any] = {}

    @property
    def symbols(self) -> list[str]:
        return self._book.symbols

    def account(self) -> Account:
        async def read(ib: IB) -> tuple[dict[str, tuple[Decimal, str]], Decimal]:
            await ib.reqAccountUpdatesAsync(self._link.account)
            values = {
                v.tag: (Decimal(v.value), v.currency)
                for v in ib.accountValues(self._link.account)
                if v.tag in ("NetLiquidation", "AvailableFunds") and v.currency not in ("", "BASE")
            }
            held = (rows.decimal(item.marketValue) for item in ib.portfolio(self._link.account))
            return values, sum((value for value in held if value is not None), Decimal(0))

        self._link.open()
        values, held = self._link.ask(read, "account")
        missing = [tag for tag in ("NetLiquidation", "AvailableFunds") if tag not in values]
        if missing:
            raise Unavailable(f"Interactive Brokers gave no {' and no '.join(missing)} of {self._link.account}")
        equity, currency = values["NetLiquidation"]
        return Account(
            currency=currency,
            cash=equity - held,  # of futures the notional too, as in ``rows.fill``
            equity=equity,
            free=values["AvailableFunds"][0],
            at=self._now(),
            number=f"Interactive Brokers {self._link.account}",
        )

    def positions(self) -> dict[Key, Decimal]:
        held: dict[Key, Decimal] = {}
        for position in self._link.ask(lambda ib: ib.reqPositionsAsync(), "positions"):
            if position.account == self._link.account:
                key = self._book.key(position.contract)
                held[key] = held.get(key, Decimal(0)) + (rows.decimal(position.position) or Decimal(0))
        return {key: qty for key, qty in held.items() if qty}

    def open_orders(self) -> Sequence[BrokerOrder | Unreadable]:
        orders, fills = self._open(), self._fills()
        return [o for o in (self._resting(trade, fills) for trade in orders) if _works(o)]

    def find(self, refs: Sequence[Ref], since: datetime) -> Mapping[str, BrokerOrder | Absent | Unreadable]:
        """
        From the lists of open and completed orders and today's executions. IB forgets at the end of its day: what was
        sent before and is in no list is neither absent nor known. Nothing works in a contract that has ended.
        """
        if not refs:
            return {}
        found = self._find(refs, since)
        if any(isinstance(order, Unreadable) for order in found.values()):  # what has just ended may be in no list yet
            self._link.ask(lambda _: asyncio.sleep(SETTLES), "orders")
            found = self._find(refs, since)
        return found

    def _find(self, refs: Sequence[Ref], since: datetime) -> dict[str, BrokerOrder | Absent | Unreadable]:
        resting = self._open()  # first, so that an order which ends meanwhile is in the next list
        ended = self._link.ask(lambda ib: ib.reqCompletedOrdersAsync(False), "completed orders")
        fills = self._fills()
        orders = {trade.order.permId: self._resting(trade, fills) for trade in resting}
        for trade in ended:
            orders[trade.order.permId] = rows.completed(
                trade, _of(fills, trade.order.permId), self._book.key(trade.contract)
            )
        names = {f.execution.orderRef: f.execution.permId for f in fills}
        names |= {trade.order.orderRef: trade.order.permId for trade in (*ended, *resting)}
        found: dict[str, BrokerOrder | Absent | Unreadable] = {}
        for ref in refs:
            perm_id = int(ref.broker_order_id) if ref.broker_order_id else names.get(ref.client_order_id, 0)
            order = orders.get(perm_id) or self._unlisted(perm_id, fills)
            if order is not None:
                found[ref.client_order_id] = replace(order, client_order_id=ref.client_order_id)
            elif perm_id and ref.key is not None and (last := self._ended(ref.key)):
                # what it filled on that day and nobody read is in the positions
                told = f"its contract had its last trade on {last}"
                key, name = ref.key, ref.client_order_id
                found[name] = BrokerOrder(name, str(perm_id), "EXPIRED", Decimal(0), None, told, key=key)
            elif perm_id or not self._remembers(since):
                told = f"order {ref.client_order_id}: Interactive Brokers remembers its own day only; see its statement"
                found[ref.client_order_id] = Unreadable(told, ref.broker_order_id)
            else:
                found[ref.client_order_id] = Absent()
        return found

    def _remembers(self, since: datetime) -> bool:
        """True if what was sent at ``since`` is of the day that the gateway's lists cover."""
        return since.astimezone(EASTERN).date() == self._now().astimezone(EASTERN).date()

    def _now(self) -> datetime:
        told: datetime = self._link.ask(lambda ib: ib.reqCurrentTimeAsync(), "time")
        return told.astimezone(UTC)

    def _unlisted(self, perm_id: int, fills: Sequence[Any]) -> BrokerOrder | None:
        """An order that is in no list yet: what was said of it in this session, or its executions."""
        told, parts = self._link.heard.orders.get(perm_id), _of(fills, perm_id)
        if told is None and not parts:
            return None
        qty, average = rows.filled(parts)
        state = rows.STATES.get(told.status, "NEW") if told else "PARTIALLY_FILLED"
        if state == "FILLED" and not parts:
            state = "PARTIALLY_FILLED"  # its executions are still to come
        if not parts:
            return BrokerOrder("", str(perm_id), state, qty, average)
        key, side = self._book.key(parts[0].contract), rows.SIDES[parts[0].execution.side]
        return BrokerOrder("", str(perm_id), state, qty, average, key=key, side=side)

    def fills(self, since: datetime) -> Sequence[BrokerFill | Unreadable]:
        begins = since.replace(microsecond=0)  # IB's times have no fractions
        parts = [f for f in self._fills() if f.execution.time.astimezone(UTC) >= begins]
        newest: dict[str, list[Any]] = {}
        for part in sorted(parts, key=lambda f: f.execution.execId):
            newest.setdefault(rows.version(part.execution.execId)[0], []).append(part)
        told: list[BrokerFill | Unreadable] = []
        for versions in newest.values():
            last = versions[-1]
            if len(versions) > 1:
                was, now = versions[0].execution, last.execution
                reason = (
                    f"execution {was.execId} of {was.shares} at {was.price} was corrected to {now.shares} at"
                    f" {now.price} ({now.execId}): compare the account"
                )
                told.append(Unreadable(reason, str(now.permId), self._book.key(last.contract)))
            key = self._book.key(last.contract)
            told.append(rows.fill(last.execution, last.commissionReport, self._value(last, key)))
        return sorted(told, key=lambda f: f.ts if isinstance(f, BrokerFill) else datetime.max.replace(tzinfo=UTC))

    def cash_flows(self, since: date) -> list[CashFlow] | None:  # noqa: ARG002 - the API has no movements of cash
        return None

    def session(self, key: Key) -> Hours:
        return Hours(open=False) if self._ended(key) else contracts.hours(self.details(key), self._now())

    def _ended(self, key: Key) -> date | None:
        """The date of the last trade of a contract that has ended; None for all others."""
        last = contracts.last_trade(self.details(key)) if key[2] else None
        if last is None or last >= self._now().astimezone(contracts.zone(self.details(key))).date():
            return None
        return last

    def details(self, key: Key) -> Any:
        """IB's terms of a contract, asked once; Unavailable if there is none or more than one."""
        if key not in self._details:
            from ib_async import Contract  # noqa: PLC0415 - optional

            wanted = self._book.wanted(key)
            found = self._link.ask(lambda ib: ib.reqContractDetailsAsync(Contract(**wanted)), f"contract {key[0]}")
            asked = " ".join(v for v in wanted.values() if v and isinstance(v, str))
            if not found:
                raise Unavailable(f"Interactive Brokers has no contract {asked}: correct [broker.*] contracts")
            if len(found) > 1 and (key[1] == "spot" or key[2]):
                names = ", ".join(d.contract.localSymbol for d in found[:5])
                raise Unavailable(f"Interactive Brokers has {len(found)} contracts {asked} ({names}): say which")
            self._details[key] = min(found, key=lambda d: d.contract.lastTradeDateOrContractMonth)
            if key[1] == "spot" or key[2]:
                self._book.learn(found[0].contract.conId, key)
        return self._details[key]

    def submit(self, spec: OrderSpec) -> Answer:
        try:
            contract, last = self.details(spec.key).contract, self._ended(spec.key)
        except Unavailable as error:
            return NotSent(str(error))
        if last is not None:
            return NotSent(f"{spec.contract} had its last trade on {last}: Interactive Brokers settles what is held")
        if contract.secType == "STK":
            contract.exchange = "SMART"
        if spec.leg == "ENTRY" and (no := margin.objection(self._link, contract, spec)):
            return no
        try:
            numbers = self._link.ask(
                lambda ib: sending.place(ib, self._link, contract, spec, self._section.timeout),
                "orders",
                2 * self._section.timeout,
            )
        except Unavailable as error:
            return Unknown(str(error))
        return self._answer(spec, numbers)

    def _answer(self, spec: OrderSpec, numbers: Mapping[str, int]) -> Answer:
        """What the gateway has said of an order that was sent; what its errors do not prove is looked up."""
        heard, number = self._link.heard, numbers[spec.client_order_id]
        if sending.status(self._link, number) not in sending.ACCEPTED:
            refused = sending.refusal(self._link, number)
            if refused and READ_ONLY in refused[1].lower():
                raise TradingHalted(
                    f"Interactive Brokers: {refused[1]}; clear Read-Only API in the gateway's API settings"
                )
            try:
                order = self.find([Ref(spec.client_order_id, None, spec.bracket, spec.leg)], datetime.now(UTC))
            except Unavailable as error:
                return Unknown(str(error))
            seen = order[spec.client_order_id]
            if (
                isinstance(seen, BrokerOrder)
                and seen.state != "REJECTED"
                and not (refused and seen.state == "CANCELED")
            ):
                return Accepted({spec.client_order_id: seen.broker_order_id})
            if refused and refused[0] in sending.DEFINITE:
                return Rejected(f"Interactive Brokers {refused[0]}: {refused[1]}")
            said = f"{refused[0]}: {refused[1]}" if refused else f"no answer within {self._section.timeout:g} s"
            return Unknown(f"Interactive Brokers, {said}")
        ids = {name: heard.numbers[n] for name, n in numbers.items() if heard.numbers.get(n)}
        return Accepted({name: str(perm_id) for name, perm_id in ids.items()})

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:
        try:
            found = next((o for o in self._open() if str(o.order.permId) == ref.broker_order_id), None)
            if found is None:
                return Rejected(f"Interactive Brokers: order {ref.broker_order_id} no longer works")
            if found.order.clientId != self._section.client_id:
                return Rejected(f"Interactive Brokers: client id {found.order.clientId} has sent it, and may change it")
            refused = self._link.ask(
                lambda ib: sending.amend(ib, self._link, found, spec, self._section.timeout),
                "orders",
                2 * self._section.timeout,
            )
        except Unavailable as error:
            return Unknown(str(error))
        if refused is None:
            return Accepted({spec.client_order_id: str(found.order.permId)})
        code, text = refused
        return Rejected(f"Interactive Brokers {code}: {text}") if code else Unknown(f"Interactive Brokers: {text}")

    def cancel(self, ref: Ref) -> None:
        for trade in self._open():
            order = trade.order
            if str(order.permId) == ref.broker_order_id or order.orderRef == ref.client_order_id:
                if order.clientId != self._section.client_id:
                    log.warning(
                        "order %s belongs to client id %s: cancel it there, or in TWS", order.permId, order.clientId
                    )
                    return
                self._link.ask(lambda ib: _cancel(ib, order.orderId), f"cancel {ref.client_order_id}")  # noqa: B023
                return

    def _open(self) -> list[Any]:
        return self._link.ask(lambda ib: ib.reqAllOpenOrdersAsync(), "open orders")

    def _fills(self) -> list[Any]:
        """Today's executions of the account, each with its commission if that has come."""

        async def read(ib: IB) -> list[Any]:
            found = await ib.reqExecutionsAsync()
            kept = {f.execution.execId: f for f in ib.fills()}
            for _ in range(int(2 / sending.LOOK)):  # a commission comes right after its execution
                if all(kept[f.execution.execId].commissionReport.execId for f in found):
                    break
                await asyncio.sleep(sending.LOOK)
            return [kept[f.execution.execId] for f in found if f.execution.acctNumber == self._link.account]

        return self._link.ask(read, "executions")

    def _resting(self, trade: Any, fills: Sequence[Any]) -> BrokerOrder:
        told = self._link.heard.orders.get(trade.order.permId)
        return rows.resting(trade, told, _of(fills, trade.order.permId), self._book.key(trade.contract))

    def _value(self, fill: Any, key: Key) -> Decimal:
        """Account currency per point and unit of an execution's contract."""
        magnifier = int(self.details(key).priceMagnifier or 1) if key[0] in self._book.symbols else 1
        return Decimal(fill.contract.multiplier or 1) / magnifier


async def _cancel(ib: IB, number: int) -> None:
    ib.client.cancelOrder(number)
    await asyncio.sleep(sending.LOOK)


def _of(fills: Sequence[Any], perm_id: int) -> list[Any]:
    return [f for f in fills if f.execution.permId == perm_id]


def _works(order: BrokerOrder | Unreadable) -> bool:
    return isinstance(order, Unreadable) or order.state not in ("FILLED", "CANCELED", "REJECTED", "EXPIRED")
