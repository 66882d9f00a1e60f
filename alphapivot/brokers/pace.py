"""Our own limit on messages per second to a broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

from alphapivot.brokers.base import Answer, Broker, OrderSpec, Ref
from alphapivot.brokers.wrapper import BrokerWrapper


class Paced(BrokerWrapper):
    """Spaces orders, replaces and cancels at least 1 / ``per_second`` seconds apart; reads are not delayed."""

    def __init__(
        self,
        broker: Broker,
        per_second: Decimal,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(broker)
        self._gap, self._now, self._sleep = float(1 / per_second), now, sleep
        self._next = now()

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
