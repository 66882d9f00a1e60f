"""Missing bars are known, requested again for a while, listed, and over when they come."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from alphapivot import hub
from alphapivot.config.sections.screen import Quality
from alphapivot.data.series import holes
from alphapivot.hub.tables import holes as stored
from tests.tasks.market import ends, flat

DAYS = ends("XNYS", "1d", "2024-01-02", "2024-03-10")
MISSING = ["2024-02-05", "2024-02-06", "2024-02-07"]


@pytest.fixture
def holed(market):
    market.configure({"X": {}})
    market.write("X", flat(DAYS).drop(index=MISSING))
    market.ingest("2024-02-16 22:00")
    return market


def known():
    return [
        (f"{r.after:%m-%d}", f"{r.before:%m-%d}", r.missing, r.asked) for r in stored.show(hub.connect()).itertuples()
    ]


def test_a_hole_is_known_and_its_bars_are_taken_when_they_come(holed):
    assert known() == [("02-02", "02-08", 3, 0)]
    holed.ingest("2024-02-17 22:00")
    assert known() == [("02-02", "02-08", 3, 1)]
    holed.ingest("2024-02-17 23:00")  # once a day
    assert known() == [("02-02", "02-08", 3, 1)]
    half = holed.stored("1w").loc["2024-02-09 21:00", "volume"]
    holed.write("X", flat(DAYS))
    holed.ingest("2024-02-20 22:00")
    assert known() == []
    assert [f"{day} 21:00" for day in MISSING] == list(holed.stored().loc["2024-02-05":"2024-02-08"].index[:3])
    assert holed.stored("1w").loc["2024-02-09 21:00", "volume"] > half + 2000


def test_a_part_that_comes_leaves_a_smaller_hole(holed):
    holed.write("X", flat(DAYS).drop(index=MISSING[1:]))
    holed.ingest("2024-02-17 22:00")
    assert known() == [("02-05", "02-08", 2, 0)]


def test_after_its_days_it_is_reported_once_and_only_listed(holed):
    holed.ingest("2024-02-20 22:00")
    receipt = holed.ingest("2024-03-01 23:00")
    expected = "X spot 1d: 3 bars after 2024-02-02 21:00 never came in 1 requests; `alphapivot ingest --from 2024-02-02"
    assert [note.startswith(expected) for note in receipt.notes] == [True]
    assert not holed.ingest("2024-03-05 23:00").notes
    holed.write("X", flat(DAYS))
    holed.ingest("2024-03-06 23:00")
    assert known() == [("02-02", "02-08", 3, 1)]


def found(interval, gone, **quality):
    due = ends("XNYS", interval, "2024-02-01", "2024-02-17")
    bars = pd.DataFrame({"symbol": "X", "market": "spot", "contract": "", "interval": interval, "ts": due.delete(gone)})
    now = datetime(2024, 2, 17, tzinfo=UTC)
    return [h.missing for h in holes.find(bars, {"X": "XNYS"}, {"X": Quality(**quality)}, now)]


def test_a_thin_market_has_no_holes_and_holidays_are_none():
    assert found("1d", []) == []
    assert found("1d", [4]) == [1]
    assert found("5m", [*range(900, 911)]) == []
    assert found("5m", [*range(900, 912)]) == [12]
    assert found("1d", [0, 1, 4], hole_days=2) == []


def test_a_hole_is_due_once_a_day_until_its_days_are_over():
    at = datetime(2024, 2, 16, 22, tzinfo=UTC)
    hole = holes.Hole("X", "spot", "1d", at - timedelta(days=9), at - timedelta(days=5), 3, found_at=at)
    assert hole.due(at, 14)
    asked = replace(hole, asked=1, asked_at=at)
    assert not asked.due(at + timedelta(hours=19), 14)
    assert asked.due(at + timedelta(hours=20), 14)
    assert not asked.due(at + timedelta(days=15), 14)
