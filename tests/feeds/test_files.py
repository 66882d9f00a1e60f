"""Files as users have them: valid ones are read exactly, mistakes are reported with line and fix."""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphapivot.config.sections.feeds import FilesFeed
from alphapivot.config.sections.instrument import Instrument
from alphapivot.data import resample, roll_policy, rolls
from alphapivot.data.screen import screen
from alphapivot.errors import ConfigError
from alphapivot.feeds.base import Request
from alphapivot.feeds.registry import open_feed
from alphapivot.frames import Rolls

SHARED = Path(__file__).parents[3] / "shared" / "data"
UNTIL = pd.Timestamp("2025-01-01", tz="UTC").to_pydatetime()


def instrument(**changes):
    terms = {"symbol": "X", "signal_market": "spot", "trade_market": "spot", "currency": "USD", "calendar": "XNYS"}
    numbers = {"quote_unit": 1, "multiplier": 1, "tick": "0.01", "lot": 1, "margin": 1, "tradable": True}
    return Instrument(**(terms | numbers | {"spot": "x.csv"} | changes))


def fetch(root, interval="1d", market="spot", *, since=None, until=UNTIL, section=None, **changes):
    settings = {"root": root, "zone": "America/New_York", "stamp": "date"} | (section or {})
    feed = open_feed("disk", FilesFeed(**settings))
    return feed.fetch([Request(instrument(**changes), market, interval, since, until)])


def read(root, text, **how):
    """The bars of one file with this text, which must have no problem."""
    (root / "x.csv").write_text(text, encoding="utf-8")
    found = fetch(root, **how)
    assert not found.problems, found.problems[0].reason
    return found.bars


def problem(root, text, **how):
    """The problem of a file with this text, which must give no bars."""
    (root / "x.csv").write_text(text, encoding="utf-8")
    found = fetch(root, **how)
    assert found.bars.empty
    (only,) = found.problems
    assert not only.transient
    return only.reason.replace(str(root), "DIR")


def stamps(bars):
    return [f"{t:%Y-%m-%d %H:%M}" for t in bars["ts"]]


def test_a_date_is_the_close_of_its_session(tmp_path):
    bars = read(tmp_path, "Date,Open,High,Low,Close,Volume\n2024-07-02,1,3,1,2,10\n2024-07-03,2,4,2,3,\n")
    assert stamps(bars) == ["2024-07-02 20:00", "2024-07-03 17:00"]
    assert bars["close"].tolist() == [2, 3]
    assert bars["volume"].isna().tolist() == [False, True]
    assert bars["open_interest"].isna().all()
    assert set(bars["source"]) == {"disk"}


def test_stamps_at_a_bars_start_become_its_end(tmp_path):
    text = "datetime,close\n2024-07-02 14:30,1\n2024-07-02 15:30,2\n"
    bars = read(tmp_path, text, interval="1h", section={"stamp": "start"})
    # New York, summer: the last bar is cut at 16:00 there
    assert stamps(bars) == ["2024-07-02 19:30", "2024-07-02 20:00"]


def test_stamps_at_a_bars_end_are_only_moved_to_utc(tmp_path):
    text = "datetime,close\n2024-01-02 10:30,1\n2024-07-02 10:30,2\n"
    assert stamps(read(tmp_path, text, interval="1h", section={"stamp": "end"})) == [
        *("2024-01-02 15:30", "2024-07-02 14:30")
    ]


def test_offsets_in_the_file_count_more_than_the_zone(tmp_path):
    text = "ts,close\n2024-07-02T10:30:00+02:00,1\n2024-07-02T10:30Z,2\n"
    assert stamps(read(tmp_path, text, interval="1h", section={"stamp": "end"})) == [
        *("2024-07-02 08:30", "2024-07-02 10:30")
    ]


