"""A backfill in pieces: killed anywhere, the same call resumes and stores what an undisturbed one stores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.config import read
from alphapivot.config.sections.feeds import FilesFeed
from alphapivot.data import pieces
from alphapivot.errors import DataError, Unavailable
from alphapivot.feeds.base import Limit
from alphapivot.feeds.yahoo import LIMITS
from alphapivot.frames import Bars, Rolls
from alphapivot.hub import Hub
from alphapivot.hub.tables import bars as stored
from alphapivot.hub.tables import run_locks
from tasks.local import backfill

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "configs" / "small.ini"
START, END = datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)
BARS = 100  # of one piece: a dozen of them
COMMAND = """
import sys
from datetime import datetime
from alphapivot import process
from alphapivot.data import pieces
from tasks.local import backfill
print("ready", flush=True)
sys.stdin.readline()
pieces.BARS, pieces.TICKERS = int(sys.argv[1]), 2
begin, end = (datetime.fromisoformat(text) for text in sys.argv[2:])
backfill.run(process.configure(), begin, end, lambda done, *_: print(done, flush=True))
"""


@pytest.fixture
def environ(hub_url, monkeypatch):
    """This process and its children work on a fresh database."""
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CONFIG))
    return os.environ | {"PYTHONPATH": str(ROOT)}


def run(**changes):
    seen = []
    done, notes = backfill.run(process.configure(), START, END, lambda *p: seen.append(p))
    return done, notes, seen


def held(hub: Hub):
    """The stored bars and rolls, without their knowledge times."""
    return [hub.read(frame).sort_values(frame.keys(), ignore_index=True) for frame in (Bars, Rolls)]


def count(hub, query):
    with hub.engine.connect() as connection:
        return connection.execute(text(query)).scalar_one()


@pytest.fixture
def in_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "BARS", BARS)
    monkeypatch.setattr(pieces, "TICKERS", 2)


def test_pieces_leave_what_one_piece_leaves(environ, server_url, template, monkeypatch, in_pieces):
    done, notes, seen = run()
    assert len(done) > 10
    assert not notes
    assert seen[0][:2] == (0, len(done))
    assert seen[-1][:2] == (len(done), len(done))
    ours = held(hubs.connect())
    monkeypatch.setattr(pieces, "BARS", 10**6)
    monkeypatch.setattr(pieces, "TICKERS", 100)
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("hub", template=template))
    assert len(run()[0]) == 1 + 1  # SP500 and GOLD have two markets, the others one
    for got, expected in zip(ours, held(hubs.connect()), strict=True):
        pd.testing.assert_frame_equal(got, expected)
    assert count(hubs.connect(), "SELECT count(*) FROM market.bar_revision") == 0


def test_an_interrupted_backfill_does_not_fetch_again_what_is_done(environ, monkeypatch, in_pieces):
    def pull(number, *_):
        if number == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        backfill.run(process.configure(), START, END, pull)
    done, _, _ = run()
    assert [receipt.unchanged for receipt in done] == [True] * 5 + [False] * (len(done) - 5)
    assert count(hubs.connect(), "SELECT count(*) FROM ops.run WHERE state = 'completed'") == 1
    # when all is done, the same call fetches again: a provider may have restated
    again, _, _ = run()
    assert not any(receipt.unchanged for receipt in again)
    assert all(receipt.rows["market.bar new"] == 0 for receipt in again if receipt.rows)


def fetched(*cuts):
    """Backfills from each of these instants to the next."""
    for begin, end in pairwise(cuts):
        backfill.run(process.configure(), begin, end, lambda *_: None)


def rolls_known_at(hub, known_at):
    known = stored.rolls(hub, ["GOLD", "SP500"], until=END, known_at=known_at)
    return known.sort_values(Rolls.keys(), ignore_index=True)


@pytest.mark.parametrize("order", ["newest first", "the middle last"])
def test_in_whatever_order_years_come_they_leave_what_they_leave_in_order(
    environ, server_url, template, monkeypatch, order
):
    first, second = datetime(2023, 6, 7, tzinfo=UTC), datetime(2024, 2, 14, tzinfo=UTC)  # in the middle of a week
    fetched(second, END)
    hub = hubs.connect()
    begun = datetime.now(UTC)
    before = held(hub)[1]
    assert {"GOLD", "SP500"} == set(before["symbol"])
    if order == "newest first":
        fetched(first, second)
        fetched(START, first)
    else:
        fetched(START, first)
        fetched(first, second)
    ours = held(hub)
    pd.testing.assert_frame_equal(rolls_known_at(hub, begun), before)
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("hub", template=template))
    fetched(START, END)
    for got, expected in zip(ours, held(hubs.connect()), strict=True):
        pd.testing.assert_frame_equal(got, expected)
    assert len(ours[1]) > len(before)


def killed(environ, times, bars):
    """Runs a backfill whose process gets SIGKILL ``times`` times, a moment after one of the next pieces starts."""
    chance, furthest = np.random.default_rng(times), 0
    command = [sys.executable, "-c", COMMAND, str(bars), START.isoformat(), END.isoformat()]
    for hit in range(times + 1):
        child = subprocess.Popen(
            command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        child.stdin.write("go\n")
        child.stdin.flush()
        if hit < times:
            goal, begun = furthest + chance.integers(0, 2), -1
            while begun < goal:
                line = child.stdout.readline()
                assert line, child.stderr.read()
                begun = int(line)
            furthest = begun
            time.sleep(chance.uniform(0, 0.3))
            child.send_signal(signal.SIGKILL)
        _, error = child.communicate()
        assert child.returncode == (-signal.SIGKILL if hit < times else 0), error
        if hit == times - 1:
            is_closed_as_failed()


def is_closed_as_failed():
    hub = hubs.connect()
    for _ in range(100):  # until PostgreSQL has noticed that its client is gone
        run_locks.close_abandoned(hub)
        if (state := count(hub, "SELECT state FROM ops.run WHERE kind = 'backfill'")) == "failed":
            break
        time.sleep(0.1)
    assert state == "failed"
    assert "its process died" in count(hub, "SELECT message FROM ops.run WHERE kind = 'backfill'")


def test_two_processes_never_work_at_one_backfill(environ, in_pieces):
    def meanwhile(number, *_):
        if number == 2:
            run_locks.close_abandoned(hubs.connect())
            assert count(hubs.connect(), "SELECT state FROM ops.run") == "running"
            with pytest.raises(DataError, match="under way in another process"):
                run()

    backfill.run(process.configure(), START, END, meanwhile)
    assert count(hubs.connect(), "SELECT state FROM ops.run") == "completed"


@pytest.mark.timeout(900)  # twenty starts of a process that takes seconds to import its stack
@pytest.mark.parametrize(("times", "bars"), [(2, BARS), pytest.param(20, BARS // 2, marks=pytest.mark.slow)])
def test_killed_at_random_points_it_equals_an_undisturbed_one_row_by_row(
    environ, server_url, template, monkeypatch, in_pieces, times, bars
):
    killed(environ, times, bars)
    disturbed = held(hubs.connect())
    assert count(hubs.connect(), "SELECT count(*) FROM market.bar_revision") == 0
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("hub", template=template))
    run()
    for got, expected in zip(disturbed, held(hubs.connect()), strict=True):
        pd.testing.assert_frame_equal(got, expected)


def test_a_provider_that_fails_in_the_middle_leaves_what_is_there(environ, monkeypatch, in_pieces):
    from alphapivot.feeds.simulated import Simulated

    fetch, calls = Simulated.fetch, []

    class Failing(Simulated):
        def fetch(self, requests):
            calls.append(requests)
            if len(calls) == 4:
                raise Unavailable("it is out")
            return fetch(self, requests)

    monkeypatch.setattr("alphapivot.feeds.simulated.Simulated", Failing)
    with pytest.raises(Unavailable, match="it is out"):
        run()
    hub = hubs.connect()
    assert count(hub, "SELECT count(*) FROM ops.receipt") == 3
    assert count(hub, "SELECT message FROM ops.run") == "Unavailable: it is out; run the same command to resume"
    done, _, _ = run()
    assert [r.unchanged for r in done[:4]] == [True, True, True, False]


def test_minutes_of_one_file_are_a_few_pieces():
    settings = read.load(CONFIG)
    alpha = settings.instruments["ALPHA"].model_copy(update={"spot_interval": "1m"})
    feed = FilesFeed(root=Path(), zone="UTC", stamp="start")
    settings = settings.model_copy(update={"instruments": {"ALPHA": alpha}, "feeds": {"simulated": feed}})
    planned, _ = pieces.plan(settings, {"simulated": {}}, START, START + timedelta(minutes=1_051_200), END)
    assert len(planned) == 3  # of 500,000 bars
    assert all(piece.symbols == ("ALPHA",) for piece in planned)


def test_pieces_keep_to_what_the_provider_gives():
    loaded = read.load(ROOT / "config.ini", {}, {"timeframes.base": "1m", "timeframes.weights": "1m: 0.5, 1d: 0.5"})
    now = datetime(2026, 6, 1, tzinfo=UTC)
    planned, notes = pieces.plan(loaded, {"yahoo": LIMITS}, now - timedelta(days=300), now, now)
    assert min(p.since for p in planned) == now - timedelta(days=29)
    assert all(p.until - p.since <= timedelta(days=7) for p in planned)
    assert any("yahoo has 1m bars only from 2026-05-03:" in note for note in notes)
    for symbol in loaded.instruments:
        own = [p for p in planned if symbol in p.symbols]
        assert [p.until for p in own[:-1]] == [p.since for p in own[1:]]
        assert [p.last for p in own] == [False] * (len(own) - 1) + [True]
    hourly = read.load(ROOT / "config.ini", {}, {"timeframes.base": "1h", "timeframes.weights": "1h: 0.5, 1d: 0.5"})
    planned, _ = pieces.plan(hourly, {"yahoo": LIMITS}, now - timedelta(days=3000), now, now)
    assert min(p.since for p in planned) == now - timedelta(days=729)
    daily = read.load(ROOT / "config.ini", {})
    planned, notes = pieces.plan(daily, {"yahoo": {"1d": Limit()}}, now - timedelta(days=3000), now, now)
    assert not notes
    assert {s for p in planned for s in p.symbols} == set(daily.instruments)
