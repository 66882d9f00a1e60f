"""Sessions, bar ends and resampling, against exchange_calendars, published hours and plain arithmetic."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapivot.calendar import bar_ends, exchange
from alphapivot.data import resample
from alphapivot.errors import ConfigError, DataError
from alphapivot.frames import Bars

NAMES = ["XNYS", "CMES", "XEUR", "XETR", "24/7"]


def utc(text):
    return pd.Timestamp(text, tz="UTC").to_pydatetime()


def texts(stamps):
    return [f"{t:%Y-%m-%d %H:%M}" for t in stamps]


def bars(ends, *, symbol="X", interval="5m", seed=0, market="spot", contract=""):
    """A random walk with one bar at each end."""
    rng = np.random.default_rng(seed)
    n = len(ends)
    close = 100 + np.cumsum(rng.normal(0, 1, n))
    open_ = close + rng.normal(0, 1, n)
    return pd.DataFrame(
        {
            "symbol": symbol,
            "market": market,
            "contract": contract,
            "interval": interval,
            "ts": ends,
            "open": open_,
            "high": np.maximum(open_, close) + rng.random(n),
            "low": np.minimum(open_, close) - rng.random(n),
            "close": close,
            "volume": rng.integers(0, 1000, n).astype(float),
            "open_interest": rng.integers(0, 1000, n).astype(float),
            "source": "test",
        }
    )


# New York closes at 13:00 on the day before Independence Day, and does not open on it


def test_hourly_bars_start_at_the_open_and_the_last_one_is_cut_at_the_close():
    ends = bar_ends.bar_ends("XNYS", "1h", utc("2024-07-02 18:30"), utc("2024-07-05 13:30"))
    assert texts(ends) == [
        *("2024-07-02 19:30", "2024-07-02 20:00"),
        *("2024-07-03 14:30", "2024-07-03 15:30", "2024-07-03 16:30", "2024-07-03 17:00"),
    ]
    assert str(ends.dtype) == "datetime64[us, UTC]"


def test_a_daily_bar_ends_at_its_sessions_close_in_summer_and_winter():
    assert texts(bar_ends.bar_ends("XNYS", "1d", utc("2024-07-02"), utc("2024-07-06"))) == [
        *("2024-07-02 20:00", "2024-07-03 17:00", "2024-07-05 20:00")
    ]
    assert texts(bar_ends.bar_ends("XNYS", "1d", utc("2024-01-02"), utc("2024-01-03"))) == ["2024-01-02 21:00"]


def test_a_week_ends_with_its_last_session():
    # Good Friday 2024 was 29 March
    assert texts(bar_ends.bar_ends("XNYS", "1w", utc("2024-03-18"), utc("2024-04-06"))) == [
        *("2024-03-22 20:00", "2024-03-28 20:00", "2024-04-05 20:00")
    ]


def test_a_range_is_open_at_its_start_and_closed_at_its_end():
    close, following = utc("2024-07-02 20:00"), utc("2024-07-03 17:00")
    assert list(bar_ends.bar_ends("XNYS", "1d", close, following)) == [following]
    assert len(bar_ends.bar_ends("XNYS", "1d", close, close)) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("interval", ["1m", "15m", "1h", "4h"])
def test_intraday_ends_are_those_of_exchange_calendars(name, interval):
    """The oracle is its trading_index, forced to the close."""
    calendar = exchange.get_calendar(name)
    start, end = pd.Timestamp("2023-10-20"), pd.Timestamp("2023-11-24")
    oracle = calendar.trading_index(
        *(start, end, pd.Timedelta(bar_ends.INTERVALS[interval])), force_close=True, intervals=True
    ).right
    first = bar_ends.sessions(name, utc("2023-10-20 12:00"), utc("2023-11-24 12:00"))
    ours = bar_ends.bar_ends(name, interval, first["open"].iloc[0], first["close"].iloc[-1])
    oracle = oracle[(oracle > first["open"].iloc[0]) & (oracle <= first["close"].iloc[-1])]
    assert list(ours) == list(oracle)


def test_a_date_without_a_session_ends_with_its_day_at_the_exchange():
    closes = bar_ends.session_closes("CMES", ["2013-12-13", "2013-12-15", "2013-12-16"])
    # Sunday evening's stub: midnight in Chicago
    assert texts(closes) == ["2013-12-13 23:00", "2013-12-16 06:00", "2013-12-16 23:00"]


def test_sessions_are_those_that_overlap_the_range():
    sessions = bar_ends.sessions("XNYS", utc("2024-07-02 20:00"), utc("2024-07-05 13:31"))
    assert [str(d.date()) for d in sessions.index] == ["2024-07-03", "2024-07-05"]


@given(
    name=st.sampled_from(NAMES),
    at=st.datetimes(datetime(2001, 8, 1), datetime(2001, 10, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    days=st.integers(0, 9),  # the exchanges in New York were closed from the 11th to the 16th of September
)
@settings(max_examples=100, deadline=None)
def test_the_next_open_is_that_of_the_first_session(name, at, days):
    sessions = bar_ends.sessions(name, at, at + timedelta(days=days))
    expected = sessions["open"].iloc[0].to_pydatetime() if len(sessions) else None
    assert bar_ends.next_open(name, at, at + timedelta(days=days)) == expected


@given(
    name=st.sampled_from(["XNYS", "CMES", "24/7"]),
    interval=st.sampled_from(sorted(bar_ends.INTERVALS)),
    at=st.datetimes(datetime(2001, 8, 1), datetime(2001, 10, 31), timezones=st.just(UTC)),  # noqa: DTZ001
)
@settings(max_examples=100, deadline=None)
def test_what_is_due_is_the_newest_end_that_has_passed(name, interval, at):
    # New York was closed from 11 to 14 September 2001
    due = bar_ends.due(name, interval, pd.DatetimeIndex([at, at + timedelta(days=3)]))
    everything = bar_ends.bar_ends(name, interval, utc("2001-06-01"), utc("2001-11-30"))
    assert list(due) == [everything[everything <= t][-1] for t in (at, at + timedelta(days=3))]


def test_a_bar_stamped_with_its_start_ends_where_the_calendars_bar_does():
    starts = pd.DatetimeIndex(["2024-07-02 18:30", "2024-07-02 19:30", "2024-07-02 22:00"], tz="UTC")
    # the second one is cut at the close; the third began after it
    assert texts(bar_ends.ends_of("XNYS", "1h", starts)) == [
        *("2024-07-02 19:30", "2024-07-02 20:00", "2024-07-02 23:00")
    ]
    midnight = pd.DatetimeIndex(["2024-07-03"], tz="America/New_York")
    assert texts(bar_ends.ends_of("XNYS", "1d", midnight)) == ["2024-07-03 17:00"]


def test_what_is_due_may_be_asked_for_one_instant():
    assert bar_ends.due("XNYS", "1d", utc("2024-07-04")) == pd.Timestamp("2024-07-03 17:00", tz="UTC")


def test_nothing_is_due_before_the_calendar_begins():
    assert bar_ends.due("XNYS", "1d", pd.DatetimeIndex(["1969-01-01"], tz="UTC")).isna().all()
    assert len(bar_ends.due("XNYS", "1d", pd.DatetimeIndex([], tz="UTC"))) == 0
    unknown, known = bar_ends.due("XNYS", "1d", pd.DatetimeIndex([pd.NaT, utc("2024-07-04")], tz="UTC"))
    assert unknown is pd.NaT
    assert known == pd.Timestamp("2024-07-03 17:00", tz="UTC")


def test_a_calendar_that_does_not_go_back_to_1980_goes_as_far_as_it_does():
    # Tokyo: the first session of 1997 was on 6 January
    assert texts(bar_ends.bar_ends("XTKS", "1d", utc("1990-01-01"), utc("1997-01-08"))) == [
        *("1997-01-06 06:00", "1997-01-07 06:00")
    ]


def test_a_calendar_that_its_library_cannot_make_is_a_mistake_in_the_configuration():
    with pytest.raises(ConfigError, match=r"exchange_calendars .* cannot build calendar 'XTAE': Special dates"):
        exchange.get_calendar("XTAE")


def test_an_unknown_calendar_names_its_neighbours():
    with pytest.raises(ConfigError, match=r"'XNYZ' is unknown .* XNYS"):
        exchange.get_calendar("XNYZ")


def test_an_unknown_interval_names_its_neighbour():
    with pytest.raises(ConfigError, match=r"'60m' is unknown; expected one of 1m, 5m, .* did you mean"):
        bar_ends.bar_ends("XNYS", "60m", utc("2024-01-01"), utc("2024-01-05"))


def test_instants_without_a_zone_and_beyond_the_calendar_are_refused():
    with pytest.raises(DataError, match="time zone"):
        bar_ends.bar_ends("XNYS", "1d", datetime(2024, 1, 1), utc("2024-01-05"))  # noqa: DTZ001 - that is the point
    with pytest.raises(DataError, match=r"XNYS ends at .* UTC, got 2200-01-05"):
        bar_ends.bar_ends("XNYS", "1d", utc("2024-01-01"), utc("2200-01-05"))


@pytest.mark.parametrize(
    ("fine", "coarse", "answer"),
    [("5m", "1h", True), ("1h", "1d", True), ("1d", "1w", True), ("1h", "15m", False), ("1d", "1d", True)],
)
def test_divides(fine, coarse, answer):
    assert bar_ends.divides(fine, coarse) is answer


@pytest.mark.parametrize("interval", ["5m", "1m"])
def test_resampling_to_what_is_not_coarser_is_refused(interval):
    ends = bar_ends.bar_ends("XNYS", "5m", utc("2024-07-02"), utc("2024-07-03"))
    with pytest.raises(ConfigError, match=f"5m cannot be resampled to {interval}"):
        resample.resample(bars(ends), interval, {"X": "XNYS"}, utc("2024-07-03"))


def test_a_worked_case():
    ends = bar_ends.bar_ends("XNYS", "30m", utc("2024-07-03"), utc("2024-07-04"))  # 13:30 to 17:00
    raw = bars(ends, interval="30m").assign(
        open=[10.0, 11, 12, 13, 12, 11, 10],
        high=[11.0, 13, 14, 15, 13, 12, 11],
        low=[9.0, 10, 11, 12, 10, 9, 8],
        close=[11.0, 12, 13, 12, 11, 10, 9],
        volume=[1.0, 2, 4, 8, 16, 32, 64],
        open_interest=[1.0, 2, 3, 4, 5, 6, 7],
    )
    coarse = resample.resample(raw, "4h", {"X": "XNYS"}, utc("2024-07-03 17:00"))
    assert coarse.drop(columns="ts").to_dict("records") == [
        {"symbol": "X", "market": "spot", "contract": "", "interval": "4h", "source": "resampled"}
        | {"open": 10, "high": 15, "low": 8, "close": 9, "volume": 127, "open_interest": 7}
    ]
    assert texts(coarse["ts"]) == ["2024-07-03 17:00"]
    Bars.validate(coarse)


@st.composite
def partial_bars(draw):
    """Fine bars of two symbols on two calendars with holes, some without volume, some close-only."""
    fine, coarse = draw(st.sampled_from([("5m", "1h"), ("15m", "4h"), ("1h", "1d"), ("15m", "1w"), ("1d", "1w")]))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    parts = []
    for symbol, calendar in (("A", "XNYS"), ("B", "CMES")):
        ends = bar_ends.bar_ends(calendar, fine, utc("2024-06-24"), utc("2024-07-10"))
        part = bars(ends, symbol=symbol, interval=fine, seed=seed)
        part = part[rng.random(len(part)) < draw(st.sampled_from([0.05, 0.5, 1.0]))]
        part.loc[rng.random(len(part)) < draw(st.sampled_from([0.0, 0.02])), "volume"] = np.nan
        part.loc[rng.random(len(part)) < draw(st.sampled_from([0.0, 0.02])), ["open", "high", "low"]] = np.nan
        parts.append(part)
    return pd.concat(parts).sample(frac=1, random_state=draw(st.integers(0, 99))), fine, coarse


@given(case=partial_bars(), until=st.datetimes(datetime(2024, 6, 25), datetime(2024, 7, 12), timezones=st.just(UTC)))  # noqa: DTZ001
@settings(max_examples=60, deadline=None)
def test_every_resampled_bar_is_the_calendars_and_is_exactly_its_parts(case, until):
    raw, fine_interval, coarse = case
    of = {"A": "XNYS", "B": "CMES"}
    resampled = resample.resample(raw, coarse, of, until)
    Bars.validate(resampled)
    assert (resampled["ts"] <= until).all()
    for symbol, calendar in of.items():
        ends = bar_ends.bar_ends(calendar, coarse, utc("2024-06-01"), utc("2024-07-20"))
        fine = raw[raw["symbol"] == symbol].sort_values("ts")
        bar = ends[np.searchsorted(ends, fine["ts"])]
        parts_due = bar_ends.bar_ends(calendar, fine_interval, utc("2024-06-01"), utc("2024-07-20"))
        reached = fine.groupby(bar)["ts"].max()
        lacks = (reached.index - reached).tolist()
        as_usual = (n >= 2 and len(set(lacks[n - 2 : n + 1])) == 1 for n in range(len(lacks)))
        usual = dict(zip(reached.index, as_usual, strict=True))
        expected = {
            end: part
            for end, part in fine.groupby(bar)
            if end <= until
            and (reached[end] == parts_due[parts_due <= end].max() or (fine["ts"] > end).any() or usual[end])
        }
        actual = resampled[resampled["symbol"] == symbol].set_index("ts")
        # the first bar may be left out (its parts may begin too late), nothing else
        assert list(actual.index) in (sorted(expected), sorted(expected)[1:])
        for end, got in actual.iterrows():
            parts = expected[end]
            assert got["volume"] == pytest.approx(parts["volume"].sum(skipna=False), nan_ok=True)
            assert got["high"] == pytest.approx(parts["high"].max(skipna=False), nan_ok=True)
            assert got["low"] == pytest.approx(parts["low"].min(skipna=False), nan_ok=True)
            assert got["close"] == parts["close"].iloc[-1]
            assert got["open_interest"] == parts["open_interest"].iloc[-1]
            assert np.isnan(got["open"]) if parts["high"].isna().any() else got["open"] == parts["open"].iloc[0]


def test_a_first_bar_whose_beginning_is_missing_is_left_out():
    ends = bar_ends.bar_ends("XNYS", "5m", utc("2024-07-02"), utc("2024-07-06"))
    whole = resample.resample(bars(ends), "1d", {"X": "XNYS"}, utc("2024-07-06"))
    assert texts(whole["ts"]) == ["2024-07-02 20:00", "2024-07-03 17:00", "2024-07-05 20:00"]
    cut = resample.resample(bars(ends)[1:], "1d", {"X": "XNYS"}, utc("2024-07-06"))
    pd.testing.assert_frame_equal(cut, whole[1:].reset_index(drop=True))


@pytest.mark.parametrize(("fine", "coarse"), [("1m", "1h"), ("30m", "1d"), ("1h", "1w"), ("1d", "1w")])
def test_a_higher_bar_waits_for_its_last_part_or_a_later_bar_of_its_market(fine, coarse):
    ends = bar_ends.bar_ends("XNYS", fine, utc("2024-06-24"), utc("2024-07-13"))
    due = bar_ends.bar_ends("XNYS", coarse, utc("2024-06-24"), utc("2024-07-13"))
    end = due[due < ends[-1]][-1]
    last = int(np.searchsorted(ends, end))

    def newest(parts, **patience):
        return resample.resample(parts, coarse, {"X": "XNYS"}, utc("2024-07-20"), **patience)["ts"].max()

    history = bars(ends, interval=fine)
    assert newest(history[: last + 1]) == end
    cut = history[:last]  # without the last part
    assert newest(cut) == due[due < end][-1]
    assert newest(pd.concat([cut, history[last + 1 : last + 2]])) == end
    assert newest(cut, patience={"X": timedelta(minutes=30)}, now=end + timedelta(minutes=30)) == end
    assert newest(cut, patience={"X": timedelta(minutes=31)}, now=end + timedelta(minutes=30)) == due[due < end][-1]


def test_a_market_that_is_quoted_for_a_part_of_its_session_has_its_day_when_the_session_ends():
    ends = bar_ends.bar_ends("XNYS", "30m", utc("2024-07-08"), utc("2024-07-13"))
    quoted = bars(ends, interval="30m")
    quoted = quoted[quoted["ts"].dt.strftime("%H:%M") <= "18:30"]  # the session ends at 20:00
    days = [part for _, part in quoted.groupby(quoted["ts"].dt.date)]

    def made(parts):
        return len(resample.resample(pd.concat(parts), "1d", {"X": "XNYS"}, utc("2024-07-13")))

    assert [made(days[:n]) for n in (1, 2, 3)] == [0, 1, 3]  # the third is as the two before it
    assert made([*days[:4], days[4][:-1]]) == 4  # a part less than usual
    two = pd.concat([quoted, quoted[quoted["ts"] < days[2]["ts"].min()].assign(symbol="Y")])
    assert len(resample.resample(two, "1d", dict.fromkeys("XY", "XNYS"), utc("2024-07-13"))) == 5 + 1  # each its own


def test_another_contract_that_trades_later_completes_the_day():
    ends = bar_ends.bar_ends("XNYS", "1h", utc("2024-07-01"), utc("2024-07-04"))
    own = {"market": "futures", "contract": "A", "interval": "1h"}
    expired = bars(ends[:12]).assign(**own)  # trades no more from the second day's afternoon on
    assert len(resample.resample(expired, "1d", {"X": "XNYS"}, utc("2024-07-06"))) == 1
    both = pd.concat([expired, bars(ends).assign(**own | {"contract": "B"})])
    made = resample.resample(both, "1d", {"X": "XNYS"}, utc("2024-07-06"))
    assert made.groupby("contract").size().to_dict() == {"A": 2, "B": 3}


def test_a_window_that_begins_one_bar_earlier_resamples_as_the_whole_history_does():
    ends = bar_ends.bar_ends("CMES", "1h", utc("2024-06-01"), utc("2024-07-06"))
    history = bars(ends, interval="1h")
    whole = resample.resample(history, "1d", {"X": "CMES"}, utc("2024-07-06"))
    window = resample.resample(history[-60:], "1d", {"X": "CMES"}, utc("2024-07-06"))
    pd.testing.assert_frame_equal(window, whole[-len(window) :].reset_index(drop=True))
    assert len(window) == 2


def test_a_bar_between_two_sessions_counts_with_the_next():
    ends = bar_ends.bar_ends("XNYS", "1d", utc("2024-07-01"), utc("2024-07-06"))
    early = pd.DatetimeIndex([*ends[:1], pd.Timestamp("2024-07-02 12:00", tz="UTC"), *ends[1:]]).as_unit("us")
    raw = bars(early, interval="1h").assign(volume=1.0)
    daily = resample.resample(raw, "1d", {"X": "XNYS"}, utc("2024-07-06"))
    assert daily["volume"].tolist() == [2.0, 1.0, 1.0]


def test_no_bars_make_no_bars():
    pd.testing.assert_frame_equal(resample.resample(Bars.empty(), "1d", {}, utc("2024-07-06")), Bars.empty())
