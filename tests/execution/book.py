"""One book at one broker: runs it, kills its runs, and checks the invariants at rest."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import text

from alphapivot.brokers.alpaca.broker import Alpaca
from alphapivot.brokers.ccxt import ledger as ccxt_ledger
from alphapivot.brokers.ib import contracts
from alphapivot.brokers.ib.broker import InteractiveBrokers
from alphapivot.brokers.ib.opening import login
from alphapivot.brokers.kite.ledger import Ledger
from alphapivot.brokers.registry import open_broker
from alphapivot.clock import SimulatedClock
from alphapivot.config.sections.brokers import AlpacaBroker, IbBroker
from alphapivot.errors import Unavailable
from alphapivot.execution.book import control
from alphapivot.execution.book.states import TERMINAL
from alphapivot.execution.run import engine
from alphapivot.hub import Hub
from alphapivot.runs import RunRef
from alphapivot.venues.ib.link import shared
from tests import scores
from tests.brokers import alpaca_server, ccxt_rig, ib_server, kite_rig, kite_server
from tests.brokers.fake import ABLE, POOR, UNIQUE, Fake
from tests.execution.faults import Faulty, Points

KEY = ("A", "spot", "")
EXPIRIES = ("260327", "260626")  # of dated futures; the later one is three points higher
CONTRACTS = {"H26": "20260320", "M26": "20260619"}  # of futures at Interactive Brokers, and their last trade dates
DONE = ("FILLED", "CANCELED", "REPLACED", "REJECTED", "EXPIRED", "filled", "canceled", "replaced", "expired")
DONE += ("FINISHED",)  # a crypto exchange's trigger that has sent its order
DONE += ("COMPLETE", "CANCELLED", "triggered", "deleted")  # Kite's words
DONE += ("Filled", "Cancelled", "")  # IB's words; an order that was never transmitted has none
BROKERS = {"poor": POOR, "unique": UNIQUE, "able": ABLE, "alpaca": None, "paper": None}
STORED = (
    "orders",
    "trade",
    "adjustment",
    "decision",
    "intent",
    "fill",
    "instrument_lock",
    "risk_day",
    "risk_trip",
    "control",
)
PAPER = ("account", "position", "orders", "fill")
MONEY = ("cash", "equity", "non_marginable_buying_power")
NAMES = ("book", "scope", "fence", "batch_id", "terms", "at", "ts")  # columns that differ between two equal books
numbers = itertools.count(1)


# positions from a book's whole history
WHOLE = """
    SELECT symbol, market, contract, sum(CASE side WHEN 'BUY' THEN qty ELSE -qty END) AS qty
    FROM (
        SELECT symbol, market, contract, CASE side WHEN 'LONG' THEN 'BUY' ELSE 'SELL' END AS side, adjusted AS qty
        FROM trading.trade WHERE book = :b AND adjusted <> 0
        UNION ALL
        SELECT o.symbol, o.market, o.contract, o.side, greatest(o.cum_qty, coalesce(sum(f.qty), 0)) AS qty
        FROM trading.orders o LEFT JOIN trading.fill f USING (client_order_id)
        WHERE o.book = :b AND (o.cum_qty > 0 OR f.qty > 0) GROUP BY o.client_order_id
    ) done
    GROUP BY symbol, market, contract HAVING sum(CASE side WHEN 'BUY' THEN qty ELSE -qty END) <> 0 ORDER BY 1, 2, 3
