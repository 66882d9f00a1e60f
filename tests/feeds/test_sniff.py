"""`alphapivot data sniff` on the layouts of vendors: the sections that it writes read the file to the right bars."""

import gzip
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from alphapivot import cli
from alphapivot.config import ini
from alphapivot.config.sections.feeds import FilesFeed
from alphapivot.config.sections.instrument import Instrument
from alphapivot.errors import DataError
from alphapivot.feeds.base import Request
from alphapivot.feeds.files.feed import Files
from alphapivot.feeds.sniff.sniff import sniff

DAYS = ["2024-01-12", "2024-01-16", "2024-01-17"]  # 15 January is a holiday in New York
MINUTES = ["15:00", "15:05", "15:10"]  # UTC, of 16 January
PRICES = [(100.5, 102.5, 99.5, 101.25, 1000), (101.5, 103.5, 100.5, 102.25, 2000), (102.5, 104.5, 101.5, 103.25, 3000)]
CLOSES = [f"{day} 21:00" for day in DAYS]
ENDS = [f"2024-01-16 {minute}" for minute in ("15:05", "15:10", "15:15")]


def daily(head, date="%Y-%m-%d", row="{d},{o},{h},{l},{c},{v}"):
    """A file of the three days."""
    lines = [
        row.format(d=f"{pd.Timestamp(day):{date}}", o=o, h=h, l=low, c=c, v=v, e=_epoch(day))
        for day, (o, h, low, c, v) in zip(DAYS, PRICES, strict=True)
    ]
    return "\n".join([*([head] if head else []), *lines]) + "\n"


def minutes(head, row, date="%Y-%m-%d"):
    """A file of the three bars of five minutes."""
    lines = []
    for minute, (o, h, low, c, v) in zip(MINUTES, PRICES, strict=True):
        at = pd.Timestamp(f"2024-01-16 {minute}")
        values = {"d": f"{at:{date}}", "t": minute, "e": _epoch(at), "e2": _epoch(at) + 299}
        lines.append(row.format(o=o, h=h, l=low, c=c, v=v, **values))
    return "\n".join([*([head] if head else []), *lines]) + "\n"


def _epoch(at):
    return int(pd.Timestamp(at, tz="UTC").timestamp())