def test_columns_are_mapped_by_the_configuration_and_dates_by_its_format(tmp_path):
    text = "day,hour,last,Adj Close,lots\n7/2/2024,10:30,1.5,9,7\n"
    columns = {"ts": "day+hour", "close": "last", "volume": "lots"}
    section = {"stamp": "end", "columns": columns, "date_format": "%m/%d/%Y %H:%M"}
    bars = read(tmp_path, text, interval="1h", section=section)
    assert stamps(bars) == ["2024-07-02 14:30"]
    assert bars[["close", "volume"]].iloc[0].tolist() == [1.5, 7]
    assert bars[["open", "high", "low"]].isna().all(axis=None)


def test_text_in_a_price_passes_on_so_that_only_its_row_is_quarantined(tmp_path):
    bars = read(tmp_path, "date,close\n2024-07-02,2\n2024-07-03,n/k\n2024-07-05,3\n")
    screened = screen(bars, {"X": instrument()}, now=UNTIL)
    assert screened.bars["close"].tolist() == [2, 3]
    assert screened.issues["detail"].tolist() == ["close is 'n/k'; expected numbers"]


def test_zeros_that_mean_unknown_are_missing_where_the_configuration_says_so(tmp_path):
    text = "date,close,volume,open_interest\n2024-07-02,0,0,5\n2024-07-03,3,4,0.0\n"
    bars = read(tmp_path, text, section={"zero_volume_is_missing": True})
    np.testing.assert_array_equal(bars[["close", "volume", "open_interest"]], [[0, np.nan, 5], [3, 4, np.nan]])
    assert not read(tmp_path, text)["volume"].isna().any()


def test_only_what_was_asked_for_comes_sorted(tmp_path):
    text = "date,close\n2024-07-05,3\n2024-07-02,1\n2024-07-03,2\n2024-07-08,4\n"
    since, until = (pd.Timestamp(t, tz="UTC").to_pydatetime() for t in ("2024-07-02 20:00", "2024-07-05 20:00"))
    assert read(tmp_path, text, since=since, until=until)["close"].tolist() == [2, 3]


def test_parquet_reads_like_csv(tmp_path):
    index = pd.DatetimeIndex(["2024-07-02 15:00", "2024-07-02 16:00"], name="datetime")
    table = pd.DataFrame({"close": [1.0, 2.0], "volume": [3, 4]}, index=index)
    table.to_parquet(tmp_path / "x.parquet")
    found = fetch(tmp_path, interval="1h", section={"stamp": "end"}, spot="x.parquet")
    assert stamps(found.bars) == ["2024-07-02 19:00", "2024-07-02 20:00"]
    table.tz_localize("Europe/London").to_parquet(tmp_path / "x.parquet")
    found = fetch(tmp_path, interval="1h", section={"stamp": "end"}, spot="x.parquet")
    assert stamps(found.bars) == ["2024-07-02 14:00", "2024-07-02 15:00"]


def test_a_glob_of_futures_is_one_contract_a_file(tmp_path):
    for name, close in (("XZ3", 1), ("XH4", 2)):
        (tmp_path / f"{name}.csv").write_text(f"date,close\n2013-12-13,{close}\n", encoding="utf-8")
    terms = {"spot": None, "futures": "X*.csv", "signal_market": "futures", "trade_market": "futures"}
    found = fetch(tmp_path, market="futures", **terms)
    assert found.bars[["contract", "close"]].to_numpy().tolist() == [["XH4", 2], ["XZ3", 1]]
    single = fetch(tmp_path, market="futures", **(terms | {"futures": "XZ3.csv"}))
    assert single.bars["contract"].tolist() == [""]


def test_a_contract_may_stand_in_a_column(tmp_path):
    text = "date,expiry,close\n2013-12-13,201403,2\n2013-12-13,201312,1\n"
    terms = {"spot": None, "futures": "x.csv", "signal_market": "futures", "trade_market": "futures"}
    bars = read(tmp_path, text, market="futures", section={"columns": {"contract": "expiry"}}, **terms)
    assert bars["contract"].tolist() == ["201312", "201403"]


