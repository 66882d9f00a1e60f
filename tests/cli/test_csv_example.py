"""examples/csv.ini as a new user runs it: files in its layout beside it, then the commands of docs/examples.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot.hub import Hub
from tests.tasks.market import ends

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PRICES = ["Open", "High", "Low", "Close"]
D = Decimal


def write(folder: Path) -> None:
    """Two years of a share that rises by a third of a point a day and falls each third day, and its futures."""
    days = ends("XNYS", "1d", "2023-01-01", "2024-12-21")
    close = pd.Series([round(400 + n / 3 - (2 if n % 3 == 0 else 0), 2) for n in range(len(days))])
    share = pd.DataFrame({"Date": days.strftime("%Y-%m-%d"), "Open": close - 0.5, "High": close + 2, "Low": close - 2})
    share = share.assign(Close=close, Volume=1_000_000)
    (folder / "shares").mkdir(parents=True)
    (folder / "futures").mkdir()
    share.to_csv(folder / "shares" / "SPY.csv", index=False, float_format="%.2f")
    (folder / "shares" / "SPY-events.csv").write_text("Date,Split,Dividend\n2024-06-21,,1.5\n")
    for number, quarter in enumerate(pd.period_range("2023-03", "2025-03", freq="3M")):
        left = (pd.Timestamp(f"{quarter}-15") - pd.to_datetime(share["Date"])).dt.days
        rows = share[left.between(0, 250)].copy()
        rows[PRICES] = (rows[PRICES] * 40 + 20 * number).round() / 4
        rows["OpenInterest"] = (200_000 - 1000 * left).where(left >= 8, 50)
        rows.to_csv(folder / "futures" / f"ES_{quarter:%Y%m}.csv", index=False)


@pytest.fixture
def desk(server, home_root, tmp_path):
    """A function that types a command in a new user's folder; ``hub``: the database beside it."""
    write(tmp_path / "prices")
    shutil.copy(ROOT / "examples" / "csv.ini", tmp_path / "config.ini")
    home = home_root / "csv"
    home.mkdir()
    url = server.database(f"csv_{os.getpid()}")
    environ = os.environ | {"ALPHAPIVOT_HOME": str(home), "ALPHAPIVOT_DATABASE__URL": url, "PYTHONPATH": str(ROOT)}
    environ.pop("ALPHAPIVOT_CONFIG", None)

    def command(*words: str) -> str:
        typed = [sys.executable, "-m", "alphapivot.cli", *words]
        done = subprocess.run(
            typed, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    with Hub(url) as hub:
        command.hub = hub
        yield command


def rows(desk, query):
    with desk.hub.engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


def test_from_the_files_to_protected_fills(desk):
    told = desk("check")
    assert "config.ini is good: 2 instruments" in told
    desk("ingest", "--from", "2023-01-01")
    assert rows(desk, "SELECT count(*) FROM market.bar WHERE symbol = 'SPY' AND interval = '1d'") == [(496,)]
    assert rows(desk, "SELECT kind, value FROM market.corporate_action") == [("dividend", 1.5)]
    assert rows(desk, "SELECT contract FROM market.roll ORDER BY ts DESC LIMIT 1") == [("ES_202503",)]
    desk("signals", "--as-of", "2024-12-19T23:00:00Z")
    desk("trade", "--as-of", "2024-12-19T23:00:00Z")
    pending = "SELECT symbol, contract, side, state FROM trading.trade ORDER BY symbol"
    assert rows(desk, pending) == [("SP500", "ES_202503", "LONG", "PENDING"), ("SPY", "", "LONG", "PENDING")]
    desk("run", "--no-wait", "--as-of", "2024-12-20T23:00:00Z")
    fills = rows(desk, "SELECT symbol, price, qty, fee, ts FROM trading.fill")
    day = datetime(2024, 12, 20, 21, tzinfo=UTC)
    assert sorted(fills) == [  # the open and two basis points, a tick up; 2.25 a contract, 0.005 a share
        ("SP500", D("5666.25"), D(1), D("2.25"), day.replace(hour=22)),
        ("SPY", D("562.62"), D(60), D("0.30"), day),
    ]
    resting = "SELECT symbol, leg, qty FROM trading.orders WHERE state = 'NEW' ORDER BY symbol, leg"
    assert rows(desk, resting) == [(s, leg, q) for s, q in (("SP500", 1), ("SPY", 60)) for leg in ("STOP", "TARGET")]