OHLCV = "{o},{h},{l},{c},{v}"
LAYOUTS = {
    "Yahoo": (daily("Date,Open,High,Low,Close,Adj Close,Volume", row="{d},{o},{h},{l},{c},{c},{v}"), CLOSES),
    "yfinance": (
        daily("Date,Open,High,Low,Close,Volume,Dividends", row="{d} 00:00:00-05:00," + OHLCV + ",0.0"),
        CLOSES,
    ),
    "Stooq": (daily("Date,Open,High,Low,Close,Volume"), CLOSES),
    "Stooq bulk": (
        daily(
            "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
            "%Y%m%d",
            "SPY.US,D,{d},000000," + OHLCV + ",0",
        ),
        CLOSES,
    ),
    "Nasdaq": (daily("Date,Close/Last,Volume,Open,High,Low", "%m/%d/%Y", "{d},${c},{v},${o},${h},${l}"), CLOSES),
    "Investing": (
        daily("Date,Price,Open,High,Low,Vol.", "%m/%d/%Y", '"{d}","{c}","{o}","{h}","{l}","{v}"')
        .replace('"1000"', '"1.00K"')
        .replace('"2000"', '"0.002M"'),
        CLOSES,
    ),
    "Polygon's letters": (daily("t,o,h,l,c,v"), CLOSES),
    "Alpha Vantage": (daily("timestamp,open,high,low,close,volume"), CLOSES),
    "Tiingo": (
        daily("date,close,high,low,open,volume,adjClose", row="{d}T00:00:00.000Z,{c},{h},{l},{o},{v},{c}"),
        CLOSES,
    ),
    "Quandl": (daily("Date,Open,High,Low,Last,Volume"), CLOSES),
    "Kibot daily": (daily("", "%m/%d/%Y"), CLOSES),
    "Kibot minutes": (minutes("", "{d},{t}," + OHLCV, "%m/%d/%Y"), ENDS),
    "FirstRate": (minutes("", "{d} {t}:00," + OHLCV), ENDS),
    "FirstRate with a header": (minutes("timestamp,open,high,low,close,volume", "{d} {t}:00," + OHLCV), ENDS),
    "TradingView daily": (daily("time,open,high,low,close,Volume", row="{e}," + OHLCV), CLOSES),
    "TradingView minutes": (minutes("time,open,high,low,close,Volume", "{e}," + OHLCV), ENDS),
    "TradingView ISO": (minutes("time,open,high,low,close,Volume", "{d}T{t}:00Z," + OHLCV), ENDS),
    "Binance": (minutes("", "{e}000," + OHLCV + ",{e2}999,1.5,7,1.1,1.2,0"), ENDS),
    "Binance of 2025": (minutes("", "{e}000000," + OHLCV + ",{e2}999999,1.5,7,1.1,1.2,0"), ENDS),
    "CryptoDataDownload": (
        "https://www.example.com\n"
        + minutes("unix,date,symbol,open,high,low,close,Volume", "{e},{d} {t}:00,BTC," + OHLCV),
        ENDS,
    ),
    "MetaTrader 4": (minutes("", "{d},{t}," + OHLCV, "%Y.%m.%d"), ENDS),
    "MetaTrader 5": (
        minutes(
            "<DATE> <TIME> <OPEN> <HIGH> <LOW> <CLOSE> <TICKVOL> <VOL> <SPREAD>",
            "{d} {t}:00 {o} {h} {l} {c} {v} 0 5",
            "%Y.%m.%d",
        ).replace(" ", "\t"),
        ENDS,
    ),
    "HistData": (minutes("", "{d};{o};{h};{l};{c};{v}", "%Y%m%d %H%M%S"), ENDS),
    "Dukascopy": (
        minutes("Gmt time,Open,High,Low,Close,Volume", "{d}," + OHLCV, "%d.%m.%Y %H:%M:%S.000").replace(
            "Gmt time", "Time"
        ),
        ENDS,
    ),
    "Oanda": (minutes("time,o,h,l,c,volume", "{d}T{t}:00.000000000Z," + OHLCV), ENDS),
    "Databento": (
        minutes("ts_event,rtype,open,high,low,close,volume,symbol", "{e}000000000,33," + OHLCV + ",SPY"),
        ENDS,
    ),
    "Polygon": (
        minutes("ticker,volume,open,close,high,low,window_start", "SPY,{v},{o},{c},{h},{l},{e}000000000"),
        ENDS,
    ),
    "Alpaca": (minutes("timestamp,open,high,low,close,volume,vwap", "{d} {t}:00+00:00," + OHLCV + ",1"), ENDS),
    "European": (
        daily("Datum;Erster;Hoch;Tief;Schlusskurs;Stuecke", "%d/%m/%Y", "{d};{o};{h};{l};{c};{v}").replace(".", ","),
        CLOSES,
    ),
    "NSE spot": (
        daily(
            "SYMBOL,SERIES,OPEN,HIGH,LOW,CLOSE,LAST,TOTTRDQTY,TIMESTAMP",
            "%d-%b-%Y",
            "SPY,EQ,{o},{h},{l},{c},{c},{v},{d}",
        ),
        CLOSES,
    ),
    "English": (daily("Date,Open,High,Low,Close,Volume", "%d %b %Y"), CLOSES),
    "pipes": (daily("Date|Open|High|Low|Close|Volume", row="{d}|{o}|{h}|{l}|{c}|{v}"), CLOSES),
    "spaces": (daily("Date Open High Low Close Volume", row="{d} {o} {h} {l} {c} {v}"), CLOSES),
}


def read_again(found):
    """The bars of the file as the printed sections read them, through config.ini's own parser."""
    sections, mistakes = ini.parse(found.ini())
    assert mistakes == []
    feed = ini.validate(FilesFeed, "feed.files", sections["feed.files"], {}, mistakes)
    name = f"instrument.{found.symbol}"
    own = ini.validate(Instrument, name, sections[name], {"symbol": found.symbol}, mistakes)
    assert mistakes == []
    market = own.signal_market
    fetched = Files("files", feed).fetch(
        [Request(own, market, own.source_interval(market, "1d"), None, datetime.now(UTC))]
    )
    assert not fetched.problems, fetched.problems[0].reason
    return fetched.bars


