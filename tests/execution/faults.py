"""
Every way to disturb a run: a SIGKILL or a lost database connection at its n-th point (before and after each commit and
each message to the broker), and bad replies of the broker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event

from alphapivot.brokers.base import Duplicate, NotSent, Rejected, Throttled, Unknown
from alphapivot.errors import TradingHalted, Unavailable
from alphapivot.hub import Hub

MESSAGES = ("submit", "cancel", "replace")


class Points:
    """Counts the points of a run and calls ``strike`` at one of them."""

    def __init__(self, strike_at: int = 0, strike: Callable[[Any], None] | None = None) -> None:
        self.seen: list[str] = []
        self._at, self._strike = strike_at, strike

    def pass_(self, name: str, conn: Any = None) -> None:
        self.seen.append(name)
        if len(self.seen) == self._at and self._strike is not None:
            self._strike(conn)

    @contextmanager
    def watch(self, hub: Hub) -> Iterator[list[str]]:
        listeners = {name: lambda conn, name=name: self.pass_(name, conn) for name in ("begin", "commit")}
        for name, listener in listeners.items():
            event.listen(hub.engine, name, listener)
        try:
            yield self.seen
        finally:
            for name, listener in listeners.items():
                event.remove(hub.engine, name, listener)


@dataclass
class Faulty:
    """A broker whose ``fault`` spoils the ``nth`` call of ``method``; every message is a point of the run."""

    broker: Any
    points: Points
    fault: str | None = None
    method: str = "submit"
    nth: int = 1
    times: int = 1
    leg: str | None = None
    witness: Callable[..., None] | None = None  # checks each message before it is sent
    late: list = field(default_factory=list)
    requests: Counter = field(default_factory=Counter)
    calls: int = 0

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self.broker, name)
        if not callable(inner) or name not in (*MESSAGES, "fills", "find", "account", "positions", "open_orders"):
            return inner

        def call(*args: Any) -> Any:
            self.requests[name] += 1
            if name in MESSAGES and self.witness is not None:
                self.witness(name, *args)
            if name in MESSAGES:
                self.points.pass_(f"before {name}")
            spoilt = name == self.method and (self.leg is None or args[0].leg == self.leg)
            self.calls += spoilt
            bad = spoilt and self.nth <= self.calls < self.nth + self.times
            reply = self._spoilt(inner, *args) if bad and self.fault else inner(*args)
            if name in MESSAGES:
                self.points.pass_(f"after {name}")
            return reply

        return call

    def _spoilt(self, inner: Callable[..., Any], *args: Any) -> Any:
        arrives, reply = FAULTS[self.fault]
        result = inner(*args) if arrives else None
        if self.fault == "request late":
            self.late.append(lambda: inner(*args))
        if isinstance(reply, Exception):
            raise reply
        return reply(result) if callable(reply) else reply


# fault -> (whether the call reaches the broker, the reply)
FAULTS: dict[Any, tuple[bool, Any]] = {
    "accepted, answer lost": (True, Unknown("timed out")),
    "request lost": (False, Unknown("timed out")),
    "request late": (False, Unknown("timed out")),
    "throttled": (False, Throttled(0.0)),
    "no connection": (False, NotSent("connection refused")),
    "no access": (False, TradingHalted("401: the token has expired")),
    "refused": (False, Rejected("insufficient buying power")),
    "duplicate": (True, Duplicate()),
    "unreachable": (False, Unavailable("no answer")),
    "done, unreachable": (True, Unavailable("no answer")),
    "twice and shuffled": (True, lambda fills: [*reversed(fills), *fills]),
    "withheld": (True, lambda _: []),
}