@pytest.mark.parametrize("second", ["2013-12-16,,1\n", "2013-12-16,201312,1\n"])
def test_a_contract_that_is_missing_is_an_error_of_futures_and_right_for_shares(tmp_path, second):
    text = "date,expiry,close\n2013-12-13,,2\n" + second
    columns = {"columns": {"contract": "expiry"}}
    terms = {"spot": None, "futures": "x.csv", "signal_market": "futures", "trade_market": "futures"}
    told = problem(tmp_path, text, market="futures", section=columns, **terms)
    assert f"no contract in {2 if ',,' in second else 1} of 2 rows" in told
    assert "expected one in column expiry" in told
    if ",," in second:
        bars = read(tmp_path, text, section=columns)
        assert bars[["contract", "close"]].to_numpy().tolist() == [["", 2], ["", 1]]


def test_a_spot_file_needs_no_column_that_only_futures_have(tmp_path):
    columns = {"contract": "expiry", "open_interest": "OI"}
    bars = read(tmp_path, "date,close\n2013-12-13,1\n", section={"columns": columns})
    assert bars[["contract", "close"]].to_numpy().tolist() == [["", 1]]
    futures = {"spot": None, "futures": "x.csv", "signal_market": "futures", "trade_market": "futures"}
    (tmp_path / "x.csv").write_text("date,expiry,close\n2013-12-13,201312,1\n", encoding="utf-8")
    (only,) = fetch(tmp_path, market="futures", section={"columns": columns}, **futures).problems
    assert "has no column 'OI' ([feed.disk] columns = open_interest: OI)" in only.reason


LONGER = "Date,Open,High,Low,Close\n2024-07-02,10:00,1,3,1,2\n2024-07-02,11:00,2,4,2,3\n"


MANY = "Day,Ticker,Close\n2024-07-02,AA,1\n2024-07-02,B.B,10\n2024-07-03,AA,2\n2024-07-03,B.B,20\n"
COLUMNS = {"ts": "Day", "symbol": "Ticker"}


def many(root, *instruments, **section):
    feed = open_feed("disk", FilesFeed(root=root, zone="UTC", stamp="date", columns=COLUMNS, **section))
    return feed.fetch([Request(instrument(**terms), "spot", "1d", None, UNTIL) for terms in instruments])


def test_a_file_of_many_symbols_gives_each_instrument_its_own(tmp_path):
    (tmp_path / "all.csv").write_text(MANY)
    found = many(tmp_path, {"symbol": "AA", "spot": "all.csv"}, {"symbol": "BERKSHIRE", "spot": "all.csv: B.B"})
    assert not found.problems
    assert {s: part["close"].tolist() for s, part in found.bars.groupby("symbol")} == {
        "AA": [1, 2],
        "BERKSHIRE": [10, 20],
    }


def test_a_folder_is_looked_through_at_each_run_whatever_the_format(tmp_path):
    rows = [line.split(",") for line in MANY.split()]
    (tmp_path / "2024-07-02.csv").write_text("\n".join(",".join(row) for row in rows[:3]))
    wanted = {"symbol": "AA", "spot": "2024-*"}
    assert many(tmp_path, wanted).bars["close"].tolist() == [1]
    table = pd.DataFrame(rows[3:], columns=rows[0]).assign(Day=lambda df: pd.to_datetime(df["Day"]))
    table.astype({"Close": float}).to_parquet(tmp_path / "2024-07-03.parquet")
    assert many(tmp_path, wanted).bars["close"].tolist() == [1, 2]


def test_a_symbol_that_no_file_holds_is_a_problem_that_names_its_neighbour(tmp_path):
    (tmp_path / "all.csv").write_text(MANY)
    found = many(tmp_path, {"symbol": "BB", "spot": "all.csv"}, {"symbol": "AA", "spot": "all.csv"})
    (problem,) = found.problems
    assert problem.reason == "all.csv has no row of BB in its column Ticker; did you mean B.B?"
    assert set(found.bars["symbol"]) == {"AA"}
    (tmp_path / "x.csv").write_text("Date,Close\n2024-07-02,1\n")
    (problem,) = fetch(tmp_path, spot="x.csv: AA").problems
    assert problem.reason.endswith("; [feed.disk] needs columns = symbol: ...")


