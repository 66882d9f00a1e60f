"""
A simulated market traded day by day through the typed commands at a local Alpaca, twice: once undisturbed, once with
commands killed at random, network faults, lagging positions and a clock that is wrong for a while. Operators and cash
do the same in both. Each day the two ledgers must be equal, and equal to their brokers.

SOAK_DAYS sets the number of sessions (5: a week), SOAK_SEED the disturbances.
"""

from __future__ import annotations

import configparser
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from alphapivot.hub import Hub
from tests.brokers import alpaca_server

ROOT = Path(__file__).parents[1]
DAYS, SEED = int(os.environ.get("SOAK_DAYS", "5")), int(os.environ.get("SOAK_SEED", "1"))
SYMBOLS = ("ALPHA", "BRAVO", "CHARLIE")
FAULTS = ("lost", "never", "dropped", "500", "502", "503", "504", "html", "truncated", "429")
PATHS = ("POST", "PATCH", "DELETE", "GET /v2/orders", "GET /v2/positions", "GET /v2/account")
MONEY = ("cash", "equity", "non_marginable_buying_power", "buying_power")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]


def config(folder: Path, url: str, book: str) -> Path:
    """The config of the flows' tests, with shares that are traded at a local Alpaca."""
    ini = configparser.ConfigParser()
    ini.optionxform = str  # type: ignore[assignment, method-assign]
    ini.read(ROOT / "tests" / "configs" / "small.ini")
    share = dict(ini["instrument.ALPHA"])
    for section in [s for s in ini.sections() if s.startswith(("instrument.", "broker."))]:
        ini.remove_section(section)
    for symbol in SYMBOLS:
        ini[f"instrument.{symbol}"] = share
    ini["broker.alpaca"] = {"kind": "alpaca", "currency": "USD", "base_url": url, "timeout": "3"}
    ini["execution"].update({"broker": "alpaca", "book": book, "mode": "paper", "position_wait": "2"})
    file = folder / f"{book}.ini"
    with file.open("w") as out:
        ini.write(out)
    return file


@dataclass
class Desk:
    """One book: its broker, its database, and the commands that are typed for it."""

    book: str
    folder: Path
    url: str
    chance: random.Random | None = None  # None: nothing is disturbed
    broker: alpaca_server.Alpaca = field(default_factory=alpaca_server.Alpaca)
    disturbed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.broker.account |= dict.fromkeys(MONEY, "100000")
        self.config = config(self.folder, self.broker.url, self.book)
        keys = {"APCA_API_KEY_ID": "key", "APCA_API_SECRET_KEY": "secret", "ALPHAPIVOT_DATABASE__URL": self.url}
        home = self.folder / self.book
        home.mkdir()
        self.environ = os.environ | keys | {"ALPHAPIVOT_HOME": str(home), "ALPHAPIVOT_CONFIG": str(self.config)}
        self.hub = Hub(self.url)

    def close(self) -> None:
        self.hub.close()
        self.broker.close()

    def type(self, *command: str, disturb: bool = True) -> None:
        """Types a command; a disturbed one is typed again until it has run undisturbed."""
        if disturb and self.chance is not None:
            clock = self.broker.clock
            self._disturb()
            kill_after = self.chance.uniform(2, 12) if self.chance.random() < 0.4 else None
            self._run(command, kill_after)
            self.broker.faults.clear()
            self.broker.lag, self.broker.clock = 0, clock
        done = self._run(command, None)
        assert done is not None
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def _disturb(self) -> None:
        assert self.chance is not None
        kind = self.chance.choice(("fault", "fault", "lag", "clock", "nothing"))
        if kind == "fault":
            path, fault = self.chance.choice(PATHS), self.chance.choice(FAULTS)
            self.broker.fault(path, fault, times=self.chance.randint(1, 2))
            kind = f"{fault} on {path}"
        elif kind == "lag":
            self.broker.lag = 3
        elif kind == "clock":
            clock, ahead = self.broker.clock, timedelta(seconds=self.chance.choice((-7200, -30, 30, 7200)))
            self.broker.clock = lambda: clock() + ahead
            kind = f"clock {ahead.total_seconds():+.0f} s"
        self.disturbed.append(kind)

    def _run(self, command: tuple[str, ...], kill_after: float | None) -> subprocess.CompletedProcess[str] | None:
        process = subprocess.Popen(
            [sys.executable, "-m", "alphapivot.cli", *command],
            cwd=ROOT,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=kill_after or 300)
        except subprocess.TimeoutExpired:
            if kill_after is None:
                raise
            self.disturbed.append(f"killed after {kill_after:.1f} s")
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def sql(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.hub.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values | {"book": self.book})]

    def trades(self) -> list[tuple[Any, ...]]:
        return self.sql(
            "SELECT symbol, side, state, qty, entry_qty, round(entry_price, 6), exit_qty, round(exit_price, 6), stop,"
            " target, close_reason FROM trading.trade WHERE book = :book AND :book = book ORDER BY created_at, symbol"
        )

    def holds(self) -> None:
        """The ledger is the broker's, nothing is locked, and what is open has its stop."""
        locks = self.sql("SELECT symbol, reason FROM trading.instrument_lock WHERE book = :book AND cleared_at IS NULL")
        assert locks == []
        ours = dict(self.sql("SELECT symbol, qty FROM trading.position WHERE book = :book AND qty <> 0"))
        assert ours == {s: q for s, q in self.broker.positions.items() if q}
        protected = {
            o["symbol"]: Decimal(o["qty"])
            for o in self.broker.orders.values()
            if o["type"] == "stop" and o["status"] in ("held", "new", "accepted") and ours.get(o["symbol"])
        }
        assert protected == {symbol: abs(qty) for symbol, qty in ours.items()}

    def move(self, at: datetime, bars: dict[str, tuple[Decimal, ...]], names: str) -> None:
        """The market passes through these prices of its bars."""
        self.broker.clock = lambda: at
        for name in names:
            for symbol, bar in bars.items():
                self.broker.move(symbol, bar["ohlc".index(name)])


