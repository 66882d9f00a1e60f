"""
A simulated market traded day by day through the typed commands at a local broker, twice: once undisturbed, once with
commands killed at random, network faults, lagging positions and a clock that is wrong for a while. Operators and cash
do the same in both. Each day the two ledgers must be equal, and equal to their brokers.

SOAK_DAYS sets the number of sessions (5: a week), SOAK_SEED the disturbances, SOAK_BROKER the one of soak_wires.py:
alpaca, ib, kite, binance, bybit or okx, or perpetuals there (binance-perpetual). Where a lost order proves nothing, a
command that is killed right before a send leaves an order that may or may not have arrived: an operator clears it, and
from then on each book is compared with its broker only.
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
from tests import soak_wires

ROOT = Path(__file__).parents[1]
DAYS, SEED = int(os.environ.get("SOAK_DAYS", "5")), int(os.environ.get("SOAK_SEED", "1"))
SYMBOLS = ("ALPHA", "BRAVO", "CHARLIE")
BROKER = os.environ.get("SOAK_BROKER", "alpaca")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]


def config(folder: Path, wire: soak_wires.Wire, book: str) -> Path:
    """The config of the flows' tests, with shares or coins that are traded at a local broker."""
    ini = configparser.ConfigParser()
    ini.optionxform = str  # type: ignore[assignment, method-assign]
    ini.read(ROOT / "tests" / "configs" / "small.ini")
    share = dict(ini["instrument.ALPHA"])
    for section in [s for s in ini.sections() if s.startswith(("instrument.", "broker."))]:
        ini.remove_section(section)
    for symbol in SYMBOLS:
        ini[f"instrument.{symbol}"] = share | wire.terms
    ini["broker.wire"] = wire.keys
    ini["execution"].update({"broker": "wire", "book": book, "mode": wire.mode} | wire.execution)
    wire.prices(folder, ini)
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
    wire: soak_wires.Wire = field(default_factory=lambda: soak_wires.wire(BROKER, SYMBOLS))
    disturbed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config = config(self.folder, self.wire, self.book)
        self.home = self.folder / self.book
        self.home.mkdir()
        ours = {"ALPHAPIVOT_DATABASE__URL": self.url, "ALPHAPIVOT_CONFIG": str(self.config)}
        ours |= {"PREFECT_SERVER_API_PORT": "0"}  # the usual one may be another's
        self.environ = os.environ | ours | {"ALPHAPIVOT_HOME": str(self.home)}
        self.hub = Hub(self.url)

    def close(self) -> None:
        self.hub.close()
        self.wire.server.close()

    def type(self, *command: str, disturb: bool = True) -> None:
        """Types a command; a disturbed one is typed again until it has run undisturbed."""
        if disturb and self.chance is not None:
            clock = self.wire.server.clock
            told = self.wire.disturb(self.chance)
            if told.startswith("clock") and command[0] == "run":  # it decides no entry by a wrong clock, its twin does
                self.wire.server.clock, told = clock, "nothing"
            self.disturbed.append(told)
            kill_after = self.chance.uniform(2, 12) if self.chance.random() < 0.4 else None
            self._run(command, kill_after)
            self.wire.calm()
            self.wire.server.clock = clock
        done = self._run(command, None)
        assert done is not None
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def _run(self, command: tuple[str, ...], kill_after: float | None) -> subprocess.CompletedProcess[str] | None:
        self.wire.begin(self.book, self.home)
        process = subprocess.Popen(
            [sys.executable, "-m", "alphapivot.cli", *command],
            cwd=ROOT,
            env=self.environ | self.wire.environ,
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

    def unsure(self) -> bool:
        """True if an operator had to clear an order that may or may not have arrived."""
        locks = self.sql("SELECT symbol, reason FROM trading.instrument_lock WHERE book = :book AND cleared_at IS NULL")
        if self.wire.sure or not locks or not all("may or may not" in reason for _, reason in locks):
            return False
        unknown = self.sql("SELECT client_order_id FROM trading.orders WHERE book = :book AND state = 'UNKNOWN'")
        for (order,) in unknown:
            self.type("abandon", order, "--reason", "not at the broker", disturb=False)
        for symbol, _ in locks:
            self.type("unlock", symbol, "--reason", "not at the broker", disturb=False)
        return True

    def holds(self) -> None:
        """The ledger is the broker's, nothing is locked, and what is open has its stop."""
        locks = self.sql("SELECT symbol, reason FROM trading.instrument_lock WHERE book = :book AND cleared_at IS NULL")
        assert locks == []
        ours = dict(self.sql("SELECT symbol, qty FROM trading.position WHERE book = :book AND qty <> 0"))
        assert ours == self.wire.held()
        stops = {symbol: qty for symbol, qty in self.wire.stops().items() if ours.get(symbol)}
        assert stops == {symbol: abs(qty) for symbol, qty in ours.items()}

    def move(self, at: datetime, bars: dict[str, tuple[Decimal, ...]], names: str) -> None:
        """The market passes through these prices of its bars."""
        self.wire.at(at)
        for name in names:
            for symbol, bar in bars.items():
                self.wire.move(symbol, bar["ohlc".index(name)])


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
    amount = Decimal(chance.choice((-1, 1)) * chance.randint(1, 5) * 1000)
    symbol = chance.choice(opened) if opened else None
    for desk in desks:
        if what == "close" and symbol is not None:
            desk.type("close", symbol, "--reason", "soak", disturb=False)
        elif what == "cash":
            desk.wire.pay(amount, desk.wire.server.clock())
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
        days, same = sessions(desks[0].hub), True
        for (end, _), (following, bars) in itertools.pairwise(days):
            began, opens = time.monotonic(), following - timedelta(hours=5, minutes=30)  # while its market is open
            moments = [(opens, "o"), (opens + timedelta(minutes=5), "o"), (opens + timedelta(hours=1), "lhc")]
            if before := desks[0].wire.before_close:
                moments.append((following - timedelta(minutes=before), "c"))
            for desk in desks:
                desk.wire.open(False)
                desk.move(end, {}, "")
                desk.type("run", "--no-wait", "--as-of", end.isoformat())
            operate(desks, people)
            for desk in desks:
                desk.wire.open(True)
                for at, prices in moments:
                    desk.move(at, bars, prices)
                    desk.type("manage", "--as-of", at.isoformat())
                if desk.unsure():
                    same = False
                    desk.type("manage", "--as-of", moments[-1][0].isoformat(), disturb=False)
                desk.holds()
                desk.wire.night()
            twin, soak = (desk.trades() for desk in desks)
            assert soak == twin or not same, f"after {following:%Y-%m-%d} and {desks[1].disturbed}"
            states = [t[2] for t in soak]
            sys.stdout.write(
                f"{following:%Y-%m-%d}: {states.count('OPEN')} open, {states.count('CLOSED')} closed,"
                f" {len(desks[1].disturbed)} disturbances, {time.monotonic() - began:.0f} s"
                f"{'' if same else '; not compared with its twin any more'}\n"
            )
        assert desks[1].trades(), "nothing was traded: the soak proves nothing"
    finally:
        for desk in desks:
            desk.close()