def test_a_line_that_cannot_be_read_is_its_own_symbols_problem(tmp_path):
    (tmp_path / "all.csv").write_text(MANY.replace("2024-07-03,B.B", "tomorrow,B.B"))
    found = many(tmp_path, {"symbol": "AA", "spot": "all.csv"}, {"symbol": "B.B", "spot": "all.csv"})
    assert found.bars["close"].tolist() == [1, 2]
    (problem,) = found.problems
    assert "line 5: got tomorrow, expected an ISO 8601 date" in problem.reason


def test_dates_of_another_form_are_an_error_that_shows_the_setting_and_the_setting_reads_them(tmp_path):
    text = "Date,Close\n7/2/2024,1\n7/13/2024,2\n"
    message = problem(tmp_path, text)
    assert message.endswith(
        "line 2: got 7/2/2024, expected an ISO 8601 date such as 2006-01-31 17:30, or its format in [feed.disk], such "
        "as date_format = %m/%d/%Y (and 1 more)"
    )
    assert len(read(tmp_path, text, section={"date_format": "%m/%d/%Y"})) == 2


def test_rows_longer_than_their_header_are_an_error_that_shows_the_setting(tmp_path):
    assert problem(tmp_path, LONGER, interval="1h", section={"stamp": "end"}) == (
        "DIR/x.csv, line 2: 6 fields, but the header names 5 (Date, Open, High, Low, Close); if the header is wrong, "
        "name all 6 columns in [feed.disk], such as header = Date, Time, Open, High, Low, Close"
    )
    section = {"stamp": "end", "header": "Date, Time, Open, High, Low, Close", "columns": {"ts": "Date+Time"}}
    bars = read(tmp_path, LONGER, interval="1h", section=section)
    assert stamps(bars) == ["2024-07-02 14:00", "2024-07-02 15:00"]
    assert bars["open"].tolist() == [1, 2]


def test_one_longer_row_is_found_with_its_line(tmp_path):
    text = "date,close\n2024-07-02,1\n2024-07-03,2\n2024-07-05,3,7\n"
    assert problem(tmp_path, text).startswith("DIR/x.csv, line 4: 3 fields, but the header names 2 (date, close)")


@pytest.mark.parametrize(
    ("text", "section", "message"),
    [
        ("", {}, "DIR/x.csv is empty; expected a header and rows"),
        ("date,close\n", {}, "DIR/x.csv has a header but no rows; expected bars"),
        (
            "date,close\n2024-07-02,1\n\n2024-13-05,2\n",
            {},
            "DIR/x.csv, line 4: got 2024-13-05, expected an ISO 8601 date such as 2006-01-31 17:30",
        ),
        (
            "date,close\n2024-07-02,1\n",
            {"date_format": "%m/%d/%Y"},
            "DIR/x.csv, line 2: got 2024-07-02, expected a date as %m/%d/%Y",
        ),
        (
            "date,open,high,low,clsoe\n2024-07-02,1,1,1,1\n",
            {},
            (
                "DIR/x.csv has no column for close ([feed.disk] columns = close: ...); it has date, open, high, low, "
                "clsoe; did you mean clsoe?"
            ),
        ),
        (
            "date,open,hgih,low,close\n2024-07-02,1,1,1,1\n",
            {},
            (
                "DIR/x.csv has no column for high ([feed.disk] columns = high: ...); it has date, open, hgih, low, "
                "close; did you mean hgih?"
            ),
        ),
        (
            "date,close,Lots\n2024-07-02,1,1\n",
            {"columns": {"volume": "lots"}},
            (
                "DIR/x.csv has no column 'lots' ([feed.disk] columns = volume: lots); it has date, close, Lots; did "
                "you mean Lots?"
            ),
        ),
        (
            "when,close\n2024-07-02,1\n",
            {},
            "DIR/x.csv has no column for ts ([feed.disk] columns = ts: ...); it has when, close",
        ),
        (
            "Date,Time,close\n2024-07-02,10:00,1\n",
            {"stamp": "end"},
            "DIR/x.csv has both Date and Time; map the timestamp in [feed.disk]: columns = ts: Date+Time",
        ),
        (
            "ts,close\n2024-11-03 00:30,1\n2024-11-03 01:30,2\n2024-11-03 01:45,2\n",
            {"stamp": "end"},
            (
                "DIR/x.csv, line 3: got 2024-11-03 01:30:00, expected a time that occurs exactly once in "
                "America/New_York (its clocks change then); use offsets or UTC (and 1 more)"
            ),
        ),
        (
            "ts,close\n2024-03-10 02:30,1\n",
            {"stamp": "end"},
            (
                "DIR/x.csv, line 2: got 2024-03-10 02:30:00, expected a time that occurs exactly once in "
                "America/New_York (its clocks change then); use offsets or UTC"
            ),
        ),
        (
            "ts,close\n2024-07-02 10:30Z,1\n2024-07-02 11:30,1\n",
            {"stamp": "end"},
            "DIR/x.csv, line 3: got 2024-07-02 11:30, expected an offset such as +00:00, which other lines have",
        ),
        (
            "date,close\n2024-07-02,1\n",
            {"header": "date, open, close"},
            "DIR/x.csv, line 1: 2 fields, but [feed.disk] header names 3: date, open, close",
        ),
    ],
)
def test_what_cannot_be_understood_is_named_with_its_line_and_its_fix(tmp_path, text, section, message):
    assert problem(tmp_path, text, section=section) == message


