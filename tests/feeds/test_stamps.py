"""Daily bars keep the date that a file writes: no offset, zone or epoch moves a session to the day before."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapivot.feeds.files import stamps as spelled
from tests.feeds.test_files import fetch, problem, read, stamps

BERLIN = {"calendar": "XETR", "section": {"zone": "Europe/Berlin"}}


def closes(tmp_path, text, **how):
    return dict(zip(stamps(read(tmp_path, text, **how)), read(tmp_path, text, **how)["close"], strict=True))


def test_an_offset_leaves_a_date_as_written(tmp_path):
    text = "Date,Close\n2024-08-22 00:00:00+02:00,1\n2024-08-23 00:00:00+02:00,2\n2024-11-04 00:00:00+01:00,3\n"
    expected = {"2024-08-22 15:30": 1, "2024-08-23 15:30": 2, "2024-11-04 16:30": 3}
    assert closes(tmp_path, text, **BERLIN) == expected
    joined = BERLIN | {"section": BERLIN["section"] | {"join": True}}
    assert closes(tmp_path, text, **joined) == expected


@pytest.mark.parametrize(
    ("text", "date_format"),
    [
        ("2024-08-21T22:00:00Z", None),  # midnight in Berlin, written in UTC
        ("2024-08-22T00:00:00Z", None),
        ("2024-08-22T00:00:00.000+0200", None),
        ("2024-08-22T07:00:00Z", None),  # the open
        ("2024-08-22T15:30:00Z", None),  # the close
        ("22.08.2024 00:00 +0200", "%d.%m.%Y %H:%M %z"),
        ("1724277600", None),  # seconds, midnight in Berlin
        ("1724284800000", None),  # milliseconds, midnight in UTC
        ("1724310000000000", None),  # microseconds, the open
        ("1724310000000000000", "epoch ns"),
        ("1724284800", "epoch s"),
        ("1724284800000", "epoch"),
    ],
)
def test_however_a_daily_bar_is_stamped_it_is_of_its_own_session(tmp_path, text, date_format):
    how = BERLIN | {"section": BERLIN["section"] | {"date_format": date_format}}
    assert stamps(read(tmp_path, f"Date,Close\n{text},1\n", **how)) == ["2024-08-22 15:30"]


def test_an_evening_open_is_of_the_session_that_it_opens(tmp_path):
    chicago = {"calendar": "CMES", "session": "17:00-16:00", "section": {"zone": "America/Chicago"}}
    # 17:00 in Chicago on Monday 8 January, as TradingView stamps Tuesday's bar
    assert stamps(read(tmp_path, "time,close\n1704754800,1\n", **chicago)) == ["2024-01-09 22:00"]


def test_parquet_with_a_zone_keeps_its_dates(tmp_path):
    index = pd.DatetimeIndex(["2024-08-22", "2024-08-23"], tz="Europe/Berlin", name="Date")
    pd.DataFrame({"Close": [1.0, 2.0]}, index=index).to_parquet(tmp_path / "x.parquet")
    found = fetch(tmp_path, spot="x.parquet", **BERLIN)
    assert stamps(found.bars) == ["2024-08-22 15:30", "2024-08-23 15:30"]
    table = pd.DataFrame({"Close": [1.0, 2.0]}, index=index.tz_convert("UTC"))
    table.to_parquet(tmp_path / "x.parquet")
    assert stamps(fetch(tmp_path, spot="x.parquet", **BERLIN).bars) == ["2024-08-22 15:30", "2024-08-23 15:30"]


def test_a_split_with_an_offset_is_of_its_date(tmp_path):
    text = "Date,Close,Stock Splits\n2024-08-22 00:00:00+02:00,1,0\n2024-08-23 00:00:00+02:00,2,2\n"
    (tmp_path / "x.csv").write_text(text)
    section = {"zone": "Europe/Berlin", "columns": {"split": "Stock Splits"}}
    actions = fetch(tmp_path, calendar="XETR", section=section).actions
    assert stamps(actions) == ["2024-08-23 07:00"]


def test_dates_read_as_the_ends_of_daily_bars_are_refused(tmp_path):
    told = problem(tmp_path, "Date,Close\n2024-08-22,1\n2024-08-23,2\n", **BERLIN | {"section": {"stamp": "end"}})
    assert "stamp = date" in told
    # round the clock a day does end at midnight
    crypto = {"calendar": "24/7", "section": {"stamp": "end", "zone": "UTC"}}
    assert stamps(read(tmp_path, "Date,Close\n2024-08-22,1\n", **crypto)) == ["2024-08-22 00:00"]


def test_numbers_that_may_be_a_date_are_not_taken_for_an_epoch(tmp_path):
    assert "expected" in problem(tmp_path, "Date,Close\n2024010217,1\n", calendar="24/7")


STAMP = st.builds(
    "{}-{:02}-{:02}{}{}".format,
    st.sampled_from(["0001", "1900", "2024", "2262", "2263", "9999", "24"]),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from(["", " ", "T", "t", "  "]),
    st.sampled_from(
        ["", "05", "05:30", "24:00", "05:30:60", "05:30:59.5", "05:30:59.1234567", "05:30Z", "05:30+01:00"]
    ),
)


@settings(max_examples=400, deadline=None)
@given(text=st.lists(st.one_of(STAMP, st.none(), st.just("2024")), min_size=1, max_size=3))
def test_what_is_read_fast_is_what_pandas_reads(text):
    column = pd.Series(text, dtype="str")
    fast = spelled._naive(column)
    if fast is not None:
        expected = pd.DatetimeIndex(pd.to_datetime(column, format="ISO8601", errors="coerce"))
        pd.testing.assert_index_equal(fast, expected.as_unit("us"))


def test_ordinary_stamps_are_read_fast():
    assert spelled._naive(pd.Series(["2024-08-22", "2024-08-22 09:30", "2024-08-22T09:30:15.25"])) is not None