def rows_of(bars):
    return [
        (f"{bar.ts:%Y-%m-%d %H:%M}", bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars.itertuples()
    ]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_sections_that_it_writes_read_the_layout(tmp_path, name):
    text, stamps = LAYOUTS[name]
    (tmp_path / "SPY.csv").write_text(text)
    found = sniff(tmp_path / "SPY.csv")
    expected = [(ts, *prices) for ts, prices in zip(stamps, PRICES, strict=True)]
    assert rows_of(read_again(found)) == expected, found.ini()
    assert rows_of(found.fetched.bars) == expected


@pytest.mark.parametrize("pack", ["utf-16", "utf-8-sig", "gz", "crlf"])
def test_packing_and_encoding_make_no_difference(tmp_path, pack):
    text, stamps = LAYOUTS["MetaTrader 5"]
    data = text.replace("\n", "\r\n").encode() if pack == "crlf" else text.encode(pack if "utf" in pack else "utf-8")
    file = tmp_path / ("SPY.csv.gz" if pack == "gz" else "SPY.csv")
    file.write_bytes(gzip.compress(data) if pack == "gz" else data)
    assert [row[0] for row in rows_of(read_again(sniff(file)))] == stamps


@pytest.mark.parametrize("vendor", ["databento", "polygon"])
def test_parquet(tmp_path, vendor):
    table = pd.DataFrame(PRICES, columns=["open", "high", "low", "close", "volume"]).assign(ticker="SPY")
    at = pd.DatetimeIndex([f"2024-01-16 {minute}" for minute in MINUTES], tz="UTC")
    if vendor == "databento":
        table = table.set_index(at.rename("ts_event"))
    else:
        table = table.assign(window_start=at.as_unit("ns").asi8).astype({"window_start": np.int64})
    table.to_parquet(tmp_path / "SPY.parquet")
    found = sniff(tmp_path / "SPY.parquet")
    assert [row[0] for row in rows_of(read_again(found))] == ENDS
    assert found.symbol == "SPY"


def test_futures_of_the_bhavcopy_without_its_options(tmp_path):
    text = """INSTRUMENT,SYMBOL,EXPIRY_DT,STRIKE_PR,OPTION_TYP,OPEN,HIGH,LOW,CLOSE,CONTRACTS,OPEN_INT,TIMESTAMP
FUTIDX,NIFTY,25-Jan-2024,0,XX,21800,21900,21700,21850,100,1000,02-JAN-2024
FUTIDX,NIFTY,29-Feb-2024,0,XX,21900,22000,21800,21950,50,500,02-JAN-2024
OPTIDX,NIFTY,25-Jan-2024,21000,CE,900,950,800,870,5,100,02-JAN-2024
"""
    (tmp_path / "fo.csv").write_text(text)
    bars = read_again(sniff(tmp_path / "fo.csv"))
    assert bars[["contract", "close", "volume", "open_interest"]].to_numpy().tolist() == [
        *(["25-Jan-2024", 21850, 100, 1000], ["29-Feb-2024", 21950, 50, 500])
    ]


def test_contracts_in_a_symbol_column_are_futures(tmp_path):
    text = daily("ts_event,symbol,open,high,low,close,volume", row="{d},ESH4," + OHLCV)
    (tmp_path / "es.csv").write_text(text + "2024-01-17,ESH4-ESM4,58,59,57,58,7\n")
    found = sniff(tmp_path / "es.csv")
    assert set(read_again(found)["contract"]) == {"ESH4"}
    assert found.instrument["signal_market"] == "futures"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Date,Close\n03/04/2024,1\n", "date_format: is it %m/%d/%Y or %d/%m/%Y"),
        ("Date,Close\n03/04/2024,1\n06/05/2024,2\n09/06/2024,2\n", "date_format: is it"),
        (minutes("time,open,high,low,close,Volume", "{d} {t}:00," + OHLCV), "zone: the stamps have none"),
        (minutes("time,open,high,low,close,Volume", "{e}," + OHLCV), "stamp: does a stamp begin its bar"),
        ('Date,Close\n2024-01-16,"1,105"\n2024-01-17,"1,106"\n', "decimal: the file does not show"),
    ],
)
def test_what_the_file_does_not_show_is_a_question(tmp_path, text, question):
    (tmp_path / "x.csv").write_text(text)
    assert any(asked.startswith(question) for asked in sniff(tmp_path / "x.csv").questions)