def test_a_file_that_is_not_there_and_one_that_is_no_text_are_problems(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.csv").write_bytes(b"\x81\xff,\x00")
    (missing,) = fetch(tmp_path, spot="sub/X.csv").problems
    assert missing.reason == f"there is no file sub/X.csv in {tmp_path}; did you mean sub/x.csv?"
    (binary,) = fetch(tmp_path, spot="sub/x.csv").problems
    assert "x.csv, line 1: not utf-8" in binary.reason
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    (broken,) = fetch(tmp_path, spot="x.parquet").problems
    assert "x.parquet cannot be read as Parquet" in broken.reason


@pytest.mark.parametrize("name", ["x.csv.gz", "x.csv.bz2", "x.csv.xz", "x.csv.zip", "x.csv.zst", "x.csv.tar"])
@pytest.mark.parametrize("half", [True, False])
def test_a_damaged_archive_stops_its_own_instrument_alone(tmp_path, name, half):
    text = pd.DataFrame({"Date": pd.bdate_range("2020-01-02", periods=500).astype(str), "Close": range(1, 501)})
    if half and not name.endswith("zst"):
        text.to_csv(tmp_path / name, index=False)
    whole = (tmp_path / name).read_bytes() if half and not name.endswith("zst") else b"no archive" * 99
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    (damaged,) = fetch(tmp_path, spot=name).problems
    assert f"{name} cannot be read" in damaged.reason


def test_an_archive_of_several_files_is_a_problem(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.csv", "Date,Close\n2024-07-02,1\n")
        archive.writestr("b.csv", "Date,Close\n2024-07-02,1\n")
    (several,) = fetch(tmp_path, spot="x.zip").problems
    assert "x.zip cannot be read: it holds 2 files (a.csv, b.csv); expected one" in several.reason


@pytest.mark.parametrize("name", ["/prices/x.csv", "**x.csv", ".", "x" * 300])
def test_what_is_no_path_below_the_root_is_a_problem(tmp_path, name):
    (odd,) = fetch(tmp_path, spot=name).problems
    assert odd.reason.startswith(f"{name!r} is not a path or glob below {tmp_path}: ")


def test_a_root_that_is_no_folder_is_a_mistake_in_the_configuration(tmp_path):
    with pytest.raises(ConfigError, match=r"\[feed.disk\] root = .*nowhere is not a folder"):
        fetch(tmp_path / "nowhere")


def shared(folder):
    if not (SHARED / folder).is_dir():
        pytest.skip(f"needs the market data in {folder}, beside the checkout")
    return SHARED / folder


STOXX = {
    "zone": "Europe/Berlin",
    "stamp": "end",
    "header": "Date, Time, Open, High, Low, Close, Volume, OpenInterest",
    "columns": {"ts": "Date+Time"},
    "zero_volume_is_missing": True,
}


def test_the_euro_stoxx_of_2006_reads_screens_and_resamples():
    root = shared("eurostoxx50_2006")
    terms = {"spot": "spot_5m.csv", "futures": "futures_1m.csv", "calendar": "XEUR"}
    spot = fetch(root, "5m", "spot", section=STOXX, **terms)
    futures = fetch(root, "1m", "futures", section=STOXX, **terms)
    assert (len(spot.bars), len(futures.bars)) == (2142, 30889)
    # 09:05 and 09:01 in Frankfurt's winter; the index has no volume
    assert stamps(spot.bars)[0] == "2006-01-02 08:05"
    assert stamps(futures.bars)[0] == "2006-01-02 08:01"
    assert spot.bars["volume"].isna().all()
    assert futures.bars["volume"].iloc[0] == 5699
    both = pd.concat([spot.bars, futures.bars], ignore_index=True)
    screened = screen(both, {"X": instrument(**terms)}, now=UNTIL)
    assert len(both) == len(screened.bars) + screened.quarantined + screened.collapsed
    hours = resample.resample(screened.bars, "1h", {"X": "XEUR"}, UNTIL)
    both_hours = set(hours[hours["market"] == "spot"]["ts"]) & set(hours[hours["market"] == "futures"]["ts"])
    assert len(both_hours) > 150
    # the vendor's own daily futures file is the oracle where it agrees with its minutes
    days = resample.resample(screened.bars, "1d", {"X": "XEUR"}, UNTIL)
    daily = fetch(root, "1d", "futures", section={"stamp": "date"}, **(terms | {"futures": "futures_1d.csv"})).bars
    joined = days[days["market"] == "futures"].merge(daily, on="ts", suffixes=("", "_vendor"))
    assert len(joined) > 35
    assert (joined["close"] - joined["close_vendor"]).abs().median() <= 3


def test_minutes_of_2006_begin_where_the_instrument_says_that_the_session_does():
    root = shared("eurostoxx50_2006")
    header = "Date,Time,Open,High,Low,Close,Volume,OpenInterest"
    section = {"zone": "Europe/Berlin", "stamp": "end", "header": header, "columns": {"ts": "Date+Time"}}
    terms = {"futures": "futures_1m.csv", "signal_market": "futures", "trade_market": "futures", "calendar": "XEUR"}
    bars = fetch(root, "1m", "futures", section=section, **terms).bars
    own = instrument(**terms, session="09:00-22:00")
    assert screen(bars, {"X": own}, now=UNTIL).issues.empty
    # the calendar opens at 08:00, so that the first day's bar could not be known to be whole
    days = resample.resample(bars, "1d", {"X": own.hours}, UNTIL)
    assert stamps(days)[0] == "2006-01-02 21:00"
    assert stamps(resample.resample(bars, "1d", {"X": "XEUR"}, UNTIL))[0] == "2006-01-03 21:00"
    hours = resample.resample(bars, "4h", {"X": own.hours}, UNTIL)
    # from 09:00, in Berlin, and nothing was traded in the last hour
    assert stamps(hours)[:4] == ["2006-01-02 12:00", "2006-01-02 16:00", "2006-01-02 20:00", "2006-01-03 12:00"]


def test_the_sp500_of_1999_to_2018_reads():
    section = {"date_format": "%m/%d/%Y"}
    found = fetch(shared("sp500_index_1999_2018"), section=section, spot="spot_1d.csv")
    assert len(found.bars) == 5031
    assert stamps(found.bars)[0] == "1999-01-04 21:00"
    assert found.bars["close"].iloc[0] == 1228.099976
    assert screen(found.bars, {"X": instrument()}, now=UNTIL).issues.empty


def test_the_e_mini_contracts_of_2013_read_and_roll():
    terms = {"futures": "ES_*.csv", "spot": "SPY_spot.csv", "calendar": "CMES"}
    found = fetch(shared("es_contracts_2013"), market="futures", **terms)
    screened = screen(found.bars, {"X": instrument(**terms)}, now=UNTIL)
    # Sunday evenings' stubs have no session of their own
    assert set(zip(screened.issues["check_name"], screened.issues["outcome"], strict=True)) == {
        ("no session", "quarantined")
    }
    assert screened.quarantined == 10
    made = rolls.decide(screened.bars, Rolls.empty())
    assert [(str(r.ts)[:16], r.contract) for r in made[1:].itertuples()] == [("2013-12-13 23:00", "ES_201403")]


def test_sunday_evenings_of_the_e_mini_are_the_beginning_of_mondays():
    terms = {"futures": "ES_*.csv", "calendar": "CMES", "roll": "volume", "last_trade": "third friday"}
    found = fetch(shared("es_contracts_2013"), market="futures", section={"join": True}, **terms)
    screened = screen(found.bars, {"X": instrument(**terms)}, now=UNTIL)
    assert screened.issues.empty
    bars = screened.bars.set_index(["contract", "ts"])
    monday = bars.loc[("ES_201312", pd.Timestamp("2013-12-16 23:00", tz="UTC"))]
    # 1774.75, 1776.5, 1774, 1775.75, 1,828 lots and 1783.5, 1792.5, 1783.25, 1785.25, 200,215 lots
    assert monday[["open", "high", "low", "close", "volume"]].tolist() == [1774.75, 1792.5, 1774, 1785.25, 202043]
    # a Monday of which only the evening before is known is that evening
    assert bars.loc[("ES_201403", pd.Timestamp("2013-12-02 23:00", tz="UTC")), "volume"] == 26 + 2827
    made = rolls.decide(screened.bars, Rolls.empty(), {"X": roll_policy.policy(instrument(**terms), None)})
    assert [(str(r.ts)[:16], r.contract) for r in made[1:].itertuples()] == [("2013-12-13 23:00", "ES_201403")]


ROWS = "Date,Close,Splits,Paid\n2024-07-02,400,,\n2024-07-03,100,4,\n2024-07-05,99,0,1.5\n"
EVENTS = [("split", "2024-07-03 13:30", 4), ("dividend", "2024-07-05 13:30", 1.5)]


def acted(found):
    assert not found.problems, found.problems[0].reason
    return [(r.kind, f"{r.ts:%Y-%m-%d %H:%M}", r.value) for r in found.actions.itertuples()]


def test_splits_and_dividends_come_from_columns_beside_the_bars(tmp_path):
    (tmp_path / "x.csv").write_text(ROWS)
    mapped = {"columns": {"split": "Splits", "dividend": "Paid"}}
    assert acted(fetch(tmp_path, section=mapped)) == EVENTS
    # nobody said that these columns are events
    assert acted(fetch(tmp_path)) == []
    eve = pd.Timestamp("2024-07-05 13:00", tz="UTC").to_pydatetime()
    assert acted(fetch(tmp_path, section=mapped, until=eve)) == EVENTS[:1]


def test_splits_and_dividends_come_from_a_file_of_their_own(tmp_path):
    (tmp_path / "x.csv").write_text("Date,Close\n2024-07-02,400\n2024-07-03,100\n")
    (tmp_path / "events.csv").write_text("Date,split,dividend\n2024-07-03,4,\n2024-07-05,,1.5\n")
    assert acted(fetch(tmp_path, actions="events.csv")) == EVENTS
    (tmp_path / "x.csv").write_text("Day,Close\n2024-07-02,400\n2024-07-03,100\n")
    bars_have = {"columns": {"ts": "Day", "split": "Splits"}}  # names of the bars' columns
    assert acted(fetch(tmp_path, section=bars_have, actions="events.csv")) == EVENTS
    (tmp_path / "events.csv").write_text("Day,Splits,dividend\n2024-07-03,4,\n2024-07-05,,1.5\n")
    assert acted(fetch(tmp_path, section=bars_have, actions="events.csv")) == EVENTS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Date,split\n2024-07-03,four\n", "DIR/events.csv, line 2: got four, expected a split as a number"),
        ("Date,ratio\n2024-07-03,4\n", "DIR/events.csv has no column for split or dividend; it has Date, ratio"),
        (None, "there is no file events.csv in DIR"),
    ],
)
def test_events_that_cannot_be_read_are_a_problem_of_their_instrument(tmp_path, text, message):
    if text:
        (tmp_path / "events.csv").write_text(text)
    assert problem(tmp_path, ROWS, actions="events.csv").startswith(message)


