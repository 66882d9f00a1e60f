"""Half a session is not a day: a daily bar waits for its session's last parts, or for what completes it without."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from alphapivot import hub
from alphapivot.hub.tables import issues
from tests.tasks.market import ends, flat

PARTS = ends("XNYS", "30m", "2024-02-26", "2024-03-09")
LAST_DAY = "2024-03-06"
WHOLE_DAYS = ["2024-03-04 21:00", "2024-03-05 21:00"]
NIGHT = f"{LAST_DAY} 21:30"


def until(local: str):
    """30-minute bars of New York up to a local time."""
    prices = flat(PARTS, "America/New_York")
    return prices[prices.index <= local]


@pytest.fixture
def half(market):
    """The file stops at 11:00 on the last day: 3 of 13 parts."""
    market.configure({"X": {"spot_interval": "30m"}}, stamp="end")
    market.write("X", until(f"{LAST_DAY} 11:00"))
    market.ingest(NIGHT)
    return market


def halts():
    with hub.connect().engine.connect() as connection:
        return issues.reasons(issues.halted(connection, None), datetime.now(UTC))


def test_the_last_day_of_a_file_that_stops_in_the_morning_is_not_a_bar(half):
    assert list(half.stored().index[-2:]) == WHOLE_DAYS
    assert list(half.stored("30m").index[-1:]) == [f"{LAST_DAY} 16:00"]
    half.ingest("2024-04-06 21:30")  # however late it is
    assert list(half.stored().index[-2:]) == WHOLE_DAYS
    assert list(half.stored("1w").index) == ["2024-03-01 21:00"]


def test_the_day_is_made_of_all_its_parts_once_the_last_one_is_there(half):
    half.write("X", until(f"{LAST_DAY} 16:00"))
    receipt = half.ingest(f"{LAST_DAY} 22:30")
    day = half.stored().loc[f"{LAST_DAY} 21:00"]
    assert day["volume"] == half.stored("30m").loc[lambda b: b["ts"] > "2024-03-06T00Z", "volume"].sum()
    assert not any("short day" in note for note in receipt.notes)


def test_the_next_sessions_first_bar_completes_it_and_it_is_reported_and_not_traded_on(half):
    prices = until("2024-03-07 10:00")
    half.write("X", prices[(prices.index <= f"{LAST_DAY} 11:00") | (prices.index > "2024-03-07")])
    receipt = half.ingest("2024-03-07 15:01")
    assert half.stored().index[-1] == f"{LAST_DAY} 21:00"
    assert "X: 1 bars halted (short day)" in receipt.notes
    assert halts() == {"X": "data:short day"}
    (shown,) = issues.show(hub.connect(), "X").itertuples()
    assert shown.detail.startswith("its last 10 bars of 30m (77%) are missing: the newest is of 2024-03-06 16:00")
    half.write("X", until("2024-03-07 16:00"))  # the hole is filled, and the next day is whole
    half.ingest("2024-03-07 21:30")
    assert halts() == {}
    assert len(half.stored().loc[f"{LAST_DAY}" :]) == 2


def test_a_market_that_is_always_quoted_for_a_part_of_its_session_is_not_late_and_not_short(market):
    market.configure({"X": {"spot_interval": "30m"}}, stamp="end")
    prices = until(f"{LAST_DAY} 13:00")
    market.write("X", prices[prices.index.str[-5:] <= "13:00"])  # 6 of 13 parts are missing, 46 %
    receipt = market.ingest(NIGHT)
    assert market.stored().index[-1] == f"{LAST_DAY} 21:00"
    assert halts() == {}
    assert "X: 2 bars flagged (short day)" in receipt.notes  # the first two days that it has
    market.write("X", until("2024-03-07 12:00").loc[lambda p: p.index.str[-5:] <= "13:00"])
    market.ingest("2024-03-07 21:30")
    assert market.stored().index[-1] == f"{LAST_DAY} 21:00"  # less than usual


def test_a_day_without_trades_in_its_last_minutes_is_flagged_and_traded_on(market):
    market.configure({"X": {"spot_interval": "30m", "quality": "complete_after: 20"}}, stamp="end")
    market.write("X", until(f"{LAST_DAY} 15:30"))
    market.ingest(f"{LAST_DAY} 21:19")
    assert list(market.stored().index[-2:]) == WHOLE_DAYS
    receipt = market.ingest(f"{LAST_DAY} 21:20")  # its patience of 20 minutes has passed
    assert market.stored().index[-1] == f"{LAST_DAY} 21:00"
    assert "X: 1 bars flagged (short day)" in receipt.notes
    assert halts() == {}
