"""Calendars that config.ini corrects, and those of India that come with AlphaPivot, against the NSE's circulars."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from alphapivot import cli
from alphapivot.calendar import bar_ends, india, schedule
from alphapivot.calendar.hours import Hours, special
from alphapivot.config.sections.calendar import CalendarSection, hours_of
from alphapivot.errors import ConfigError
from tests.tasks.market import ends


def sessions(hours, first, last):
    """The sessions of some days in the exchange's time: 2025-02-01 09:15-15:30."""
    at = [pd.Timestamp(t, tz="UTC").to_pydatetime() for t in (first, last)]
    table = bar_ends.sessions(hours, *at)
    zone = schedule.of(hours).zone
    local = table.apply(lambda column: column.dt.tz_convert(zone).dt.strftime("%H:%M"))
    return [f"{day:%Y-%m-%d} {a}-{b}" for day, a, b in zip(table.index, local["open"], local["close"], strict=True)]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        pytest.param("2025-01-31", "2025-02-03", ["2025-01-31 09:15-15:30", "2025-02-01 09:15-15:30"], id="budget"),
        pytest.param("2026-01-31", "2026-02-02", ["2026-02-01 09:15-15:30"], id="a budget on Sunday"),
        pytest.param("2023-11-11", "2023-11-13", ["2023-11-12 18:15-19:15"], id="Muhurat on Sunday"),
        pytest.param("2025-10-21", "2025-10-23", ["2025-10-21 13:45-14:45"], id="Muhurat on a holiday"),
        pytest.param("2024-01-20", "2024-01-23", ["2024-01-20 09:15-15:30"], id="Saturday for Monday"),
        pytest.param("2026-01-15", "2026-01-16", [], id="an election"),
        pytest.param("2026-08-03", "2026-08-04", ["2026-08-03 09:15-15:40"], id="hours since August 2026"),
    ],
)
def test_derivatives_of_the_nse_trade_as_its_circulars_say(first, last, expected):
    assert sessions(hours_of("NFO"), first, last) == expected


def test_shares_close_in_the_auction_since_august_2026():
    assert sessions(hours_of("NSE"), "2026-07-31", "2026-08-04") == ["2026-07-31 09:15-15:30", "2026-08-03 09:15-15:35"]


@pytest.mark.parametrize("name", ["NSE", "NFO"])
def test_shares_and_their_derivatives_have_their_own_hours(name):
    spot, futures = (sessions(hours_of(name, None, m), "2026-08-03", "2026-08-04") for m in ("spot", "futures"))
    assert (spot, futures) == (["2026-08-03 09:15-15:35"], ["2026-08-03 09:15-15:40"])


@pytest.mark.parametrize(
    ("name", "first", "last", "expected"),
    [
        pytest.param("MCX", "2025-01-01", "2025-01-02", ["2025-01-01 09:00-17:00"], id="no evening on New Year's Day"),
        pytest.param("MCX", "2025-02-26", "2025-02-27", ["2025-02-26 17:00-23:55"], id="an evening in winter"),
        pytest.param("MCX", "2025-03-10", "2025-03-11", ["2025-03-10 09:00-23:30"], id="New York's summer time"),
        pytest.param("MCX", "2025-04-14", "2025-04-15", ["2025-04-14 17:00-23:30"], id="an evening in summer"),
        pytest.param("MCX", "2025-04-18", "2025-04-19", [], id="Good Friday"),
        pytest.param("MCX", "2025-11-03", "2025-11-04", ["2025-11-03 09:00-23:55"], id="New York's winter time"),
        pytest.param("CDS", "2025-04-01", "2025-04-02", [], id="annual closing of banks"),
        pytest.param("CDS", "2026-08-26", "2026-08-27", [], id="a bank holiday on which shares trade"),
        pytest.param("CDS", "2026-08-27", "2026-08-28", ["2026-08-27 09:00-17:00"], id="a usual day"),
    ],
)
def test_commodities_and_currencies_trade_as_published(name, first, last, expected):
    assert sessions(hours_of(name), first, last) == expected


def test_a_session_in_two_parts_has_a_break_between_them():
    hours = hours_of("NSE")
    low, high = (pd.Timestamp(t, tz="UTC").to_pydatetime() for t in ("2024-03-02", "2024-03-03"))
    parts = bar_ends.bar_ends(hours, "30m", low, high).tz_convert("Asia/Kolkata")
    assert [f"{t:%H:%M}" for t in parts] == ["09:45", "10:00", "12:00", "12:30"]


