"""Stored data when config.ini changes later: a feed for one command, another interval, an instrument that is gone."""

from __future__ import annotations

import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot import cli, hub
from alphapivot.frames import Actions
from alphapivot.hub.tables import series
from alphapivot.reports.terminal import terminal
from tasks.local import backfill
from tests.tasks.market import ends, flat, open_trade

DAYS = ends("XNYS", "1d", "2024-01-02", "2024-03-15")
SECOND = "[feed.second]\nkind = files\nroot = second\nzone = America/New_York\nstamp = date\n"


def upto(last):
    return flat(DAYS[DAYS.strftime("%Y-%m-%d") <= last])


def paying(prices, **dividends):
    """``prices`` with a column of dividends by day, such as d0214=0.5."""
    amounts = {f"2024-{day[1:3]}-{day[3:]}": amount for day, amount in dividends.items()}
    return prices.assign(dividend=[amounts.get(day, 0.0) for day in prices.index])


def events():
    found = hub.connect().read(Actions).sort_values("ts")
    return [(f"{e.ts:%m-%d}", e.value, e.source) for e in found.itertuples()]


def sources(market):
    return market.stored()["source"].value_counts().to_dict()


@pytest.fixture
def once(market):
    """Stored from the usual feed, with two dividends; a second feed that dates them otherwise, and one of its time."""
    (market.folder / "second").mkdir()
    market.configure({"X": {}}, SECOND + "columns = dividend: dividend\n\n", columns="dividend: dividend")
    market.write("X", paying(upto("2024-03-08"), d0214=0.5, d0306=0.25))
    market.write("second/X", paying(upto("2024-03-12"), d0215=0.5, d0311=0.1))
    market.ingest("2024-03-08 22:00")
    market.only("second")
    receipt = market.ingest("2024-03-12 21:00", "second")
    market.only(None)
    market.notes = receipt.notes
    return market


def test_a_feed_for_one_command_withdraws_no_event_of_the_usual_one(once):
    assert events() == [("02-14", 0.5, "files"), ("03-06", 0.25, "files"), ("03-11", 0.1, "second")]
    (note,) = once.notes
    assert note.startswith("X spot 1d: second answers in place of files: its bars, and its splits and dividends after")
    assert note.endswith("2024-03-08 21:00, count until files answers again; to keep second, set it in config.ini")


def test_the_usual_feed_takes_over_again_with_all_bars_and_events(once):
    once.write("X", paying(upto("2024-03-13"), d0214=0.5, d0306=0.25))
    receipt = once.ingest("2024-03-13 21:00")
    assert events() == [("02-14", 0.5, "files"), ("03-06", 0.25, "files")]
    assert list(sources(once)) == ["files"]
    assert any("files is back; its bars replace" in note for note in receipt.notes)


def test_a_feed_that_stored_all_bars_keeps_its_events_whatever_the_config_says(market):
    (market.folder / "second").mkdir()
    market.configure({"X": {}}, SECOND + "columns = dividend: dividend\n\n", columns="dividend: dividend")
    market.write("second/X", paying(upto("2024-03-12"), d0215=0.5))
    market.only("second")
    receipt = market.ingest("2024-03-12 21:00", "second")
    assert receipt.notes == ()
    assert events() == [("02-15", 0.5, "second")]


def test_another_interval_is_refused_for_its_own_instrument_and_loaded_once_cleared(market):
    market.configure({"X": {"spot_interval": "30m"}, "W": {}}, stamp="end")
    market.write("X", flat(ends("XNYS", "30m", "2024-02-26", "2024-03-12"), "America/New_York"))
    market.write("W", flat(DAYS, "America/New_York"))
    market.ingest("2024-03-08 22:00")
    market.write("X", flat(DAYS, "America/New_York"))
    market.configure({"X": {}, "W": {}}, stamp="end")
    receipt = market.ingest("2024-03-11 22:00")
    (note,) = receipt.notes
    assert "X spot 1d: its stored bars are of 30m, the config now says 1d" in note
    assert "clear it: alphapivot data clear X --market spot --reason" in note
    assert market.stored(symbol="W").index[-1] == "2024-03-11 20:00"
    assert cli.main(["data", "clear", "X", "--market", "spot", "--reason", "daily now"]) == 0
    market.ingest("2024-03-11 22:10")
    assert market.stored("30m").empty
    assert list(sources(market)) == ["files"]