STUB = "Date,Open,High,Low,Close,Volume\n"
SUNDAY, MONDAY = "2024-07-07,5,9,4,6,10\n", "2024-07-08,6,8,5,7,100\n"


def joined(root, text):
    return read(root, text, section={"join": True})[["open", "high", "low", "close", "volume"]].to_numpy().tolist()


def test_rows_of_two_days_of_one_session_are_one_bar_in_whatever_order_they_stand(tmp_path):
    assert joined(tmp_path, STUB + MONDAY + SUNDAY) == [[5, 9, 4, 7, 110]]
    later = MONDAY.replace(MONDAY[:10], "2024-07-16")
    # an evening is a bar once a later row shows that its Monday never comes
    assert joined(tmp_path, STUB + SUNDAY) == []
    assert joined(tmp_path, STUB + SUNDAY + later)[0] == [5, 9, 4, 6, 10]


def test_what_one_part_does_not_know_the_joined_bar_does_not_know(tmp_path):
    (bar,) = joined(tmp_path, STUB + SUNDAY.replace("10\n", "\n") + MONDAY)
    assert bar[:4] == [5, 9, 4, 7]
    assert np.isnan(bar[4])


def test_a_day_that_stands_there_twice_is_not_joined_but_screened(tmp_path):
    twice = joined(tmp_path, STUB + MONDAY + MONDAY.replace("100", "101"))
    assert [bar[4] for bar in twice] == [100, 101]
    worded = read(tmp_path, STUB + SUNDAY.replace("9", "high") + MONDAY, section={"join": True})
    assert screen(worded, {"X": instrument()}, now=UNTIL).quarantined == 2