def sessions(hub: Hub) -> list[tuple[datetime, dict[str, tuple[Decimal, ...]]]]:
    """(end of a session, symbol -> open, high, low, close) of the newest sessions, oldest first."""
    query = """
        SELECT ts, symbol, open, high, low, close FROM market.bar
        WHERE interval = '1d' AND symbol = ANY(:symbols) ORDER BY ts, symbol
    """
    found: dict[datetime, dict[str, tuple[Decimal, ...]]] = {}
    with hub.engine.connect() as connection:
        for ts, symbol, *prices in connection.execute(text(query), {"symbols": list(SYMBOLS)}):
            found.setdefault(ts, {})[symbol] = tuple(Decimal(str(round(p, 2))) for p in prices)
    return [(ts, bars) for ts, bars in sorted(found.items()) if len(bars) == len(SYMBOLS)][-DAYS - 1 :]


def operate(desks: list[Desk], chance: random.Random) -> None:
    """What people do, in both books alike."""
    opened = [t[0] for t in desks[0].trades() if t[2] == "OPEN"]
    what = chance.choice(("nothing", "nothing", "close", "cash", "halt"))
    amount = f"{chance.choice((-1, 1)) * chance.randint(1, 5) * 1000}"
    symbol = chance.choice(opened) if opened else None
    for desk in desks:
        if what == "close" and symbol is not None:
            desk.type("close", symbol, "--reason", "soak", disturb=False)
        elif what == "cash":
            desk.broker.cash("CSW" if amount.startswith("-") else "CSD", amount, desk.broker.clock())
        elif what == "halt":
            desk.type("halt", "--reason", "soak", disturb=False)
            desk.type("resume", "--reason", "soak", disturb=False)
    sys.stdout.write(f"  people: {what} {symbol if what == 'close' else amount if what == 'cash' else ''}\n")


def test_a_disturbed_book_equals_its_undisturbed_twin(server, home_root):
    chance = random.Random(SEED)  # noqa: S311 - no secret
    desks = [
        Desk(name, home_root, server.database(f"soak_{name}_{os.getpid()}"), chance if name == "soak" else None)
        for name in ("twin", "soak")
    ]
    people = random.Random(SEED)  # noqa: S311 - no secret
    try:
        for desk in desks:
            desk.type("ingest", "--from", "2023-01-01", "--to", "2025-06-27", disturb=False)
        days = sessions(desks[0].hub)
        for (end, _), (following, bars) in itertools.pairwise(days):
            began = time.monotonic()
            opens = following.replace(hour=0, minute=0) + timedelta(hours=14, minutes=30)  # after New York's open
            for desk in desks:
                desk.broker.open = False
                desk.move(end, {}, "")
                desk.type("run", "--no-wait", "--as-of", end.isoformat())
            operate(desks, people)
            for desk in desks:
                desk.broker.open = True
                desk.move(opens, bars, "o")
                desk.type("manage", "--as-of", opens.isoformat())
                desk.move(opens + timedelta(minutes=5), bars, "o")
                desk.type("manage", "--as-of", (opens + timedelta(minutes=5)).isoformat())
                desk.move(opens + timedelta(hours=1), bars, "lhc")
                desk.type("manage", "--as-of", (opens + timedelta(hours=1)).isoformat())
                desk.holds()
            twin, soak = (desk.trades() for desk in desks)
            assert soak == twin, f"after {following:%Y-%m-%d} and {desks[1].disturbed}"
            states = [t[2] for t in twin]
            sys.stdout.write(
                f"{following:%Y-%m-%d}: {states.count('OPEN')} open, {states.count('CLOSED')} closed,"
                f" {len(desks[1].disturbed)} disturbances, {time.monotonic() - began:.0f} s\n"
            )
        assert desks[1].trades(), "nothing was traded: the soak proves nothing"
    finally:
        for desk in desks:
            desk.close()
