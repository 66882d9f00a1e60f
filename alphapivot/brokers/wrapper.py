"""Base class of brokers that wrap another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

from alphapivot.brokers.base import (
    Absent,
    Account,
    Answer,
    Broker,
    BrokerFill,
    BrokerOrder,
    CashFlow,
    Hours,
    Key,
    OrderSpec,
    Ref,
    Unreadable,
)


class BrokerWrapper:
    """The Broker port, delegated to ``broker``; subclasses override what they change."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.caps = broker.caps

    def account(self) -> Account:
        return self._broker.account()

    def positions(self) -> dict[Key, Decimal]:
        return self._broker.positions()

    def open_orders(self) -> Sequence[BrokerOrder | Unreadable]:
        return self._broker.open_orders()

    def find(self, refs: Sequence[Ref], since: datetime) -> Mapping[str, BrokerOrder | Absent | Unreadable]:
        return self._broker.find(refs, since)

    def fills(self, since: datetime) -> Sequence[BrokerFill | Unreadable]:
        return self._broker.fills(since)

    def cash_flows(self, since: date) -> list[CashFlow] | None:
        return self._broker.cash_flows(since)

    def submit(self, spec: OrderSpec) -> Answer:
        return self._broker.submit(spec)

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:
        return self._broker.replace(ref, spec)

    def cancel(self, ref: Ref) -> None:
        self._broker.cancel(ref)

    def session(self, key: Key) -> Hours:
        return self._broker.session(key)