"""


@cache
def eye(url: str, process: int) -> Hub:
    """A connection that no run shares."""
    return Hub(url)


@dataclass
class Book:
    """A separate book in a shared database, at its own broker."""

    hub: Hub
    settings: Any
    kind: str
    folder: Path
    at: Callable[[int], Any]
    scope: str = ""
    versions: int = 0
    faults: dict = field(default_factory=dict)
    pauses: list = field(default_factory=list)
    requests: Counter = field(default_factory=Counter)  # calls of the last run to the broker
    counted: bool = True  # False for a twin that only shows the points of a run
    timeout: float = 60
    keys: dict = field(default_factory=dict)  # more of the broker's section
    remote: Any = None

    def __post_init__(self) -> None:
        self.scope = f"book{os.getpid()}x{next(numbers):05d}"
        self.symbols = sorted(self.settings.instruments)
        execution = self.settings.execution.model_copy(update={"book": self.scope})
        self.settings = self.settings.model_copy(update={"execution": execution})
        if self.remote is not None:
            pass  # the account of another book
        elif self.kind == "alpaca":
            self.remote = alpaca_server.Alpaca()
            self.remote.account |= {"currency": "EUR"} | dict.fromkeys(MONEY, "100000")
        elif self.exchange == "ib":
            self.remote = ib_server.Gateway(f"DU{os.getpid()}{next(numbers)}", currency="EUR")
            self.list_at_ib()
        elif self.kind == "kite":
            user = f"XX{os.getpid()}{next(numbers)}"
            self.remote = kite_server.Kite(key=user)
            instruments = self.settings.instruments
            rupees = {s: i.model_copy(update={"currency": "INR", "spot": s}) for s, i in instruments.items()}
            self.settings = self.settings.model_copy(update={"instruments": rupees})
            kite_rig.log_in(key=user, user=user)
        elif self.exchange in ccxt_rig.SERVERS:
            self.remote = ccxt_rig.SERVERS[self.exchange](perpetual=self.perpetual or self.dated)
            bases = [f"{s}-{e}" for s in self.symbols for e in EXPIRIES] if self.dated else self.symbols
            self.remote.pairs = dict.fromkeys(bases, ("0.01", "1"))
            expiry = "*" if self.dated else ""
            instruments = ccxt_rig.paid_in_usdt(self.settings, perpetual=self.perpetual, expiry=expiry)
            self.settings = self.settings.model_copy(update={"instruments": instruments})
        elif self.kind != "paper":
            self.remote = Fake(self.folder / self.scope, self.at(20), BROKERS[self.kind])
        for symbol in self.symbols:
            self.price(20, 100, symbol=symbol)
        self.broker = self.client(self.hub)

    def list_at_ib(self) -> None:
        """Adds the gateway's contracts: shares, or the futures of ``CONTRACTS``."""
        if not self.dated:
            for number, symbol in enumerate(self.symbols, 1):
                self.remote.add(ib_server.Contract(number, symbol, currency="EUR", hours=ib_server.ALWAYS))
            return
        terms = {"kind": "FUT", "exchange": "CME", "multiplier": "1", "currency": "EUR", "hours": ib_server.ALWAYS}
        for number, (symbol, (name, last)) in enumerate(itertools.product(self.symbols, CONTRACTS.items()), 1):
            self.remote.add(ib_server.Contract(number, symbol, month=last, local=f"{symbol}{name}", **terms))
        futures = {"trade_market": "futures", "signal_market": "futures", "futures": "A@CME", "margin": Decimal("0.1")}
        futures |= {"last_trade": "third friday"}
        dated = {s: i.model_copy(update=futures) for s, i in self.settings.instruments.items()}
        self.settings = self.settings.model_copy(update={"instruments": dated})

    @property
    def exchange(self) -> str:
        """Of a kind such as "binance" or "okx perpetual"."""
        return self.kind.partition(" ")[0]

    @property
    def perpetual(self) -> bool:
        return self.kind.endswith(" perpetual")

    @property
    def dated(self) -> bool:
        return self.kind.endswith(" future")

    def client(self, hub: Hub) -> Any:
        """A new connection to the broker, as each run makes its own."""
        if self.kind == "paper":
            return open_broker(hub, self.settings)
        if self.kind == "alpaca":
            return Alpaca(
                AlpacaBroker(base_url=self.remote.url, timeout=self.timeout),
                {s: s for s in self.symbols},
                "key",
                "secret",
            )
        if self.exchange == "ib":
            places = {s: f"{s}@CME" for s in self.symbols} if self.dated else {}
            section = IbBroker(currency="EUR", port=self.remote.port, timeout=self.timeout, contracts=places)
            instruments = {s: self.settings.instruments[s].model_copy(update={"spot": s}) for s in self.symbols}
            names = {s: [f"{s}{name}" for name in CONTRACTS] for s in places}
            return InteractiveBrokers(
                section, contracts.Book(section, instruments, names, self.at(20)), shared(login(section))
            )
        if self.kind == "kite":
            ledger = Ledger(hub, self.scope)
            instruments = self.settings.instruments
            return kite_rig.broker(self.remote, instruments, ledger=ledger, orders=kite_rig.FREE, timeout=self.timeout)
        if self.exchange in ccxt_rig.SERVERS:
            ledger = ccxt_ledger.Ledger(hub, self.scope)
            return ccxt_rig.broker(
                self.remote, self.exchange, symbols=self.symbols, ledger=ledger, timeout=self.timeout, **self.keys
            )
        return self.remote

    def close(self) -> None:
        if self.exchange in ("alpaca", "ib", "kite", *ccxt_rig.SERVERS):
            self.remote.close()

    # events

    def score(self, day: int, value: float, symbol: str = "A") -> None:
        self.versions = next(numbers)  # a batch makes one composite
        key = {"scope": self.scope, "symbol": symbol, "ts": self.at(day)}
        self.sql(scores.PUT, **key, score=value, raw=value, gate=1, veto=None, batch_id=self.versions)

    def price(self, day: int, price: float, symbol: str = "A", **options: Any) -> None:
        """Moves the broker's market; the paper broker's market is the bars."""
        if self.dated and self.exchange != "ib":
            self.remote.clock = lambda: self.at(day)
            for number, base in enumerate([b for b in sorted(self.remote.pairs) if b.startswith(f"{symbol}-")]):
                self.remote.move(base, price + 3 * number, **options)
        elif self.kind == "kite":
            self.now(day)
            self.remote.move(symbol, price, **options)
        elif self.exchange in ("alpaca", "ib", *ccxt_rig.SERVERS):
            self.remote.clock = lambda: self.at(day)
            self.remote.move(symbol, price, **options)
        elif self.kind != "paper":
            self.remote.move((symbol, *KEY[1:]), price, at=self.at(day), **options)

    def now(self, day: float) -> None:
        """It is later at Kite, and over night another day."""
        then, self.remote.clock = self.remote.today.date(), lambda: self.at(day)
        if self.remote.today.date() > then and self.remote.orders:
            self.remote.night()

    def end(self, leg: str, state: str = "EXPIRED") -> None:
        """The broker ends orders by itself."""
        ids = [o["client_order_id"] for o in self.orders(leg)]
        if self.exchange == "ib":
            for order in [o for o in self.remote.orders.values() if o.ref in ids]:
                self.remote.end(order, "Cancelled")
            return
        if self.kind == "kite":
            for order in [o for o in self.remote.orders if o["tag"] in ids and o["status"] not in kite_server.FINAL]:
                order["status"] = "CANCELLED"
            return
        if self.exchange in ccxt_rig.SERVERS:
            for order in [o for o in self.remote.orders if o["client"] in ids and o["state"] not in DONE]:
                order["state"] = state
            return
        if self.kind != "alpaca":
            self.remote.end(ids, state)
            return
        theirs = {o["broker_order_id"] for o in self.orders(leg)}
        for row in self.remote.orders.values():
            if row["id"] in theirs and row["status"] not in DONE:
                row["status"] = state.lower()

    def witness(self, name: str, *args: Any) -> None:
        """I3, I12: each message to the broker is committed, as seen by another connection, and allowed."""
        with eye(self.hub.url, os.getpid()).engine.connect() as conn:
            state = conn.execute(
                text("SELECT state FROM trading.orders WHERE (book, client_order_id) = (:b, :i)"),
                {"b": self.scope, "i": args[0].client_order_id},
            ).scalar()
            switch = control.state(conn, self.scope).state
        if name == "cancel":
            assert state in (None, "PENDING_CANCEL", *TERMINAL), f"I3: cancel of {args[0]}, which is {state}"
            return
        expected = "PENDING_NEW" if name == "submit" else "PENDING_REPLACE"
        assert state == expected, f"I3: {name} of {args[0]}, which is {state or 'not committed'}"
        if name == "submit" and args[0].leg == "EXIT" and self.kind != "paper":
            resting = self.sql(
                "SELECT o.* FROM trading.orders o JOIN trading.orders x USING (trade_id) WHERE x.client_order_id = :i"
                " AND o.leg IN ('STOP', 'TARGET') AND o.broker_order_id IS NOT NULL"
                " AND NOT trading.is_terminal(o.state)",
                i=args[0].client_order_id,
            )
            held = abs(self.held(args[0].symbol))  # an exit of a part leaves the stop of the rest in place
            over = [(o["leg"], o["state"]) for o in resting if o["qty"] - o["cum_qty"] + args[0].qty > held]
            assert not over, f"I8: an exit is sent while {over} may fill"
        adds = name == "submit" and args[0].leg == "ENTRY"
        assert not adds or switch == "ACTIVE", f"I12: an entry is sent while the book is {switch}"

    def run(self, day: int, *, fault: str | None = None, points: Points | None = None, hub: Hub | None = None, **where):
        hub = hub or self.hub
        points = points or Points()
        broker = Faulty(self.client(hub), points, fault, witness=self.witness, **where)
        run = RunRef(f"run-{day}", self.scope, self.at(day), None, "hash")
        try:
            return engine.trade(
                hub, run, self.settings, SimulatedClock(self.at(day)), broker=broker, pause=self.pauses.append
            )
        finally:
            self.requests = broker.requests
            for late in broker.late:
                late()

    def killed(self, day: int, at: int) -> str | None:
        """Runs in a forked child that is killed at a point; returns the point's name, or None if there is none."""
        if self.exchange == "ib":
            self.broker._link.close()  # a gateway takes one connection for each client id
            until = time.monotonic() + 60
            while self.remote.clients:
                assert time.monotonic() < until, "the gateway still has its client"
                time.sleep(0.01)
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
                os._exit(0)
            except Unavailable:  # expected from the fault
                os._exit(0)
            except BaseException:  # noqa: BLE001 - it is reported below
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(write)
        _, status = os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            name = pipe.read()
        assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if name else 0)
        self.let_go()
        return name or None

    def disconnected(self, day: int, at: int, *, untold: bool = False) -> str | None:
        """
        Runs while the database ends the connection in use at a point (the lock's, at a message to the broker);
        ``untold``: the commit at that point succeeds, but its reply is lost.
        """
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
                if untold:
                    lost.commit()
                self.sql("SELECT pg_terminate_backend(:pid)", pid=lost.info.backend_pid)

            points = Points(at, lose)
            with suppress(Unavailable), points.watch(hub):
                self.run(day, points=points, hub=hub)
        self.let_go()
        return points.seen[at - 1] if len(points.seen) >= at else None

    def let_go(self) -> None:
        """Waits until the server has seen that the client is gone; until then the book would be busy."""
        query = "SELECT pg_try_advisory_xact_lock(hashtext('alphapivot.trade'), hashtext(:b)) AS free"
        until = time.monotonic() + 60
        while not self.sql(query, b=self.scope)[0]["free"]:
            assert time.monotonic() < until, "the lock of a dead executor is still held"
            time.sleep(0.01)

    # queries

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
        states: dict[str, list[str]] = {}
        for o in self.orders():
            states.setdefault(o["leg"], []).append(o["state"])
        return states

    def locks(self) -> list[str]:
        rows = self.sql(
            "SELECT reason FROM trading.instrument_lock WHERE book = :b AND cleared_at IS NULL", b=self.scope
        )
        return [r["reason"] for r in rows]

    def barred(self) -> set[str]:
        rows = self.sql(
            "SELECT symbol FROM trading.instrument_lock WHERE book = :b AND cleared_at IS NULL", b=self.scope
        )
        return {r["symbol"] for r in rows}

    def trades(self) -> list[dict[str, Any]]:
        return self.sql("SELECT * FROM trading.trade WHERE book = :b ORDER BY trade_id", b=self.scope)

    def theirs(self) -> list[dict[str, Any]]:
        """Every order that the broker ever received."""
        if self.kind == "paper":
            return self.sql(
                "SELECT client_order_id AS id, leg, state, qty FROM paper.orders WHERE book = :b", b=self.scope
            )
        legs = {o["client_order_id"]: o["leg"] for o in self.orders()}
        if self.kind == "alpaca":  # Alpaca generates the ids of a bracket's legs
            ours = {o["broker_order_id"]: o["client_order_id"] for o in self.orders()}
            rows = [
                (ours.get(o["id"], o["client_order_id"]), o["status"], Decimal(o["qty"]))
                for o in self.remote.orders.values()
            ]
        elif self.exchange == "ib":
            rows = [(o.ref, o.status, o.qty) for o in self.remote.received]
        elif self.exchange in ccxt_rig.SERVERS:  # what a trigger sends is a part of it
            sent = [o for o in self.remote.received if not o["client"].startswith("child-")]
            rows = [(o["client"], o["state"], o["qty"]) for o in sent]
        elif self.kind == "kite":  # what a trigger sends is a part of it
            ours = {o["broker_order_id"]: o["client_order_id"] for o in self.orders()}
            seen = {"PUT ORDER REQ RECEIVED": "OPEN"}  # it is on its way until someone looks
            rows = [
                (o["tag"], seen.get(o["status"], o["status"]), Decimal(o["quantity"]))
                for o in self.remote.received
                if o["tag"]
            ]
            rows += [
                (ours.get(name := f"gtt:{t['id']}", name), t["status"], Decimal(t["orders"][0]["quantity"]))
                for t in self.remote.triggers
            ]
        else:
            rows = [(o.client_order_id, o.state, o.qty) for o, _ in self.remote._read().orders]
        return [{"id": i, "leg": legs.get(i, "?"), "state": state, "qty": qty} for i, state, qty in rows]

    def held(self, symbol: str = "A") -> Decimal:
        return sum((qty for key, qty in self.broker.positions().items() if key[0] == symbol), Decimal(0))

    def outcome(self) -> str:
        """The state of the book in a few words."""
        entries, trades = self.orders("ENTRY"), self.trades()
        if self.locks():
            return "unknown, locked" if any(o["state"] == "UNKNOWN" for o in self.orders()) else "locked"
        if not entries:
            return "nothing traded"
        if entries[-1]["state"] == "CREATED":
            return "unsent"
        if trades[-1]["entry_qty"]:
            return "closed" if trades[-1]["state"] == "CLOSED" else "open, protected"
        return {"NEW": "working"}.get(entries[-1]["state"], entries[-1]["state"].lower())

    def fingerprint(self) -> str:
        """
        Everything that the next run can see, without what differs between two equal books: equal fingerprints lead to
        the same next run.
        """
        rows = [
            (
                name,
                json.dumps({k: (v is None) if unlike(k) else v for k, v in row.items()}, sort_keys=True, default=str),
            )
            for name, found in self._rows()
            for row in found
        ]
        theirs = [] if self.kind == "paper" else [(o["leg"], o["state"], str(o["qty"])) for o in self.theirs()]
        plain = re.sub(r"AP[0-9A-Z]{18}|[0-9a-f]{8}-[0-9a-f-]{27}|trade \d+", "ID", str((sorted(rows), sorted(theirs))))
        return f"{plain} {self.held()}"

    def _rows(self) -> list[tuple[str, list[dict[str, Any]]]]:
        names = [("trading", t, "scope" if t == "control" else "book") for t in STORED]
        names += [("paper", t, "book") for t in PAPER] if self.kind == "paper" else []
        return [
            (
                f"{schema}.{t}",
                [
                    r["row"]
                    for r in self.sql(f"SELECT to_jsonb(t) AS row FROM {schema}.{t} t WHERE {by} = :b", b=self.scope)
                ],
            )
            for schema, t, by in names
        ]

    def state(self) -> list[str]:
        """Everything that a run can change, except the fence."""
        tables = ("orders", "trade", "decision", "intent", "fill", "instrument_lock", "journal", "risk_day")
        rows = [
            str(r) for t in tables for r in self.sql(f"SELECT t::text FROM trading.{t} t WHERE book = :b", b=self.scope)
        ]
        return sorted(rows) + sorted(map(str, self.theirs()))

    def holds(self, *, locked: bool = False) -> None:
        """Checks the invariants (I1 to I14) that are visible at rest."""
        theirs, rows = self.theirs(), {o["client_order_id"]: o for o in self.orders()}
        ids = [o["id"] for o in theirs]
        assert len(ids) == len(set(ids)), "I2: an id was sent twice"
        assert set(ids) <= set(rows), "I3: the broker has an order without a row"
        entries = [i for i in ids if rows[i]["leg"] == "ENTRY"]
        assert len({rows[i]["intent_id"] for i in entries}) == len(entries), "I2: two entries of one intent"
        assert bool(self.locks()) == locked, self.locks()
        live = Counter((rows[o["id"]]["trade_id"], o["leg"]) for o in theirs if o["state"] not in DONE)
        assert not live or max(live.values()) == 1, "I5: two orders of one leg work at the broker"
        wrong = [o for o in rows.values() if not 0 <= o["cum_qty"] <= o["qty"]]
        assert wrong == [], "I4"
        barred = self.barred()
        held = {key[0]: qty for key, qty in self.broker.positions().items()}
        ours = self.sql(
            "SELECT symbol, sum(qty) AS q FROM (SELECT book, symbol, CASE side WHEN 'BUY' THEN qty ELSE -qty END AS qty"
            " FROM trading.fill UNION ALL SELECT book, symbol, after - before FROM trading.adjustment) done"
            " WHERE book = :b GROUP BY 1",
            b=self.scope,
        )
        booked = {o["symbol"]: o["q"] for o in ours if o["q"]}
        for symbol in {*booked, *held} - barred:
            assert booked.get(symbol, 0) == held.get(symbol, 0), f"I1: our fills are not the position in {symbol}"
        running = self.sql(
            "SELECT symbol, market, contract, qty FROM trading.position WHERE book = :b AND qty <> 0 ORDER BY 1, 2, 3",
            b=self.scope,
        )
        assert running == self.sql(WHOLE, b=self.scope), "the running positions are not the sum of the history"
        for trade in self.trades():
            if trade["symbol"] in barred:
                continue
            legs = [o for o in rows.values() if o["trade_id"] == trade["trade_id"]]
            sign = 1 if trade["side"] == "LONG" else -1
            left = trade["entry_qty"] - trade["exit_qty"]
            assert left >= 0, "I8: an exit reversed the position"
            live = [o for o in legs if o["state"] in ("NEW", "PARTIALLY_FILLED")]
            if trade["state"] == "OPEN" and not any(o["leg"] == "EXIT" for o in live):
                stops = [o["qty"] - o["cum_qty"] for o in live if o["leg"] == "STOP"]
                assert stops == [left], "I6: the stop is not the position"
                assert held.get(trade["symbol"], 0) * sign == left
            if trade["state"] == "CLOSED":
                assert not live, "I7: flat, and an exit is working"
        denied = [o for o in rows.values() if o["state"] == "DENIED" and not o["reason"]]
        assert denied == [], "I14"

    def rests(self, day: int) -> None:
        """I10: a repeated run sends nothing and writes nothing."""
        before = self.state()
        self.run(day)
        after = self.state()
        assert after == before, f"I10: {sorted(set(after) ^ set(before))}"


def unlike(column: str) -> bool:
    return column in NAMES or column.endswith(("_id", "_at"))