def test_contracts_side_by_side_are_quoted_at_one_instant_the_sessions_last(tmp_path):
    beside = {"join": True, "contracts": {"NEAR": "PRICE", "FAR": "NEXT", "CARRY": "CARRIED"}}
    terms = {"futures": "x.csv", "market": "futures", "section": beside, "calendar": "CMES"}
    text = "DATETIME,PRICE,NEAR,NEXT,FAR,CARRIED,CARRY\n"
    rows = [
        "2024-07-08 15:00:00,100,A20240900,110,B20241200,110,B20241200",
        "2024-07-08 16:00:00,111,B20241200,,C20250300,,C20250300",
        "2024-07-08 17:00:00,,B20241200,,C20250300,,C20250300",
        "2024-07-09 23:00:00,112,B20241200,120,C20250300,120,C20250300",
    ]
    columns = {"columns": {"ts": "DATETIME"}}
    found = read(tmp_path, text + "\n".join(rows) + "\n", **terms | {"section": beside | columns})
    assert list(zip(found["contract"], stamps(found), found["close"], strict=True)) == [
        ("B20241200", "2024-07-08 22:00", 111),
        ("B20241200", "2024-07-09 22:00", 112),
        ("C20250300", "2024-07-09 22:00", 120),
    ]
    assert found[["open", "high", "low", "volume"]].isna().all(axis=None)
    wrong = {**beside, **columns, "contracts": {"NEAR": "PRIZE"}}
    message = problem(tmp_path, text + rows[0] + "\n", **terms | {"section": wrong})
    assert message.startswith("DIR/x.csv has no column 'PRIZE' ([feed.disk] contracts = NEAR: PRIZE); it has DATETIME")
    assert message.endswith("did you mean PRICE?")
