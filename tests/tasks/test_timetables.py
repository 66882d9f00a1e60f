"""A corrected timetable never leaves two bars for one day: what is stored is cleared first, with a reason."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from alphapivot import cli, hub
from alphapivot.errors import DataError
from tasks.local import clear
from tests.tasks.market import ends, flat, open_trade

DAYS = ends("XNYS", "1d", "2024-01-02", "2024-03-10")
PARTS = ends("XNYS", "30m", "2024-02-26", "2024-03-09")


def rows(query):
    with hub.connect().engine.connect() as connection:
        return connection.execute(text(query)).all()


@pytest.fixture
def loaded(market):
    market.configure({"X": {}, "W": {}})
    for symbol in "XW":
        market.write(symbol, flat(DAYS))
    market.ingest("2024-02-16 22:00")
    return market


def test_another_calendar_is_refused_for_its_own_instrument_and_loaded_again_once_cleared(loaded):
    loaded.configure({"X": {"calendar": "CMES"}, "W": {}})
    receipt = loaded.ingest("2024-02-20 23:30")
    (note,) = receipt.notes
    assert "33 of its stored bars of 1d do not end where CMES says (the last at 2024-02-16 21:00 UTC)" in note
    assert "clear it: alphapivot data clear X --market spot --reason" in note
    assert loaded.stored().index[-1] == "2024-02-16 21:00"
    assert loaded.stored(symbol="W").index[-1] == "2024-02-20 21:00"
    before = loaded.stored()
    assert cli.main(["data", "clear", "X", "--reason", "it trades in Chicago"]) == 0
    assert loaded.stored().empty
    assert rows("SELECT count(*) FROM market.bar_revision WHERE symbol = 'X' AND interval = '1d'") == [(len(before),)]
    (run,) = rows("SELECT message FROM ops.run WHERE kind = 'data'")
    assert run.message.endswith("bars of X: it trades in Chicago")
    loaded.ingest("2024-02-20 23:45")
    again = loaded.stored()
    assert again["ts"].dt.date.is_unique
    assert again.index[-1] == "2024-02-20 23:00"
    assert len(again) == len(before) + 1


@pytest.mark.parametrize("change", [{"daily_stamp": "settlement 15:30"}, {"session": "09:15-16:00"}])
def test_hours_that_move_what_is_made_of_the_bars_are_noticed(market, change):
    market.configure({"X": {"spot_interval": "30m"}}, stamp="end")
    market.write("X", flat(PARTS, "America/New_York"))
    market.ingest("2024-03-07 23:00")
    market.configure({"X": {"spot_interval": "30m"} | change}, stamp="end")
    with pytest.raises(DataError, match="do not end where XNYS"):
        market.ingest("2024-03-08 23:00")


def test_a_stamp_that_was_wrong_is_noticed_although_all_bars_end_somewhere(market):
    market.configure({"X": {"spot_interval": "30m"}}, stamp="end")
    market.write("X", flat(PARTS, "America/New_York"))
    market.ingest("2024-03-07 23:00")
    market.configure({"X": {"spot_interval": "30m"}}, stamp="start")
    with pytest.raises(DataError, match="were read with stamp = end America/New_York, the config now says start"):
        market.ingest("2024-03-08 23:00")


def test_hours_that_change_nothing_stored_are_taken_up(loaded):
    loaded.configure({"X": {"session": "09:30-16:00"}, "W": {"daily_stamp": "last, 2024-02-18: settlement 16:30"}})
    loaded.ingest("2024-02-20 23:30")
    assert loaded.stored().index[-1] == "2024-02-20 21:00"
    assert loaded.stored(symbol="W").index[-1] == "2024-02-20 21:30"


def test_part_of_a_series_is_cleared_and_its_watermark_goes_back(loaded):
    since = datetime(2024, 2, 9, tzinfo=UTC)
    assert clear.clear(loaded.settings, clear.Span("X", since=since), by="ann", why="a bad file") > 5
    assert loaded.stored().index[-1] == "2024-02-08 21:00"
    assert rows("SELECT newest FROM market.series WHERE symbol = 'X'") == [(datetime(2024, 2, 8, 21, tzinfo=UTC),)]
    loaded.ingest("2024-02-16 23:00")
    assert loaded.stored().index[-1] == "2024-02-16 21:00"


def test_it_is_refused_while_a_trade_is_open_and_without_a_reason(loaded):
    with pytest.raises(DataError, match="needs a reason"):
        clear.clear(loaded.settings, clear.Span("X"), by="ann", why=" ")
    open_trade("X", "test")
    open_trade("X", "bt-1")  # a backtest's is in nobody's way
    with pytest.raises(DataError, match="a trade in X is open in book test: its stop is met at these bars"):
        clear.clear(loaded.settings, clear.Span("X"), by="ann", why="x")
    assert len(loaded.stored()) > 30
