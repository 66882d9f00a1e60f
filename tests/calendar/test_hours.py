"""An instrument's own hours applied to a calendar: against exchanges' published hours and exchange_calendars itself."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapivot.calendar import bar_ends, exchange, hours, schedule
from alphapivot.calendar.hours import Hours
from alphapivot.data import resample
from alphapivot.frames import Bars

EQUITY_FUTURES = Hours("CMES", session="17:00-16:00", breaks="15:15-15:30, 2021-06-28: none")


def utc(text):
    return pd.Timestamp(text, tz="UTC").to_pydatetime()


def texts(stamps):
    return [f"{t:%Y-%m-%d %H:%M}" for t in stamps]


def ends(calendar, interval, start, end):
    return texts(bar_ends.bar_ends(calendar, interval, utc(start), utc(end)))


def test_the_daily_break_of_chicago_is_closed_although_its_calendar_runs_round_the_clock():
    # 17:00 to 16:00 in Chicago, UTC-5 in summer
    assert ends("CMES", "1d", "2024-07-09", "2024-07-11") == ["2024-07-09 22:00", "2024-07-10 22:00"]
    assert ends(EQUITY_FUTURES, "1d", "2024-07-09", "2024-07-11") == ["2024-07-09 21:00", "2024-07-10 21:00"]
    assert ends(EQUITY_FUTURES, "1h", "2024-07-09 19:00", "2024-07-10 00:00") == [
        *("2024-07-09 20:00", "2024-07-09 21:00", "2024-07-09 23:00", "2024-07-10 00:00")
    ]


def test_a_break_ends_with_the_date_from_which_there_is_none():
    # the quarter of an hour after 15:15 was given up on 28 June 2021
    assert ends(EQUITY_FUTURES, "30m", "2021-06-24 19:30", "2021-06-24 21:00") == [
        *("2021-06-24 20:00", "2021-06-24 20:15", "2021-06-24 21:00")
    ]
    assert ends(EQUITY_FUTURES, "30m", "2021-06-28 19:30", "2021-06-28 21:00") == [
        *("2021-06-28 20:00", "2021-06-28 20:30", "2021-06-28 21:00")
    ]


def test_monday_begins_on_sunday_evening_and_moves_with_the_clocks():
    # clocks were put forward on 10 March 2024
    sessions = bar_ends.sessions(EQUITY_FUTURES, utc("2024-03-08 22:00"), utc("2024-03-11 22:30"))
    assert [str(d.date()) for d in sessions.index] == ["2024-03-11", "2024-03-12"]
    assert texts(sessions["open"]) == ["2024-03-10 22:00", "2024-03-11 22:00"]
    winter = bar_ends.sessions(EQUITY_FUTURES, utc("2024-03-07"), utc("2024-03-07 20:00"))
    assert texts(winter["open"]) == ["2024-03-06 23:00"]


def test_a_half_day_of_the_calendar_stays_one():
    # Independence Day 2024: Chicago's calendar ends it at noon; the day before is whole
    assert ends(EQUITY_FUTURES, "1d", "2024-07-03", "2024-07-06") == [
        *("2024-07-03 21:00", "2024-07-04 17:00", "2024-07-05 21:00")
    ]
    own = Hours("XNYS", session="09:30-16:00")
    assert ends(own, "1d", "2024-07-03", "2024-07-06") == ends("XNYS", "1d", "2024-07-03", "2024-07-06")


def test_hours_hold_from_their_date_on_and_before_it_those_of_the_calendar():
    dated = Hours("XEUR", session="2005-11-21: 09:00-22:00, 2006-01-02: 09:00-17:30")
    assert ends(dated, "1d", "2005-11-17", "2005-11-22") == [
        # exchange_calendars has Eurex open until 22:00 for ever
        *("2005-11-17 21:00", "2005-11-18 21:00", "2005-11-21 21:00")
    ]
    assert ends(dated, "1m", "2006-01-02 07:00", "2006-01-02 08:02") == ["2006-01-02 08:01", "2006-01-02 08:02"]
    assert ends(dated, "1d", "2005-12-30", "2006-01-03") == ["2005-12-30 21:00", "2006-01-02 16:30"]


def test_the_national_exchange_of_india_trades_currencies_by_bombays_holidays_until_five():
    nse = Hours("XBOM", session="09:00-17:00")
    # 15 August is Independence Day; 17:00 in Kolkata is 11:30
    assert ends(nse, "1d", "2024-08-13", "2024-08-17") == ["2024-08-13 11:30", "2024-08-14 11:30", "2024-08-16 11:30"]


def test_where_hours_begin_earlier_than_the_old_ones_end_no_instant_is_in_two_sessions():
    changed = Hours("24/5", session="09:00-22:00, 2024-07-10: 18:00-17:00")
    sessions = bar_ends.sessions(changed, utc("2024-07-09 09:30"), utc("2024-07-10 16:00"))
    assert texts(sessions["open"]) == ["2024-07-09 09:00", "2024-07-09 22:00"]


def test_currencies_trade_from_sunday_to_friday_at_five_in_new_york():
    fx = Hours("24/5", session="17:00-17:00", zone="America/New_York")
    assert ends(fx, "1d", "2024-07-05", "2024-07-09") == ["2024-07-05 21:00", "2024-07-08 21:00"]
    assert ends(fx, "1h", "2024-07-05 19:30", "2024-07-07 23:00") == [
        *("2024-07-05 20:00", "2024-07-05 21:00", "2024-07-07 22:00", "2024-07-07 23:00")
    ]


def test_what_never_closes_has_a_bar_at_every_hour_of_the_week():
    assert len(ends("24/7", "1h", "2024-03-04", "2024-03-11")) == 7 * 24


def test_a_day_ends_at_its_settlement_where_hours_say_so():
    settled = Hours("CMES", session="17:00-16:00", daily_stamp="last, 2024-07-01: settlement 15:00")
    assert ends(settled, "1d", "2024-06-28", "2024-07-04") == [
        # the 4th, a half day, is settled at its early end
        *("2024-06-28 21:00", "2024-07-01 20:00", "2024-07-02 20:00", "2024-07-03 20:00")
    ]
    assert ends(settled, "1d", "2024-07-04", "2024-07-05") == ["2024-07-04 17:00"]
    assert texts(bar_ends.session_closes(settled, ["2024-07-02"])) == ["2024-07-02 20:00"]


def test_what_trades_after_the_settlement_counts_for_the_next_day():
    settled = Hours("CMES", session="17:00-16:00", daily_stamp="settlement 15:00")
    at = bar_ends.bar_ends(settled, "1h", utc("2024-07-08 20:00"), utc("2024-07-10 20:00"))
    daily = resample.resample(bars(at).assign(volume=1.0), "1d", {"X": settled}, utc("2024-07-11"))
    assert texts(daily["ts"]) == ["2024-07-09 20:00", "2024-07-10 20:00"]
    # an hour after the settlement of the day before, and 22 since the evening
    assert daily["volume"].tolist() == [23, 23]


def test_a_settlement_after_the_close_completes_the_day_also_on_a_half_day():
    late = Hours("XNYS", daily_stamp="settlement 18:00")
    assert ends(late, "1d", "2024-07-02", "2024-07-04") == ["2024-07-02 22:00", "2024-07-03 22:00"]


@pytest.mark.parametrize("name", ["XHKG", "XTKS"])
@pytest.mark.parametrize("interval", ["5m", "30m", "1h", "4h"])
def test_lunch_breaks_are_those_of_exchange_calendars(name, interval):
    """The oracle is its trading_index, forced to each break and close."""
    calendar = exchange.get_calendar(name)
    start, end = pd.Timestamp("2023-12-18"), pd.Timestamp("2024-02-16")
    oracle = calendar.trading_index(
        *(start, end, pd.Timedelta(bar_ends.INTERVALS[interval])),
        force_close=True,
        force_break_close=True,
        intervals=True,
    ).right
    ours = bar_ends.bar_ends(name, interval, utc("2023-12-18"), utc("2024-02-16 23:00"))
    assert list(ours) == list(oracle)


def test_a_lunch_break_of_ones_own_replaces_the_calendars():
    # Hong Kong's lunch was from 12:00 to 13:00, or here none
    assert len(ends(Hours("XHKG", breaks="none"), "30m", "2024-07-02", "2024-07-03")) == 13
    assert len(ends("XHKG", "30m", "2024-07-02", "2024-07-03")) == 11
    assert ends(Hours("XHKG", breaks="12:00-13:30"), "30m", "2024-07-02 03:40", "2024-07-02 06:00") == [
        *("2024-07-02 04:00", "2024-07-02 06:00")
    ]


def test_a_date_without_a_session_belongs_to_the_next_one():
    dates = bar_ends.session_dates("CMES", ["2013-12-13", "2013-12-15", "2013-12-16"])
    assert [str(d.date()) for d in dates] == ["2013-12-13", "2013-12-16", "2013-12-16"]


@pytest.mark.parametrize(
    ("check", "text", "message"),
    [
        (hours.sessions, "9-17", "should be hours such as 09:00-17:30"),
        (hours.sessions, "09:00-25:00", "25:00 is not a time of day"),
        (
            hours.sessions,
            "09:00-12:00, 13:00-17:00",
            "one session a day, got 2 from .*; write the gap as a break",
        ),
        (hours.sessions, "2024-01-01: 09:00-17:00, 2020-01-01: 09:00-18:00", "dates must ascend"),
        (hours.sessions, "2024-13-01: 09:00-17:00", "month must be in"),
        (hours.breaks, "11:00-12:00, 11:30-13:00", "must not overlap"),
        (hours.breaks, "2020-01-01: none, 11:00-12:00", "`none` cannot be combined with breaks"),
        (hours.daily_stamps, "settlement", "settlement and a time"),
        (hours.daily_stamps, "first", "should be last, or settlement"),
    ],
)
def test_a_mistake_in_hours_says_what_is_expected(check, text, message):
    with pytest.raises(ValueError, match=message):
        check(text)


def bars(at, interval="1h", symbol="X"):
    n = len(at)
    return pd.DataFrame(
        {"symbol": symbol, "market": "futures", "contract": "", "interval": interval, "ts": at}
        | dict.fromkeys(("open", "high", "low", "close"), np.full(n, 1.0))
        | {"volume": np.full(n, 1.0), "open_interest": np.nan, "source": "test"}
    )


clock = st.integers(0, 24 * 12 - 1).map(lambda n: n * 5)


def hhmm(minute):
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def any_hours(draw):
    """Any session with up to two breaks anywhere, another one from a date on, and any settlement."""
    first, second = (f"{hhmm(draw(clock))}-{hhmm(draw(clock))}" for _ in range(2))
    edges = sorted(draw(st.lists(clock, min_size=4, max_size=4, unique=True)))
    pauses = [f"{hhmm(a)}-{hhmm(b)}" for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return Hours(
        draw(st.sampled_from(["XNYS", "CMES", "24/7", "24/5", "XHKG", "XBOM"])),
        session=draw(st.sampled_from(["", first, f"{first}, 2024-07-03: {second}", f"2024-07-03: {second}"])),
        breaks=draw(st.sampled_from(["", "none", pauses[0], ", ".join(pauses), f"2024-07-03: {pauses[1]}"])),
        daily_stamp=draw(st.sampled_from(["", "last", f"settlement {hhmm(draw(clock))}"])),
        zone=draw(st.sampled_from(["", "America/New_York"])),
    )


LOW, HIGH = utc("2024-06-24"), utc("2024-07-12")


@given(own=any_hours())
@settings(max_examples=40, deadline=None)
def test_sessions_follow_each_other_and_open_stretches_lie_within_them(own):
    timetable = schedule.of(own)
    assert (timetable.opens < timetable.closes).all()
    assert (timetable.closes[:-1] <= timetable.opens[1:]).all()
    assert (timetable.starts < timetable.ends).all()
    assert (timetable.ends[:-1] <= timetable.starts[1:]).all()
    session = np.searchsorted(timetable.closes, timetable.ends)
    assert (timetable.opens[session] <= timetable.starts).all()
    assert (timetable.ends <= timetable.closes[session]).all()
    assert (np.diff(timetable.days) > np.timedelta64(0)).all()


@given(own=any_hours(), pair=st.sampled_from([("5m", "15m"), ("5m", "1h"), ("15m", "4h"), ("30m", "1d"), ("1h", "1w")]))
@settings(max_examples=40, deadline=None)
def test_whatever_the_hours_no_bar_is_invented_and_volume_adds_up(own, pair):
    fine, coarse = pair
    at = bar_ends.bar_ends(own, fine, LOW, HIGH)
    raw = bars(at, fine).assign(close=np.arange(len(at)) + 1.0)
    raw = raw.assign(open=raw["close"] - 0.5, high=raw["close"] + 1, low=raw["close"] - 1)
    resampled = resample.resample(raw, coarse, {"X": own}, HIGH)
    Bars.validate(resampled)
    expected = bar_ends.bar_ends(own, coarse, LOW, HIGH)
    assert set(resampled["ts"]) <= set(expected)
    assert resampled["ts"].is_monotonic_increasing
    # from the first resampled bar on, every part is in exactly one bar, except parts of the bar that is not over
    if len(resampled):
        first = expected.get_loc(resampled["ts"].iloc[0])
        begun = at > (expected[first - 1] if first else LOW)
        inside = begun & (at <= resampled["ts"].iloc[-1])
        assert resampled["volume"].sum() == inside.sum()
        assert (resampled["high"] >= resampled[["open", "close", "low"]].max(axis=1)).all()
        assert resampled["close"].tolist() == [raw["close"][at <= end].iloc[-1] for end in resampled["ts"]]


@given(own=any_hours(), interval=st.sampled_from(["5m", "1h", "4h", "1d", "1w"]), part=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_what_is_due_is_the_newest_end_whatever_the_hours(own, interval, part):
    at = LOW + (HIGH - LOW) * part
    everything = bar_ends.bar_ends(own, interval, utc("2024-05-01"), HIGH)
    before = everything[everything <= at]
    due = bar_ends.due(own, interval, at)
    assert due == before[-1] if len(before) else pd.isna(due)  # a break may take up the whole session
