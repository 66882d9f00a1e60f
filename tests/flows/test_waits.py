"""`ingest` over files that end in the past reports missing bars and waits only with --wait."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import psycopg
import pytest

from alphapivot.config import read
from alphapivot.hub.server import embedded
from flows import schedule

ROOT = Path(__file__).parents[2]
SMALL = (ROOT / "tests" / "configs" / "small.ini").read_text()
CONFIG = """
[feed.files]
kind = files
root = .
zone = UTC
stamp = date

[runtime]
feed = files
patience = 0.4

[instrument.OLD]
spot = old.csv
signal_market = spot
trade_market = spot
currency = USD
quote_unit = 1
multiplier = 1
tick = 0.01
lot = 1
margin = 1
tradable = yes
calendar = XNYS

""" + SMALL[SMALL.index("[timeframes]") :]


@pytest.mark.parametrize(
    ("lag", "wait", "skipped"), [(30 * 1440, True, True), (30 * 1440, False, False), (0, True, False)]
)
def test_a_run_is_skipped_whose_bars_are_published_too_late_for_its_patience(tmp_path, lag, wait, skipped):
    path = tmp_path / "config.ini"
    path.write_text(CONFIG.replace("root = .\n", f"root = .\npublication_lag = {lag}\n"))
    reason = schedule.too_early(read.load(path), datetime.now(UTC), wait=wait)
    assert bool(reason) == skipped
    if skipped:
        assert "the bars of OLD are published at" in reason
        assert "[runtime] patience is 0.4" in reason


@pytest.fixture
def ingest(hub_url, home_root, tmp_path):
    """Runs `alphapivot ingest` over a file that ends in 2024; ``server`` is the folder of Prefect's database."""
    days = pd.bdate_range("2024-03-04", periods=30)
    close = pd.Series(range(100, 130), dtype=float)
    table = {"Date": days, "Open": close, "High": close + 1, "Low": close - 1, "Close": close, "Volume": 5}
    pd.DataFrame(table).to_csv(tmp_path / "old.csv", index=False)
    (tmp_path / "config.ini").write_text(CONFIG)
    home = home_root / f"waits-{tmp_path.name}"
    home.mkdir()
    environ = {
        "ALPHAPIVOT_DATABASE__URL": hub_url,
        "ALPHAPIVOT_HOME": str(home),
        "COLUMNS": "80",
        "PYTHONPATH": str(ROOT),
    }

    def run(*options):
        command = [sys.executable, "-m", "alphapivot.cli", "ingest", "--config", str(tmp_path / "config.ini"), *options]
        return subprocess.run(
            command, env=os.environ | environ, capture_output=True, text=True, timeout=280, check=False
        )

    run.server = home / "postgres"
    yield run
    embedded.stop(run.server)


@pytest.mark.prefect
@pytest.mark.timeout(300)
def test_typed_over_files_that_end_it_does_not_wait_and_says_what_is_missing(ingest):
    done = ingest()
    assert done.returncode == 0, done.stderr
    assert "UTC yet: not waiting, using earlier bars" in done.stderr
    assert "\nno bars of OLD for" in f"\n{done.stderr}"
    assert "Completed" in done.stdout
    with psycopg.connect(embedded.start(ingest.server).database("prefect")) as connection:
        logged = connection.execute("SELECT message FROM log WHERE name = 'alphapivot.waiting'").fetchall()
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("no bars of OLD")]
    assert (message,) in logged


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.timeout(300)
def test_asked_to_wait_it_says_for_what_until_when_and_how_not_to(ingest):
    done = ingest("--wait")
    assert done.returncode == 0, done.stderr
    assert "UTC yet: polling every 60 s until" in done.stderr
    assert "([runtime] patience); --no-wait skips the wait" in done.stderr
    assert "Skipped" in done.stdout
    assert "no bars for" in " ".join(done.stdout.split())