def test_every_shipped_year_has_its_muhurat_session_and_about_250_others():
    for name in ("NSE", "NFO"):
        labels = pd.DatetimeIndex(schedule.of(hours_of(name)).labels)
        assert labels.is_monotonic_increasing
        assert labels.is_unique
        for year in range(2015, 2026):
            assert 243 <= (labels.year == year).sum() <= 252
            muhurat = [day for day in india.MUHURAT if day.startswith(str(year))]
            assert pd.Timestamp(muhurat[0]) in labels


def test_a_week_ends_with_its_special_session():
    weeks = bar_ends.bar_ends(hours_of("NSE"), "1w", *(pd.Timestamp(t, tz="UTC") for t in ("2025-01-27", "2025-02-09")))
    assert [f"{t:%Y-%m-%d %H:%M}" for t in weeks] == ["2025-02-01 10:00", "2025-02-07 10:00"]


def test_days_and_hours_of_ones_own_win_over_those_that_are_shipped():
    own = CalendarSection(base="NSE", open="2026-11-08 18:00-19:00, 2025-10-21 18:00-19:00", closed="2025-02-01")
    hours = hours_of("MINE", own)
    assert sessions(hours, "2025-02-01", "2025-02-03") == []
    assert sessions(hours, "2025-10-21", "2025-10-22") == ["2025-10-21 18:00-19:00"]
    assert sessions(hours, "2026-11-08", "2026-11-09") == ["2026-11-08 18:00-19:00"]
    assert str(hours) == "MINE"
    assert sessions(hours_of("M", CalendarSection(base="NSE", closed="2025-02-03")), "2025-02-03", "2025-02-04") == []


def test_a_holiday_of_the_calendar_may_be_a_session_and_a_session_a_holiday():
    hours = Hours("CMES", open="2024-12-25 10:00-12:00", closed="2024-12-26")
    found = sessions(hours, "2024-12-25", "2024-12-27")
    assert "2024-12-25 10:00-12:00" in found
    assert not [s for s in found if s.startswith("2024-12-26")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2025-02-01", "should be a date and its hours, such as 2025-02-01 09:15-15:30"),
        ("2025-02-01 15:30-09:15", "must ascend within the day"),
        ("2025-02-01 09:15-10:00, 2025-02-01 11:00-12:00", "2025-02-01 appears twice; join its hours with"),
    ],
)
def test_a_mistake_in_a_special_session_says_what_is_expected(text, message):
    with pytest.raises(ValueError, match=message):
        special(text)


def test_hours_may_be_joined():
    assert special("2024-03-02 09:15-10:00 + 11:30-12:30") == {date(2024, 3, 2): [(555, 600), (690, 750)]}


def test_bars_of_a_special_session_come_in_and_its_calendar_is_printed(market, capsys):
    own = "[calendar.MINE]\nbase = XBOM\nopen = 2025-02-01 09:15-15:30\nclosed = 2026-01-15\n"
    market.configure({"X": {"calendar": "MINE"}, "W": {"calendar": "NSE"}, "B": {"calendar": "XBOM"}}, own)
    prices = pd.DataFrame(
        {"close": 100.0, "volume": 1.0}, index=["2025-01-30", "2025-01-31", "2025-02-01", "2025-02-03"]
    )
    for symbol in "XWB":
        market.write(symbol, prices)
    receipt = market.ingest("2025-02-03 12:00")
    assert [len(market.stored(symbol=symbol)) for symbol in "XWB"] == [4, 4, 3]
    assert [note.split(" (")[0] for note in receipt.notes] == ["B: 1 bars quarantined"]
    assert cli.main(["data", "calendar", "MINE", "--from", "2025-01-31", "--to", "2025-02-03"]) == 0
    printed = capsys.readouterr().out
    assert "2025-02-01 Sat" in printed
    assert "09:15-15:30" in printed
    restored = type(market.settings).restore(market.settings.stored())
    assert restored.instruments == market.settings.instruments


def test_a_calendar_that_does_not_exist_names_the_nearest(market):
    with pytest.raises(ConfigError, match=r"\[calendar.MINE\] base = XBOMB: unknown; did you mean XBOM"):
        market.configure({"X": {"calendar": "MINE"}}, "[calendar.MINE]\nbase = XBOMB\n")
    assert len(ends("XBOM", "1d", "2025-01-01", "2025-02-01")) == 23
