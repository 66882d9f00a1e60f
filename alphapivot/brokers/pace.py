"""A message throttle of our own: no broker is told more than so many things a second, whatever is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal

from alphapivot.brokers.base import (
    Absent,
    Account,
    Answer,
    Broker,
    BrokerFill,
    BrokerOrder,
    Hours,
    Key,
    OrderSpec,
    Ref,
)


class Paced:
    """``broker``, whose orders, replacements and cancels are 1 / ``per_second`` apart; reads are not held up."""

    def __init__(
        self,
        broker: Broker,
        per_second: Decimal,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._broker, self._gap, self._now, self._sleep = broker, float(1 / per_second), now, sleep
        self._next = now()
        self.caps = broker.caps

    def _wait(self) -> None:
        early = self._next - self._now()
        if early > 0:
            self._sleep(early)
        self._next = max(self._next, self._now()) + self._gap

    def submit(self, spec: OrderSpec) -> Answer:
        self._wait()
        return self._broker.submit(spec)

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:
        self._wait()
        return self._broker.replace(ref, spec)

    def cancel(self, ref: Ref) -> None:
        self._wait()
        self._broker.cancel(ref)

    def account(self) -> Account:
        return self._broker.account()

    def positions(self) -> dict[Key, Decimal]:
        return self._broker.positions()

    def open_orders(self) -> list[BrokerOrder]:
        return self._broker.open_orders()

    def find(self, refs: Sequence[Ref], since: datetime) -> dict[str, BrokerOrder | Absent]:
        return self._broker.find(refs, since)

    def fills(self, since: datetime) -> list[BrokerFill]:
        return self._broker.fills(since)

    def session(self, key: Key) -> Hours:
        return self._broker.session(key)
