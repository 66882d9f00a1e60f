"""Files as people have them: separators, encodings, decimals, archives and headers of all kinds."""

import gzip
import zipfile

import pandas as pd
import pytest

from alphapivot.config.sections.feeds import FilesFeed
from alphapivot.feeds.base import Request
from alphapivot.feeds.files import text as text_file
from alphapivot.feeds.registry import open_feed
from tests.feeds.test_files import UNTIL, fetch, instrument, problem, read, stamps

FUTURES = {"spot": None, "signal_market": "futures", "trade_market": "futures", "calendar": "CMES"}
OHLCV = ["open", "high", "low", "close", "volume"]


def values(bars):
    return bars[OHLCV].to_numpy().tolist()


def test_a_file_without_a_header_keeps_its_first_row(tmp_path):
    text = "2024-01-02,2,4,1,3,100\n2024-01-03,3,5,2,4,100\n"
    named = {"header": "ts,open,high,low,close,volume"}
    assert read(tmp_path, text, section=named)["close"].tolist() == [3, 4]
    assert read(tmp_path, "Date,O,H,L,C,V\n" + text, section=named)["close"].tolist() == [3, 4]
    assert "line 1: the first line holds numbers" in problem(tmp_path, text)
    assert "header = ..., ..., ..., ..., ..., ..." in problem(tmp_path, text)


MT5 = """<DATE> <TIME> <OPEN> <HIGH> <LOW> <CLOSE> <TICKVOL> <VOL> <SPREAD>
2024.01.02 00:00:00 1.1 1.2 1.0 1.15 100 0 5
""".replace(" ", "\t")
MT5_COLUMNS = {"columns": {"ts": "<DATE>+<TIME>", "volume": "<TICKVOL>"}, "date_format": "%Y.%m.%d %H:%M:%S"}


