"""An interrupted backfill over files resumes only if its files are unchanged and it is less than a day old."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot import hub, process
from alphapivot.data import pieces
from alphapivot.errors import DataError, Unavailable
from alphapivot.feeds.files.feed import Files
from alphapivot.hub.tables import run_locks
from tasks import backfill as tasks_backfill
from tasks.local import backfill
from tests.flows.test_waits import CONFIG

START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture
def interrupted(hub_url, tmp_path, monkeypatch):
    """Settings whose backfill has failed after its first piece."""
    days = pd.bdate_range("2024-01-02", "2024-05-31")
    close = pd.Series(range(100, 100 + len(days)), dtype=float)
    table = {"Date": days, "Open": close, "High": close + 1, "Low": close - 1, "Close": close, "Volume": 5}
    pd.DataFrame(table).to_csv(tmp_path / "old.csv", index=False)
    (tmp_path / "config.ini").write_text(CONFIG)
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setattr(pieces, "BARS", 60)
    settings = process.configure(str(tmp_path / "config.ini"))
    calls = []

    class Failing(Files):
        def fetch(self, requests):
            calls.append(requests)
            if len(calls) in (2, 3):  # ahead, and in its turn
                raise Unavailable("it is out")
            return super().fetch(requests)

    monkeypatch.setattr("alphapivot.feeds.files.feed.Files", Failing)
    with pytest.raises(Unavailable):
        run(settings)
    return settings


def test_the_next_piece_is_read_once_while_this_one_is_written(interrupted, monkeypatch):
    asked, taken, take = [], [], tasks_backfill.Ahead.take
    fetch = Files.fetch
    monkeypatch.setattr(Files, "fetch", lambda feed, requests: asked.append(requests[0].until) or fetch(feed, requests))
    monkeypatch.setattr(tasks_backfill.Ahead, "take", lambda *a: taken.append(len(asked)) or take(*a))
    unchanged, _ = run(interrupted)
    assert unchanged == [True, *[False] * (len(unchanged) - 1)]
    assert asked == sorted(set(asked))  # the first piece is not read again, and no other one twice
    assert len(asked) == len(unchanged) - 1
    assert taken == [0, *range(2, len(asked) + 1), len(asked)][: len(asked)]


def run(settings):
    messages = []
    done, _ = backfill.run(settings, START, END, lambda *_: None, messages.append)
    return [receipt.unchanged for receipt in done], messages


def test_it_resumes_while_its_files_are_the_same(interrupted):
    (first, *rest), (message,) = run(interrupted)
    assert first
    assert rest
    assert not any(rest)
    assert message.startswith("resumes the backfill started at")


def test_a_file_that_was_mended_since_is_read_from_its_start(interrupted, tmp_path):
    later = time.time() + 5
    os.utime(tmp_path / "old.csv", (later, later))
    unchanged, (message,) = run(interrupted)
    assert not any(unchanged)
    assert "is not resumed (old.csv has changed since): everything is fetched again" in message


def test_a_file_that_was_put_in_its_place_with_an_older_time_is_read_from_its_start(interrupted, tmp_path):
    os.utime(tmp_path / "old.csv", (1, 1))  # as cp -p and rsync -t leave it
    unchanged, (message,) = run(interrupted)
    assert not any(unchanged)
    assert "is not resumed (old.csv has changed since): everything is fetched again" in message


def test_what_was_begun_days_ago_is_fetched_again(interrupted):
    with hub.connect().engine.begin() as conn:
        conn.execute(text("UPDATE ops.run SET started_at = started_at - interval '2 days'"))
    unchanged, (message,) = run(interrupted)
    assert not any(unchanged)
    assert "is not resumed (it is more than a day old, and providers restate)" in message


def test_one_that_another_process_is_at_is_left_to_it_however_old_it_is(interrupted):
    database = hub.connect()
    with database.engine.begin() as conn:
        (run_id,) = conn.execute(text("SELECT run_id FROM ops.run")).scalars()
        aged = "UPDATE ops.run SET state = 'running', started_at = started_at - interval '2 days'"
        conn.execute(text(aged))
    with run_locks.held(database, run_id), pytest.raises(DataError, match="is under way in another process"):
        run(interrupted)
