"""
The brokers of the soak, each its own server behind its real client: how its config, its market, its faults and its
account look from outside.

Where an order whose answer was lost proves nothing (``Wire.sure`` False), requests that never arrive are left out: they
lock the symbol for an operator, as tests/execution/test_fault_matrix.py shows row by row.
"""

from __future__ import annotations

import configparser
import os
import random
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from alphapivot.config.sections.feeds import SimulatedFeed
from alphapivot.config.sections.instrument import Instrument
from alphapivot.feeds.base import Request
from alphapivot.feeds.simulated import Simulated
from tests.brokers import alpaca_server, ccxt_rig, ib_server, kite_rig, kite_server
from tests.feeds import kite_server as lists

ARRIVES = ("500", "502", "504", "html", "truncated", "dropped")
COLUMNS = ["ts", "open", "high", "low", "close", "volume"]
D = Decimal


class Wire:
    """
    ``terms``: of every instrument, ``keys``: of the broker's section, ``execution``: of that section, ``environ``: of
    the commands. ``before_close``: minutes before a session's end at which one more run is due.
    """

    sure, before_close, mode = True, 0, "paper"
    terms: dict[str, str] = {}  # noqa: RUF012 - never changed
    execution: dict[str, str] = {}  # noqa: RUF012 - the same

    def __init__(self, server: Any, symbols: tuple[str, ...], keys: dict[str, str], environ: dict[str, str]) -> None:
        self.server, self.symbols, self.keys, self.environ = server, symbols, keys, environ

    def prices(self, folder: Path, ini: configparser.ConfigParser) -> None:
        """Changes the config of a book in ``folder`` where its market is not a simulated one."""

    def begin(self, book: str, home: Path) -> None:
        """Called before each command of a book, whose home it is."""

    def at(self, instant: datetime) -> None:
        self.server.clock = lambda: instant

    def open(self, is_open: bool) -> None:
        """Crypto exchanges are open at all hours."""

    def move(self, symbol: str, price: Decimal) -> None:
        self.server.move(symbol, price)

    def night(self) -> None:
        """The end of a day, where the broker forgets it."""

    def pay(self, amount: Decimal, at: datetime) -> bool:
        """A payment; False if the broker cannot tell it."""
        return False

    def disturb(self, chance: random.Random) -> str:
        raise NotImplementedError

    def calm(self) -> None:
        self.server.faults.clear()

    def held(self) -> dict[str, Decimal]:
        raise NotImplementedError

    def stops(self) -> dict[str, Decimal]:
        """What the stops that work at the broker protect."""
        raise NotImplementedError


class Alpaca(Wire):
    FAULTS = ("lost", "never", "dropped", "500", "502", "503", "504", "html", "truncated", "429")
    PATHS = ("POST", "PATCH", "DELETE", "GET /v2/orders", "GET /v2/positions", "GET /v2/account")
    execution = {"position_wait": "2"}  # noqa: RUF012 - never changed

    def __init__(self, symbols: tuple[str, ...]) -> None:
        server = alpaca_server.Alpaca()
        money = ("cash", "equity", "non_marginable_buying_power", "buying_power")
        server.account |= dict.fromkeys(money, "100000")
        keys = {"kind": "alpaca", "currency": "USD", "base_url": server.url, "timeout": "3"}
        super().__init__(server, symbols, keys, {"APCA_API_KEY_ID": "key", "APCA_API_SECRET_KEY": "secret"})

    def open(self, is_open: bool) -> None:
        self.server.open = is_open

    def pay(self, amount: Decimal, at: datetime) -> bool:
        self.server.cash("CSW" if amount < 0 else "CSD", f"{amount}", at)
        return True

    def disturb(self, chance: random.Random) -> str:
        kind = chance.choice(("fault", "fault", "lag", "clock", "nothing"))
        if kind == "fault":
            path, fault = chance.choice(self.PATHS), chance.choice(self.FAULTS)
            self.server.fault(path, fault, times=chance.randint(1, 2))
            return f"{fault} on {path}"
        if kind == "lag":
            self.server.lag = 3
        elif kind == "clock":
            clock, ahead = self.server.clock, timedelta(seconds=chance.choice((-7200, -30, 30, 7200)))
            self.server.clock = lambda: clock() + ahead
            return f"clock {ahead.total_seconds():+.0f} s"
        return kind

    def calm(self) -> None:
        super().calm()
        self.server.lag = 0

    def held(self) -> dict[str, Decimal]:
        return {s: q for s, q in self.server.positions.items() if q}

    def stops(self) -> dict[str, Decimal]:
        works = ("held", "new", "accepted")
        orders = [o for o in self.server.orders.values() if o["type"] == "stop" and o["status"] in works]
        return {o["symbol"]: D(o["qty"]) for o in orders}


