"""
The pipeline at Binance, by the typed commands and through Prefect: candles from there, signals, an entry whose fee is
paid in the coin, its stop at the exchange, and a fall through it.
"""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from alphapivot.hub import Hub
from tests.brokers import binance_orders

pytest.importorskip("ccxt")
pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(900)]

D = Decimal
ROOT = Path(__file__).parents[2]
COIN = {"spot": "BTC/USDT", "calendar": "24/7", "currency": "USDT", "tick": "0.1", "lot": "0.001", "tradable": "yes"}
FIRST = datetime(2024, 12, 1, tzinfo=UTC)


def rising(at):
    """A candle of a market that rises by ten dollars a day, one day in three falls."""
    days = (at - FIRST).days
    close = 10_000 + 10 * days - (60 if days % 3 == 0 else 0)
    return close - 10, close + 40, close - 40, close


@pytest.fixture
def desk(server, home_root, tmp_path):
    """A function that types a command, with the exchange and the database beside it."""
    coins = binance_orders.market()
    coins.pairs, coins.fee, coins.candle = {"BTC": ("0.1", "0.001")}, D("0.001"), rising
    ini = configparser.ConfigParser()
    ini.optionxform = str
    ini.read(ROOT / "tests" / "configs" / "small.ini")
    for section in [s for s in ini.sections() if s.startswith(("instrument.", "broker.", "feed."))]:
        ini.remove_section(section)
    ini["instrument.BTC"] = COIN
    ini["runtime"]["feed"] = "binance"
    at = {"kind": "ccxt", "exchange": "binance", "base_url": coins.url}
    ini["feed.binance"] = at | {"start": "2024-12-01"}
    ini["broker.binance"] = at | {"currency": "USDT"}
    ini["composite"].update({"weights": "trend: 0.6, momentum: 0.4", "optional": ""})
    ini["execution"].update({"broker": "binance", "book": "coins", "mode": "paper", "position_wait": "0"})
    file = tmp_path / "config.ini"
    with file.open("w") as out:
        ini.write(out)
    home = home_root / "ccxt"
    home.mkdir()
    url = server.database(f"ccxt_{os.getpid()}")
    environ = os.environ | {"ALPHAPIVOT_HOME": str(home), "ALPHAPIVOT_DATABASE__URL": url}
    environ |= {"ALPHAPIVOT_CONFIG": str(file), "BINANCE_API_KEY": coins.key, "BINANCE_API_SECRET": coins.secret}

    def command(*words):
        typed = [sys.executable, "-m", "alphapivot.cli", *words]
        done = subprocess.run(typed, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    with Hub(url) as hub:
        command.coins, command.hub = coins, hub
        yield command
    coins.close()


def trades(desk):
    with desk.hub.engine.connect() as conn:
        rows = conn.execute(text("SELECT * FROM trading.trade ORDER BY trade_id")).mappings()
        return [dict(row) for row in rows]


def manage(desk, at, price):
    instant = datetime.fromisoformat(f"{at}+00:00")
    desk.coins.move("BTC", price, instant)
    desk("manage", "--as-of", instant.isoformat())


def test_from_the_candles_to_a_stop_that_is_reached(desk):
    coins, decided = desk.coins, datetime(2025, 12, 10, tzinfo=UTC)
    coins.clock, coins.prices["BTC"] = (lambda: decided), D(13_740)
    desk("ingest", "--from", "2024-12-01", "--to", "2025-12-10")
    desk("run", "--no-wait", "--as-of", "2025-12-10T00:00+00:00")
    (trade,) = trades(desk)
    (entry,) = coins.received
    assert (trade["state"], trade["side"], entry["kind"], entry["side"]) == ("PENDING", "LONG", "MARKET", "BUY")
    manage(desk, "2025-12-10 00:05", 13_741)
    kept = (entry["qty"] * D("0.999")) // D("0.001") * D("0.001")
    stop = coins.received[-1]
    assert (stop["kind"], stop["state"], stop["qty"]) == ("STOP", "NEW", kept)
    price = trades(desk)[0]["stop"] - 5
    manage(desk, "2025-12-10 08:00", price)
    (closed,) = trades(desk)
    assert (closed["state"], closed["close_reason"], closed["exit_price"]) == ("CLOSED", "stop", price)
    assert closed["exit_qty"] == closed["entry_qty"] == kept
    assert closed["realised"] == coins.coins["USDT"] - 100_000
    with desk.hub.engine.connect() as conn:
        assert conn.execute(text("SELECT reason FROM trading.instrument_lock")).all() == []
