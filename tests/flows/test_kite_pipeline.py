"""
The pipeline at Zerodha, by the typed commands and through Prefect: candles from Kite, signals, an entry that waits for
the open, its stop of the day, the trigger of the night, and a gap at the next open.
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
from tests.brokers import kite_rig, kite_server

pytest.importorskip("kiteconnect")
pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SHARE = {"spot": "INFY", "calendar": "NSE", "currency": "INR", "tick": "0.05", "feed": "kite", "tradable": "yes"}
FIRST = datetime(2024, 12, 2, tzinfo=UTC)


def rising(at):
    """A candle of a market that rises by half a rupee a day, one day in three falls."""
    days = (at.tz_convert("UTC").to_pydatetime() - FIRST).days
    close = 1000 + days / 2 - (3 if days % 3 == 0 else 0)
    return close - 0.5, close + 2, close - 2, close


@pytest.fixture
def desk(server, home_root, tmp_path, monkeypatch):
    """A function that types a command, with the server and the database beside it."""
    kite = kite_server.Kite(cash=1_000_000)
    kite.bar = rising
    ini = configparser.ConfigParser()
    ini.optionxform = str
    ini.read(ROOT / "tests" / "configs" / "small.ini")
    for section in [s for s in ini.sections() if s.startswith(("instrument.", "broker.", "feed."))]:
        ini.remove_section(section)
    ini["instrument.INFY"] = SHARE
    ini["runtime"]["feed"] = "kite"
    ini["feed.kite"] = {"kind": "kite", "base_url": kite.url, "start": "2024-12-01", "patience": "9"}
    ini["broker.kite"] = {"kind": "kite", "base_url": kite.url}
    ini["composite"].update({"weights": "trend: 0.6, momentum: 0.4", "optional": ""})
    ini["execution"].update({"broker": "kite", "book": "zerodha", "mode": "live", "position_wait": "0"})
    file = tmp_path / "config.ini"
    with file.open("w") as out:
        ini.write(out)
    home = home_root / "kite"
    home.mkdir()
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(home))
    kite_rig.log_in()
    url = server.database(f"kite_{os.getpid()}")
    environ = os.environ | {"KITE_API_KEY": kite.key, "ALPHAPIVOT_LIVE": "zerodha", "ALPHAPIVOT_DATABASE__URL": url}
    environ |= {"ALPHAPIVOT_CONFIG": str(file)}

    def command(*words):
        typed = [sys.executable, "-m", "alphapivot.cli", *words]
        done = subprocess.run(typed, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    with Hub(url) as hub:
        command.kite, command.hub = kite, hub
        yield command
    kite.close()


def trades(desk):
    query = "SELECT * FROM trading.trade ORDER BY trade_id"
    with desk.hub.engine.connect() as conn:
        return [dict(row) for row in conn.execute(text(query)).mappings()]


def manage(desk, at, price=None):
    instant = datetime.fromisoformat(f"{at}+00:00")
    desk.kite.clock = lambda: instant
    if price is not None:
        desk.kite.move("INFY", price)
    desk("manage", "--as-of", instant.isoformat())


def test_from_the_candles_to_a_stop_that_fills_over_night(desk):
    kite = desk.kite
    desk("ingest", "--from", "2024-12-01", "--to", "2025-12-11")
    kite.open, kite.prices["INFY"] = False, Decimal(1186)
    kite.clock = lambda: datetime(2025, 12, 10, 11, tzinfo=UTC)
    desk("run", "--no-wait", "--as-of", "2025-12-10T11:00+00:00")
    (trade,) = trades(desk)
    assert (trade["state"], trade["side"], kite.received) == ("PENDING", "LONG", []), "the market is closed"
    kite.open = True
    manage(desk, "2025-12-11 04:00", 1186)
    (entry,) = kite.received
    assert (entry["order_type"], entry["product"], entry["status"]) == ("MARKET", "CNC", "OPEN")
    manage(desk, "2025-12-11 04:05", 1186)
    stop = kite.received[-1]
    assert (stop["order_type"], stop["status"], stop["quantity"]) == ("SL-M", "TRIGGER PENDING", entry["quantity"])
    manage(desk, "2025-12-11 09:52")
    (trigger,) = kite.triggers
    assert (trigger["status"], trigger["orders"][0]["quantity"]) == ("active", entry["quantity"])
    assert stop["status"] == "CANCELLED"
    kite.night()
    price = trades(desk)[0]["stop"] - 5
    manage(desk, "2025-12-12 03:50", price)
    (closed,) = trades(desk)[:1]
    assert (closed["state"], closed["close_reason"], closed["exit_price"]) == ("CLOSED", "stop", price)
    assert closed["exit_qty"] == closed["entry_qty"] == entry["quantity"]
    with desk.hub.engine.connect() as conn:
        assert conn.execute(text("SELECT reason FROM trading.instrument_lock")).all() == []