@pytest.mark.parametrize(
    ("text", "section", "expected"),
    [
        (MT5, MT5_COLUMNS, ["2024-01-02 01:00", 1.1, 1.2, 1.0, 1.15, 100]),
        (
            "20240102 170000;1.10427;1.10429;1.10425;1.10429;0\n",  # HistData
            {"header": "ts,open,high,low,close,volume", "date_format": "%Y%m%d %H%M%S"},
            ["2024-01-02 18:00", 1.10427, 1.10429, 1.10425, 1.10429, 0],
        ),
        (
            "Datum;Erster;Hoch;Tief;Schluss;Stuecke\n02.01.2024;1.100,50;1.200,00;1.000,00;1.150,00;12.345\n",
            {
                "columns": {
                    "ts": "Datum",
                    "open": "Erster",
                    "high": "Hoch",
                    "low": "Tief",
                    "close": "Schluss",
                    "volume": "Stuecke",
                },
                "date_format": "%d.%m.%Y",
            },
            ["2024-01-02 01:00", 1100.5, 1200, 1000, 1150, 12345],
        ),
        (
            'Date,Open,High,Low,Close,Volume\n2024-01-08,"1,000.5","1,200.0","900.0","1,100.0","12,345"\n',
            {},
            ["2024-01-08 01:00", 1000.5, 1200, 900, 1100, 12345],
        ),
        (
            "1704067200000000,0.316,0.316,0.316,0.316,27,1704067259999999,8.5,1,0,0,0\n",  # Binance of 2025
            {"header": "ts,open,high,low,close,volume,close_time,quote,count,buy,buy_quote,ignore"},
            ["2024-01-01 01:00", 0.316, 0.316, 0.316, 0.316, 27],
        ),
        (
            "time,open,high,low,close,Volume\n1704207600,10,12,9,11,100\n",  # TradingView
            {},
            ["2024-01-02 16:00", 10, 12, 9, 11, 100],
        ),
        (
            "https://www.example.com\nunix,date,open,high,low,close,VolumeUSD\n1704207600,2024-01-02,10,12,9,11,7\n",
            {"skip": 1, "columns": {"ts": "unix", "volume": "VolumeUSD"}},
            ["2024-01-02 16:00", 10, 12, 9, 11, 7],
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_files_of_vendors_are_read(tmp_path, text, section, expected, encoding, newline):
    (tmp_path / "x.csv").write_bytes(text.replace("\n", newline).encode(encoding))
    how = {"zone": "UTC", "stamp": "start"} | section
    found = fetch(tmp_path, interval="1h", calendar="24/7", section=how)
    assert not found.problems, found.problems[0].reason
    assert [stamps(found.bars)[0], *values(found.bars)[0]] == expected
    assert found.notes == ()


def test_the_bhavcopy_of_futures_and_options(tmp_path):
    text = """INSTRUMENT,SYMBOL,EXPIRY_DT,STRIKE_PR,OPTION_TYP,OPEN,HIGH,LOW,CLOSE,CONTRACTS,OPEN_INT,TIMESTAMP,
FUTIDX,NIFTY,25-Jan-2024,0,XX,21800,21900,21700,21850,100,1000,02-JAN-2024,
FUTIDX,NIFTY,29-Feb-2024,0,XX,21900,22000,21800,21950,50,500,02-JAN-2024,
OPTIDX,NIFTY,25-Jan-2024,21000,CE,900,950,800,870,5,100,02-JAN-2024,
"""
    columns = {"symbol": "SYMBOL", "contract": "EXPIRY_DT", "volume": "CONTRACTS", "open_interest": "OPEN_INT"}
    section = {"columns": columns, "date_format": "%d-%b-%Y", "where": {"INSTRUMENT": "FUTIDX"}}
    terms = FUTURES | {"calendar": "XBOM", "symbol": "NIFTY", "futures": "x.csv"}
    bars = read(tmp_path, text, market="futures", section=section, **terms)
    assert bars[["contract", "close", "volume", "open_interest"]].to_numpy().tolist() == [
        *(["25-Jan-2024", 21850, 100, 1000], ["29-Feb-2024", 21950, 50, 500])
    ]


def test_a_comma_that_may_be_either_mark_is_asked_about(tmp_path):
    text = 'Date,Close\n2024-01-08,"1,105"\n2024-01-09,"1,106"\n'
    assert "line 2: got 1,105, expected a number whose comma the file explains, or [feed.disk] decimal" in problem(
        tmp_path, text
    )
    assert read(tmp_path, text, section={"decimal": "comma"})["close"].tolist() == [1.105, 1.106]
    assert read(tmp_path, text, section={"decimal": "point"})["close"].tolist() == [1105, 1106]


def test_a_volume_that_no_column_is_read_as_is_told(tmp_path):
    (tmp_path / "x.csv").write_text("Date,Close,Vol.\n2024-01-08,1,7\n")
    (note,) = fetch(tmp_path).notes
    assert "no column is read as volume" in note
    assert "columns = volume: Vol." in note


def test_an_adjusted_close_adjusts_open_high_and_low(tmp_path):
    text = (
        "Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-08,100,110,90,110,55,7\n2024-01-09,100,104,99,100,100,7\n"
    )
    bars = read(tmp_path, text, section={"columns": {"close": "Adj Close"}})
    assert values(bars) == [[50, 55, 45, 55, 7], [100, 104, 99, 100, 7]]


@pytest.fixture
def folder(tmp_path):
    """GOOD's file, and names for bad ones."""
    (tmp_path / "good.csv").write_text("Date,Close\n2024-01-08,1\n2024-01-09,2\n")
    return tmp_path


def both(folder, ticker, market="spot", section=None, **terms):
    settings = {"root": folder, "zone": "America/New_York", "stamp": "date"} | (section or {})
    bad = Request(instrument(symbol="BAD", **{market: ticker}, **terms), market, "1d", None, UNTIL)
    good = Request(instrument(symbol="GOOD", spot="good.csv"), "spot", "1d", None, UNTIL)
    return open_feed("disk", FilesFeed(**settings)).fetch([bad, good])


def test_a_download_that_was_cut_off_is_alone(folder):
    (folder / "bad.csv.gz").write_bytes(gzip.compress(b"Date,Close\n2024-01-08,1\n" * 99)[:-20])
    found = both(folder, "bad.csv.gz")
    assert found.bars["symbol"].tolist() == ["GOOD", "GOOD"]
    assert "bad.csv.gz cannot be read" in found.problems[0].reason


@pytest.mark.parametrize("extra", ["__MACOSX/._a.csv", ".DS_Store", "sub/.hidden"])
def test_what_a_mac_adds_to_an_archive_is_left_out(folder, extra):
    with zipfile.ZipFile(folder / "bad.zip", "w") as archive:
        archive.writestr("a.csv", "Date,Close\n2024-01-08,1\n")
        archive.writestr(extra, "\x00\x05\x16\x07")
    found = both(folder, "bad.zip")
    assert not found.problems
    assert found.bars["symbol"].tolist() == ["BAD", "GOOD", "GOOD"]


@pytest.mark.parametrize(
    ("text", "packed", "told"),
    [
        ("Date,Close\n2024-01-08,1\n2024-01-09,1,7\n", True, "line 3: 3 fields"),  # a misfit in an archive
        ("Date,Close\n2024-01-08,caf\udce9\n", False, "line 2: not utf-8"),
        ("Date,Close\n08.13.2024,1\n", False, "line 2: got 08.13.2024"),
    ],
)
def test_a_bad_row_is_named_and_alone(folder, text, packed, told):
    data = text.encode("utf-8", "surrogateescape")
    (folder / "bad.csv.gz" if packed else folder / "bad.csv").write_bytes(gzip.compress(data) if packed else data)
    found = both(folder, "bad.csv.gz" if packed else "bad.csv")
    assert found.bars["symbol"].tolist() == ["GOOD", "GOOD"]
    assert told in found.problems[0].reason


def test_one_bad_file_of_a_glob_leaves_the_others(folder):
    (folder / "bad_1.csv").write_text("Date,Close\n2024-01-08,1\n")
    (folder / "bad_2.csv").write_text("Date,Close\nyesterday,1\n")
    found = both(folder, "bad_*.csv")
    assert found.bars["symbol"].tolist() == ["BAD", "GOOD", "GOOD"]
    (only,) = found.problems
    assert only.partial
    assert "bad_2.csv, line 2: got yesterday" in only.reason


@pytest.mark.parametrize("stray", ["ES_H24 (1).csv", "ES_continuous.csv"])
def test_a_stray_contract_is_alone(folder, stray):
    for name in ("ES_H24.csv", "ES_M24.csv.gz", stray):
        text = b"Date,Close\n2024-01-08,1\n"
        (folder / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    terms = {"signal_market": "futures", "trade_market": "futures", "calendar": "CMES"}
    found = both(folder, "ES_*", "futures", **terms)
    assert found.bars["contract"].tolist() == ["ES_H24", "ES_M24", "", ""]
    (only,) = found.problems
    assert only.partial
    assert stray in only.reason


def test_spreads_and_options_in_a_column_are_left_out_and_noted(tmp_path):
    rows = (("ESH4", 5057), ("ESM4", 5115), ("ESH4-ESM4", 58), ("ESH4 C4500", 9))
    text = "ts_event,symbol,close\n" + "".join(f"2024-02-12,{name},{close}\n" for name, close in rows)
    (tmp_path / "x.csv").write_text(text)
    section = {"columns": {"ts": "ts_event", "contract": "symbol"}}
    found = fetch(tmp_path, market="futures", section=section, futures="x.csv", **FUTURES)
    assert found.bars["contract"].tolist() == ["ESH4", "ESM4"]
    assert not found.problems
    assert "left out ESH4 C4500, ESH4-ESM4" in found.notes[0]
    (tmp_path / "x.csv").write_text(text + "2024-02-12,ES1!,5057\n")
    (only,) = fetch(tmp_path, market="futures", section=section, futures="x.csv", **FUTURES).problems
    assert only.partial
    assert "x.csv, line 6: contract 'ES1!' has no month" in only.reason


def test_a_large_file_is_read_once_for_all_pieces_of_a_backfill_and_again_when_it_changes(tmp_path, monkeypatch):
    reads = []
    read_text = text_file.read
    monkeypatch.setattr(text_file, "read", lambda *words: reads.append(words[0]) or read_text(*words))
    monkeypatch.setattr("alphapivot.feeds.files.feed.LARGE", 1)
    (tmp_path / "x.csv").write_text("Date,Close\n2024-01-08,1\n2024-01-09,2\n2024-01-10,3\n")
    cut = pd.Timestamp("2024-01-09 12:00", tz="UTC").to_pydatetime()
    assert fetch(tmp_path, until=cut).bars["close"].tolist() == [1]
    assert fetch(tmp_path, since=cut).bars["close"].tolist() == [2, 3]
    assert len(reads) == 1
    (tmp_path / "x.csv").write_text("Date,Close\n2024-01-08,1\n2024-01-09,20\n2024-01-10,3\n")
    assert fetch(tmp_path, since=cut).bars["close"].tolist() == [20, 3]
    assert len(reads) == 2
