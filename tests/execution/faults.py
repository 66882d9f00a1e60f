"""
One book at one broker, and every way to disturb a run: a SIGKILL or a lost database connection at the n-th point
(before each commit, after each, before and after each message to the broker), and a broker that answers badly.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import event, text

from alphapivot.brokers import open_broker
from alphapivot.brokers.base import Duplicate, NotSent, Rejected, Throttled, Unknown
from alphapivot.clock import SimulatedClock
from alphapivot.errors import TradingHalted, Unavailable
from alphapivot.execution import engine
from alphapivot.hub import Hub
from alphapivot.runs import RunRef
from tests.brokers.fake import POOR, UNIQUE, Fake

KEY = ("A", "spot", "")
BROKERS = {"poor": POOR, "unique": UNIQUE, "paper": None}
numbers = itertools.count(1)
MESSAGES = ("submit", "cancel", "replace")


class Points:
    """Counts the points of a run, and strikes at one of them."""

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
        yield self.seen
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
    late: list = field(default_factory=list)
    calls: int = 0

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self.broker, name)
        if not callable(inner) or name not in (*MESSAGES, "fills", "find", "account", "positions", "open_orders"):
            return inner

        def call(*args: Any) -> Any:
            if name in MESSAGES:
                self.points.pass_(f"before {name}")
            spoilt = name == self.method and (self.leg is None or args[0].leg == self.leg)
            self.calls += spoilt
            bad = spoilt and self.nth <= self.calls < self.nth + self.times
            answer = self._spoilt(inner, *args) if bad and self.fault else inner(*args)
            if name in MESSAGES:
                self.points.pass_(f"after {name}")
            return answer

        return call

    def _spoilt(self, inner: Callable[..., Any], *args: Any) -> Any:
        done, answer = FAULTS[self.fault]
        found = inner(*args) if done else None
        if self.fault == "request late":
            self.late.append(lambda: inner(*args))
        if isinstance(answer, Exception):
            raise answer
        return answer(found) if callable(answer) else answer


# what comes of a call: does it reach the broker, and what comes back
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
    "twice and shuffled": (True, lambda found: [*reversed(found), *found]),
    "withheld": (True, lambda _: []),
}


@dataclass
class Book:
    """A book of its own in a shared database, at a broker of its own."""

    hub: Hub
    settings: Any
    kind: str
    folder: Path
    at: Callable[[int], Any]
    scope: str = ""
    versions: int = 0
    faults: dict = field(default_factory=dict)
    pauses: list = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scope = f"book{os.getpid()}x{next(numbers)}"
        execution = self.settings.execution.model_copy(update={"book": self.scope})
        self.settings = self.settings.model_copy(update={"execution": execution})
        if self.kind == "paper":
            self.broker = open_broker(self.hub, self.settings)
        else:
            self.broker = Fake(self.folder / self.scope, self.at(20), BROKERS[self.kind])
            self.broker.move(KEY, 100)

    # what happens

    def score(self, day: int, value: float) -> None:
        self.versions = next(numbers)  # a batch makes one composite
        self.sql(
            "INSERT INTO signals.composite VALUES (:scope, 'A', :ts, :v, :v, 1, NULL, 'trend', :b)"
            " ON CONFLICT (scope, symbol, ts) DO UPDATE SET score = excluded.score, raw = excluded.raw,"
            " batch_id = excluded.batch_id",
            scope=self.scope,
            ts=self.at(day),
            v=value,
            b=self.versions,
        )

    def price(self, day: int, price: float, **options: Any) -> None:
        """The fake's market; the paper broker's are the bars."""
        if self.kind != "paper":
            self.broker.move(KEY, price, at=self.at(day), **options)

    def run(self, day: int, *, fault: str | None = None, points: Points | None = None, hub: Hub | None = None, **where):
        hub = hub or self.hub
        points = points or Points()
        broker = Faulty(
            open_broker(hub, self.settings) if self.kind == "paper" else self.broker, points, fault, **where
        )
        run = RunRef(f"run-{day}", self.scope, self.at(day), None, "hash")
        try:
            return engine.trade(
                hub, run, self.settings, SimulatedClock(self.at(day)), broker=broker, pause=self.pauses.append
            )
        finally:
            for late in broker.late:
                late()

    def killed(self, day: int, at: int) -> str | None:
        """Runs in a forked child that is killed at a point; its name, or None where the run has no such point."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                hub = Hub(self.hub.url)  # a connection is not shared between processes

                def die(conn: Any) -> None:
                    os.write(write, points.seen[-1].encode())
                    os.kill(os.getpid(), signal.SIGKILL)

                points = Points(at, die)
                with points.watch(hub):
                    self.run(day, points=points, hub=hub)
            finally:
                os._exit(0)
        os.close(write)
        _, status = os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            name = pipe.read()
        assert os.WIFSIGNALED(status) == bool(name)
        return name or None

    def disconnected(self, day: int, at: int) -> str | None:
        """Runs, and the database ends the connection in use at a point (the lock's, at a message to the broker)."""
        with Hub(self.hub.url) as hub:
            held: list[psycopg.Connection] = []
            plain = hub.dbapi

            def dbapi(**options: Any) -> psycopg.Connection:
                conn = plain(**options)
                if options.get("autocommit"):
                    held.append(conn)
                return conn

            hub.dbapi = dbapi  # type: ignore[method-assign]

            def lose(conn: Any) -> None:
                lost = held[-1] if conn is None else conn.connection.driver_connection
                self.sql("SELECT pg_terminate_backend(:pid)", pid=lost.info.backend_pid)

            points = Points(at, lose)
            with suppress(Unavailable), points.watch(hub):
                self.run(day, points=points, hub=hub)
            return points.seen[at - 1] if len(points.seen) >= at else None

    # what is there

    def sql(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        with self.hub.engine.begin() as conn:
            result = conn.execute(text(query), parameters)
            return [dict(r) for r in result.mappings()] if result.returns_rows else []

    def orders(self, leg: str | None = None) -> list[dict[str, Any]]:
        return [
            o
            for o in self.sql(
                "SELECT * FROM trading.orders WHERE book = :b ORDER BY created_at, leg, version", b=self.scope
            )
            if leg in (None, o["leg"])
        ]

    def states(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for o in self.orders():
            found.setdefault(o["leg"], []).append(o["state"])
        return found

    def locks(self) -> list[str]:
        rows = self.sql(
            "SELECT reason FROM trading.instrument_lock WHERE book = :b AND cleared_at IS NULL", b=self.scope
        )
        return [r["reason"] for r in rows]

    def trades(self) -> list[dict[str, Any]]:
        return self.sql("SELECT * FROM trading.trade WHERE book = :b ORDER BY trade_id", b=self.scope)

    def theirs(self) -> list[dict[str, Any]]:
        """Every order that the broker ever had."""
        if self.kind == "paper":
            return self.sql(
                "SELECT client_order_id AS id, leg, state, qty FROM paper.orders WHERE book = :b", b=self.scope
            )
        legs = {o["client_order_id"]: o["leg"] for o in self.orders()}
        return [
            {"id": o.client_order_id, "leg": legs.get(o.client_order_id, "?"), "state": o.state, "qty": o.qty}
            for o, _ in self.broker._read().orders
        ]

    def held(self) -> Decimal:
        return self.broker.positions().get(KEY, Decimal(0))

    def state(self) -> list[str]:
        """All that a run could change, but the fence."""
        tables = ("orders", "trade", "decision", "intent", "fill", "instrument_lock", "journal", "risk_day")
        rows = [
            str(r) for t in tables for r in self.sql(f"SELECT t::text FROM trading.{t} t WHERE book = :b", b=self.scope)
        ]
        return sorted(rows) + sorted(map(str, self.theirs()))

    def holds(self, *, locked: bool = False) -> None:
        """The invariants of execution.md that can be seen at rest."""
        theirs, rows = self.theirs(), {o["client_order_id"]: o for o in self.orders()}
        ids = [o["id"] for o in theirs]
        assert len(ids) == len(set(ids)), "I2: an id was sent twice"
        assert set(ids) <= set(rows), "I3: the broker has an order without a row"
        entries = [i for i in ids if rows[i]["leg"] == "ENTRY"]
        assert len({rows[i]["intent_id"] for i in entries}) == len(entries), "I2: two entries of one intent"
        assert bool(self.locks()) == locked, self.locks()
        if locked:
            return
        (ours,) = self.sql(
            "SELECT coalesce(sum(CASE side WHEN 'BUY' THEN qty ELSE -qty END), 0) AS q FROM trading.fill"
            " WHERE book = :b",
            b=self.scope,
        )
        assert ours["q"] == self.held(), "I1: our fills do not make the broker's position"
        for trade in self.trades():
            mine = [o for o in rows.values() if o["trade_id"] == trade["trade_id"]]
            sign = 1 if trade["side"] == "LONG" else -1
            assert trade["entry_qty"] - trade["exit_qty"] >= 0, "I8: an exit turned the position round"
            live = [o for o in mine if o["state"] in ("NEW", "PARTIALLY_FILLED")]
            if trade["state"] == "OPEN" and not any(o["leg"] == "EXIT" for o in live):
                stops = [o["qty"] - o["cum_qty"] for o in live if o["leg"] == "STOP"]
                assert stops == [trade["entry_qty"] - trade["exit_qty"]], "I6: the stop is not the position"
                assert self.held() * sign == stops[0]
            if trade["state"] == "CLOSED":
                assert not live, "I7: flat, and an exit works"
        denied = [o for o in rows.values() if o["state"] == "DENIED" and not o["reason"]]
        assert denied == [], "I14"

    def rests(self, day: int) -> None:
        """I10: the same again sends nothing and writes nothing."""
        before = self.state()
        self.run(day)
        assert self.state() == before
