"""Ingesting step by step stores the same as ingesting all at once: bars, higher timeframes, rolls."""

from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.frames import Bars, Rolls
from tasks import ingest, runs

ROOT = Path(__file__).parents[2]
STOXX = ROOT.parent / "shared" / "data" / "eurostoxx50_2006"


@pytest.fixture
def ingested(server_url, template, monkeypatch):
    """What the hub holds after the ingest step at each of these instants, on a fresh database."""

    def at(config, instants, **changes):
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("hub", template=template))
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(ROOT / "tests" / "configs" / config))
        for key, value in changes.items():
            monkeypatch.setenv(f"ALPHAPIVOT_{key}", value)
        settings = process.configure()
        for instant in instants:
            run = runs.begin("replay", settings, key=f"ingest {instant}", as_of=datetime.fromisoformat(instant))
            for feed, shard in ingest.batches(run):
                ingest.ingest.fn(run, feed, shard)
        return [hubs.connect().read(frame).sort_values(frame.keys(), ignore_index=True) for frame in (Bars, Rolls)]

    return at


def assert_same(ingested, config, instants, **changes):
    steps, once = ingested(config, instants, **changes), ingested(config, instants[-1:], **changes)
    for ours, expected in zip(steps, once, strict=True):
        pd.testing.assert_frame_equal(ours, expected)
    return once


def test_a_market_that_opens_after_its_calendars_session_keeps_every_daily_bar(ingested):
    if not STOXX.is_dir():
        pytest.skip(f"{STOXX} is not there")
    # the index is quoted from 09:00, the exchange's session begins at 08:00
    days = [f"2006-01-{day:02}T{hour}:00:00+00:00" for day in (4, 5, 6) for hour in (11, 21)]
    bars, _ = assert_same(
        ingested, "eurostoxx.ini", days, TIMEFRAMES__BASE="15m", TIMEFRAMES__WEIGHTS="15m: 0.5, 1d: 0.5"
    )
    spot = bars[(bars["market"] == "spot") & (bars["interval"] == "1d")]
    # the first day's session began before the first quote was due: its bar is not known to be whole
    assert [str(t.date()) for t in spot["ts"]] == ["2006-01-03", "2006-01-04", "2006-01-05", "2006-01-06"]


def test_intraday_contracts_roll_though_no_timeframe_is_a_day_long(ingested):
    hours = [f"2023-03-{day:02}T{hour}:30:00+00:00" for day in (8, 9, 10, 13) for hour in (15, 22)]
    changes = {"TIMEFRAMES__BASE": "15m", "TIMEFRAMES__WEIGHTS": "15m: 0.5, 1h: 0.5"}
    _, rolls = assert_same(ingested, "small.ini", hours, **changes)
    assert len(rolls[rolls["previous"] != ""]) == 2


def test_daily_bars_weeks_and_rolls(ingested):
    days = [f"2023-{month:02}-{day:02}T23:30:00+00:00" for month in (3, 6) for day in range(7, 16, 2)]
    bars, rolls = assert_same(ingested, "small.ini", days)
    assert set(bars["interval"]) == {"1d", "1w"}
    assert len(rolls[rolls["previous"] != ""]) == 4