class Crypto(Wire):
    """Coins at an exchange."""

    execution = {"allow_shorts": "no"}  # noqa: RUF012 - never changed
    perpetual = False

    def __init__(self, symbols: tuple[str, ...], exchange: str) -> None:
        server = ccxt_rig.SERVERS[exchange](perpetual=self.perpetual)
        server.pairs = dict.fromkeys(symbols, ("0.01", "1"))
        self.terms = {"calendar": "24/7", "currency": "USDT"}
        self.sure = exchange == "binance" and not self.perpetual
        tickers = ", ".join(f"{s}: {ccxt_rig.ticker(s, perpetual=self.perpetual)}" for s in symbols)
        keys = {"kind": "ccxt", "exchange": exchange, "currency": "USDT", "base_url": server.url, "timeout": "3"}
        keys |= {"trades": "perpetual" if self.perpetual else "spot"}
        names = {"API_KEY": server.key, "API_SECRET": server.secret, "API_PASSPHRASE": "p"}
        environ = {f"{exchange.upper()}_{name}": value for name, value in names.items()}
        super().__init__(server, symbols, keys | {"symbols": tickers}, environ)

    def pay(self, amount: Decimal, at: datetime) -> bool:
        if self.keys["exchange"] == "binance" and not self.perpetual:
            return False
        self.server.transfer(amount, at=at)
        return True

    def disturb(self, chance: random.Random) -> str:
        kind = chance.choice(("fault", "fault", "clock", "nothing"))
        if kind == "fault":
            path = chance.choice(("POST", "DELETE", "GET"))
            fault = chance.choice((*ARRIVES, "429") if path == "POST" and not self.sure else (*ARRIVES, "lost", "429"))
            self.server.fault(path, fault, times=chance.randint(1, 2), after=chance.randint(0, 5))
            return f"{fault} on {path}"
        if kind == "clock":
            clock, ahead = self.server.clock, timedelta(seconds=chance.choice((-30, 30)))
            self.server.clock = lambda: clock() + ahead
            return f"clock {ahead.total_seconds():+.0f} s"
        return kind

    def held(self) -> dict[str, Decimal]:
        return {coin: qty for coin, qty in self.server.coins.items() if qty and coin != "USDT"}

    def stops(self) -> dict[str, Decimal]:
        orders = [*self.server.orders, *self.server.triggers]
        return {o["base"]: o["qty"] for o in orders if o["kind"] == "STOP" and o["state"] == "NEW"}


class Perpetuals(Crypto):
    """The simulated feed has none: its coins' prices, in files, are theirs."""

    execution: dict[str, str] = {}  # noqa: RUF012 - never changed
    perpetual = True

    def prices(self, folder: Path, ini: configparser.ConfigParser) -> None:
        keys = {name: ini["feed.simulated"][name] for name in ("seed", "start", "end")}
        feed, until = Simulated("simulated", SimulatedFeed(**keys)), datetime.fromisoformat(f"{keys['end']}T23:59Z")
        (folder / "prices").mkdir(exist_ok=True)
        for symbol in self.symbols:
            section = ini[f"instrument.{symbol}"]
            coin = Instrument(symbol=symbol, **section)
            bars = feed.fetch([Request(coin, "spot", "1d", None, until)]).bars
            bars[["ts", "open", "high", "low", "close", "volume"]].to_csv(
                folder / "prices" / f"{symbol}.csv", index=False
            )
            del section["spot"]
            section.update({"futures": f"{symbol}.csv", "margin": "0.1"})
            section.update(dict.fromkeys(("signal_market", "trade_market"), "futures"))
        ini.remove_section("feed.simulated")
        ini["feed.files"] = {"kind": "files", "root": "prices", "zone": "UTC", "stamp": "end"}
        ini["runtime"]["feed"] = "files"

    def held(self) -> dict[str, Decimal]:
        return {base: qty for base, (qty, _) in self.server.nets.items() if qty}