def test_an_instrument_that_is_gone_is_told_until_its_bars_are_cleared(market, capsys):
    market.configure({"X": {}, "W": {}})
    for symbol in "XW":
        market.write(symbol, upto("2024-03-08"))
    market.ingest("2024-03-08 22:00")
    market.configure({"W": {}})
    (told,) = series.removed(hub.connect(), ["W"])
    assert told.startswith("X: its bars up to 2024-03-08 are stored, but config.ini has no [instrument.X]")
    assert "alphapivot data clear X --reason" in told
    terminal.status(hub.connect(), market.settings)
    assert "but config.ini has no" in capsys.readouterr().out
    open_trade("X", "test")
    clear = ["data", "clear", "X", "--reason", "it is delisted"]
    assert cli.main(clear) == 1
    with hub.connect().engine.begin() as conn:
        conn.execute(text("SET session_replication_role = replica"))
        conn.execute(text("DELETE FROM trading.trade"))
    assert cli.main(clear) == 0
    assert market.stored().empty
    assert series.removed(hub.connect(), ["W"]) == []
    assert cli.main(["data", "clear", "Y", "--reason", "a typo"]) == 1


def test_a_ticker_that_names_another_series_is_told(market):
    market.configure({"X": {}, "W": {}})
    market.write("X", upto("2024-03-08"))
    market.write("W", upto("2024-03-08"))
    market.ingest("2024-03-08 22:00")
    market.write("X", upto("2024-03-11") * 1.02)
    market.write("W", upto("2024-03-11"))
    receipt = market.ingest("2024-03-11 22:00")
    (note,) = receipt.notes
    assert note.startswith("X spot 1d: all 5 stored bars that came again close elsewhere, by 200 to 200 bp")
    assert note.endswith("the bars before do not join: alphapivot data clear X --market spot --reason '...'")
    assert market.ingest("2024-03-11 22:10").notes == ()


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (
            DAYS[DAYS.strftime("%m-%d") != "03-07"],
            "1 of the stored bars, from 2024-03-07 21:00 to 2024-03-07 21:00 UTC",
        ),
        (
            DAYS[DAYS.strftime("%m-%d") <= "03-05"],
            "3 of the stored bars, from 2024-03-06 21:00 to 2024-03-08 21:00 UTC",
        ),
        (DAYS[DAYS.strftime("%m-%d") >= "03-07"], None),  # a file of the last days only
    ],
)
def test_bars_that_the_file_no_longer_has_stay_and_are_told(market, left, told):
    market.configure({"X": {}, "Y": {}})
    market.write("X", upto("2024-03-08"))
    market.write("Y", flat(DAYS))
    assert market.ingest("2024-03-08 22:00").notes == ()
    stored = len(market.stored())
    market.write("X", flat(left))
    notes = [note for note in market.ingest("2024-03-11 22:00").notes if "no longer" in note]
    assert [note.split(" no longer has ")[1].split(";")[0] for note in notes] == ([told] if told else [])
    assert all("[feed.files]" in note and "alphapivot data clear X --market spot" in note for note in notes)
    assert len(market.stored()) == stored + (DAYS[DAYS.strftime("%m-%d") == "03-11"][0] in left)


def test_a_backfill_tells_what_is_gone_in_the_middle(market):
    market.configure({"X": {}})
    market.write("X", flat(DAYS))
    market.ingest("2024-03-15 22:00")
    market.write("X", flat(DAYS.delete([10, 11, 12])))
    whole = (pd.Timestamp(day, tz="UTC").to_pydatetime() for day in ("2024-01-01", "2024-03-16"))
    receipts, _ = backfill.run(market.settings, *whole, progress=lambda *_: None)
    notes = [note for receipt in receipts for note in receipt.notes]
    assert any(
        f"3 of the stored bars, from {DAYS[10]:%Y-%m-%d %H:%M} to {DAYS[12]:%Y-%m-%d %H:%M} UTC" in n for n in notes
    )


def test_the_bar_before_what_is_asked_for_is_not_missed_in_series_that_end_apart(market):
    market.configure({"X": {}, "Y": {}})
    market.write("X", upto("2024-02-20"))
    market.write("Y", upto("2024-03-08"))
    market.ingest("2024-03-08 22:00")
    market.write("Y", flat(DAYS))
    assert [note for note in market.ingest("2024-03-11 22:00").notes if "no longer" in note] == []