def test_days_that_follow_each_other_tell_day_from_month(tmp_path):
    for text, expected in (
        ("01/02/2024,1\n01/03/2024,2\n01/04/2024,3\n", "%m"),
        ("01/02/2024,1\n02/02/2024,2\n05/02/2024,3\n", "%d"),
    ):
        (tmp_path / "x.csv").write_text("Date,Close\n" + text)
        found = sniff(tmp_path / "x.csv")
        assert found.feed["date_format"].startswith(expected)
        assert not any(asked.startswith("date_format") for asked in found.questions)


@pytest.mark.parametrize(
    ("steps", "interval"),
    [
        ([5, 5, 5, 5, 5], "5m"),
        ([2, 3, 1, 4, 7], "1m"),  # few trades: many minutes are missing
        ([60, 60, 60, 1020, 60], "1h"),
        ([10, 10, 10, 20, 10], None),
        ([120, 120, 120, 240, 120], None),
    ],
)
def test_the_interval_is_the_one_of_which_each_step_is_a_multiple(tmp_path, steps, interval):
    times = pd.Timestamp("2024-01-16 15:00") + pd.to_timedelta(np.cumsum([0, *steps]), unit="min")
    rows = [f"{at},1,2,1,1.5,100" for at in times.strftime("%Y-%m-%d %H:%M")]
    (tmp_path / "X.csv").write_text("\n".join(["time,open,high,low,close,volume", *rows]))
    if interval is None:
        with pytest.raises(DataError, match=rf"^the bars are {steps[0]} minutes apart; expected 1 \(1m\), 5 \(5m\)"):
            sniff(tmp_path / "X.csv")
    else:
        assert sniff(tmp_path / "X.csv").instrument["spot_interval"] == interval


def test_klines_of_a_crypto_exchange_are_round_the_clock(tmp_path):
    text, _ = LAYOUTS["Binance"]
    (tmp_path / "BTCUSDT.csv").write_text(text)
    found = sniff(tmp_path / "BTCUSDT.csv")
    assert found.instrument["calendar"] == "24/7"
    assert not any(question.startswith("calendar") for question in found.questions)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "Date,Name\n2024-01-16,x\n"])
def test_a_file_without_prices_is_an_error(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError):
        sniff(tmp_path / "x.csv")


def test_the_command_prints_sections_questions_and_five_bars(tmp_path, capsys):
    (tmp_path / "SPY.csv").write_text(LAYOUTS["Nasdaq"][0])
    assert cli.main(["data", "sniff", str(tmp_path / "SPY.csv")]) == 0
    told = capsys.readouterr().out
    for part in (
        "[feed.files]",
        "[instrument.SPY]",
        "columns = ts: Date",
        "close: Close/Last",
        "2024-01-12",
        "101.25",
        "?",
    ):
        assert part in told
    assert cli.main(["data", "sniff"]) == 2


def test_the_preview_is_what_screening_leaves_and_it_tells_the_rest(tmp_path, capsys):
    rows = "Date,Open,High,Low,Close\n2024-01-02,1,2,0.5,1.5\n2024-01-03,1.5,2,1,1.8\n2024-01-04,1.8,2,1,1.9\n"
    (tmp_path / "IDX.csv").write_text(rows)
    assert cli.main(["data", "sniff", str(tmp_path / "IDX.csv")]) == 0  # an index has no volume
    told = capsys.readouterr().out
    assert "The first of 3 bars as they would be stored" in told
    assert "quarantined" not in told
    (tmp_path / "IDX.csv").write_text(rows.replace("1.8,2,1,1.9", "1.8,2,1,9.9"))
    assert cli.main(["data", "sniff", str(tmp_path / "IDX.csv")]) == 0
    told = capsys.readouterr().out
    assert "1 of 3 bars would be quarantined (high and low), the first: low 1.0 to high 2.0 does not enclose" in told
    assert "The first of 2 bars" in told
    lines = [f"2024-01-{day:02},1,2,0.5,1.5,1.10T\n" for day in (2, 3, 4, 5)]
    (tmp_path / "INV.csv").write_text("Date,Open,High,Low,Close,Volume\n" + "".join(lines))
    assert cli.main(["data", "sniff", str(tmp_path / "INV.csv")]) == 1
    assert "4 of 4 bars would be quarantined (text)" in capsys.readouterr().out