class InteractiveBrokers(Wire):
    sure = False

    def __init__(self, symbols: tuple[str, ...]) -> None:
        pytest.importorskip("ib_async")
        server = ib_server.Gateway()
        for number, symbol in enumerate(symbols, 1):
            server.add(ib_server.Contract(number, symbol, hours=ib_server.ALWAYS))
        contracts = ", ".join(f"{s}: {s}@SMART" for s in symbols)
        keys = {"kind": "ib", "currency": "USD", "port": str(server.port), "timeout": "3", "contracts": contracts}
        super().__init__(server, symbols, keys, {})

    def night(self) -> None:
        self.server.night()

    def disturb(self, chance: random.Random) -> str:
        kind = chance.choice(("drop", "mute", "list", "list", "cut", "nothing"))
        if kind == "drop":
            self.server.drop = "after"
        elif kind == "mute":
            self.server.mute_orders = True
        elif kind == "list":  # positions, open and completed orders, executions, values
            self.server.silent = {chance.choice((61, 5, 99, 7, 6))}
            return f"no answer to {self.server.silent}"
        elif kind == "cut":
            self.server.cut_off = True
        return kind

    def calm(self) -> None:
        self.server.drop, self.server.mute_orders, self.server.silent, self.server.cut_off = None, False, set(), False

    def held(self) -> dict[str, Decimal]:
        names = {c.con_id: c.symbol for c in self.server.contracts}
        return {names[number]: qty for number, (qty, _) in self.server.positions.items() if qty}

    def stops(self) -> dict[str, Decimal]:
        return {o.contract.symbol: o.qty - o.filled for o in self.server.orders.values() if o.kind == "STP"}


class Zerodha(Wire):
    sure, before_close, mode = False, 8, "live"
    terms = {"calendar": "NSE", "currency": "INR", "tick": "0.05"}  # noqa: RUF012 - never changed
    execution = {"allow_shorts": "no"}  # noqa: RUF012 - the same

    def __init__(self, symbols: tuple[str, ...]) -> None:
        server = kite_server.Kite()
        rows = [f"{900 + n},1,{s},{s},0.0,,0.0,0.05,1,EQ,NSE,NSE" for n, s in enumerate(symbols)]
        lists.LISTED["NSE"] = [*(row for row in lists.LISTED["NSE"] if row not in rows), *rows]
        tickers = ", ".join(f"{s}: {s}" for s in symbols)
        keys = {"kind": "kite", "base_url": server.url, "timeout": "3", "symbols": tickers}
        super().__init__(server, symbols, keys, {"KITE_API_KEY": server.key})

    def begin(self, book: str, home: Path) -> None:
        self.environ["ALPHAPIVOT_LIVE"] = book
        with mock.patch.dict(os.environ, {"ALPHAPIVOT_HOME": str(home)}):
            kite_rig.log_in()  # of the real day

    def open(self, is_open: bool) -> None:
        self.server.open = is_open

    def night(self) -> None:
        self.server.night()

    def disturb(self, chance: random.Random) -> str:
        if chance.random() < 0.2:
            return "nothing"
        path = chance.choice(("POST /orders", "POST /gtt", "DELETE", "GET"))
        lost = path in ("GET", "DELETE")
        fault = chance.choice((*ARRIVES, "429", "503") if lost else (*ARRIVES, "429"))
        self.server.fault(path, fault, times=1, after=chance.randint(0, 5) if path == "GET" else 0)
        return f"{fault} on {path}"

    def held(self) -> dict[str, Decimal]:
        return {s: qty for s in self.symbols if (qty := self.server.held(s))}

    def stops(self) -> dict[str, Decimal]:
        orders = [o for o in self.server.orders if o["order_type"] in kite_server.RESTS]
        rest = {o["tradingsymbol"]: D(o["quantity"]) for o in orders if o["status"] not in kite_server.FINAL}
        triggers = [t for t in self.server.triggers if t["status"] == "active"]
        return rest | {t["condition"]["tradingsymbol"]: D(t["orders"][0]["quantity"]) for t in triggers}


def wire(name: str, symbols: tuple[str, ...]) -> Wire:
    """``name``: alpaca, ib, kite, or a crypto exchange, such as binance for coins, binance-perpetual."""
    exchange, _, perpetual = name.partition("-")
    if exchange in ccxt_rig.SERVERS:
        pytest.importorskip("ccxt")
        return (Perpetuals if perpetual else Crypto)(symbols, exchange)
    return {"alpaca": Alpaca, "ib": InteractiveBrokers, "kite": Zerodha}[name](symbols)
