"""
Looks at a file and writes the [feed] and [instrument] sections that read it, with what it guessed and why.

What the file does not show (the order of day and month, a zone, whether a stamp begins or ends its bar) is a question,
never decided in silence.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.calendar.contracts import UnreadableError, month_of
from alphapivot.config.sections.feeds import FilesFeed
from alphapivot.config.sections.instrument import Instrument
from alphapivot.errors import DataError
from alphapivot.feeds import numbers, stamps, text
from alphapivot.feeds.base import Fetched, Request
from alphapivot.feeds.files import Files, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# names of columns, letters only, in the order of preference
NAMES = {
    "ts": "ts timestamp datetime tsevent opentime windowstart unix date time day datum fecha tradedt traddt startdate",
    "open": "open o openprice opnpric erster eroffnung ouverture apertura abertura opening bidopen",
    "high": "high h highprice hghpric hoch haut maximo max bidhigh",
    "low": "low l lowprice lwpric tief bas minimo min bidlow",
    "close": "close c closeprice clspric schluss schlusskurs fermeture cierre closelast last price bidclose",
    "volume": "volume v vol volumen totalvolume volumeusd tottrdqty ttltradgvol totaltradedquantity contracts qty "
    "shares stuecke stuck tickvol tickvolume realvolume",
    "open_interest": "openinterest openint oi opnintrst",
    "symbol": "symbol ticker tckrsymb act",
    "contract": "contract expiry expirydt xprydt expirydate",
}
TIMES = ("time", "hour", "uhrzeit", "zeit")
DATES = (
    *("%Y%m%d", "%Y.%m.%d", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%Y", "%d.%m.%y"),
    *("%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y", "%b %d %Y", "%B %d, %Y"),
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %H%M%S", " %H%M", " %I:%M %p", " %I:%M:%S %p", ";%H:%M:%S")
WIDTHS = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}
LOOK = 2_000  # rows
HEADERS = {  # of files without one: what the numbers after the stamp are, by their count
    4: "open, high, low, close",
    5: "open, high, low, close, volume",
    6: "open, high, low, close, volume, open_interest",
    11: "open, high, low, close, volume, close_time, quote_volume, trades, taker_base, taker_quote, ignored",
}


@dataclass
class Sniffed:
    """Sections as texts, notes on the guesses, questions, and the file's bars as the sections read them."""

    feed: dict[str, str] = field(default_factory=dict)
    instrument: dict[str, str] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    symbol: str = "SYMBOL"
    fetched: Fetched | None = None

    def ini(self) -> str:
        """The two sections as config.ini has them."""
        feed = "\n".join(f"{key} = {value}" for key, value in self.feed.items())
        instrument = "\n".join(f"{key} = {value}" for key, value in self.instrument.items())
        return f"[feed.files]\n{feed}\n\n[instrument.{self.symbol}]\nfeed = files\n{instrument}\n"


def sniff(path: Path) -> Sniffed:
    """What reads ``path``. Raises DataError for a file that holds no table of prices."""
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    found = Sniffed(feed={"kind": "files", "root": str(path.parent)})
    rows = _rows(path, found)
    columns = _columns(rows, found)
    rows = _chosen(rows, columns, found)
    parsed = _stamps(rows, columns, found)
    interval = _interval(parsed, found)
    _zone(parsed, interval, rows, found)
    found.feed["columns"] = ", ".join(f"{ours}: {theirs}" for ours, theirs in columns.items() if theirs)
    _decimals(rows, columns, found)
    _instrument(path, rows, columns, parsed, interval, found)
    found.fetched = _read(found, interval)
    return found


def _rows(path: Path, found: Sniffed) -> pd.DataFrame:
    """The first rows with their columns' names; separator, header, skip and encoding are noted."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path).reset_index().head(LOOK)
    lines = _lines(path, found)
    body = lines[len(lines) // 2]
    separator = text.separator_of(body) if re.search("[,\t;|]", body) else " "
    width = len(_cells(body, separator))
    skip = next((n for n, line in enumerate(lines) if len(_cells(line, separator)) in (width, width - 1)), 0)
    if skip:
        found.feed["skip"] = str(skip)
        found.why.append(f"skip = {skip}: the first lines are not of the table: {lines[0][:40]}")
    if separator != text.separator_of(lines[skip]):
        name = next(name for name, mark in text.SEPARATORS.items() if mark == separator)
        found.feed["separator"] = name
        found.why.append(f"separator = {name}: it divides each line into {width}")
    names, table = _named([_cells(line, separator) for line in lines[skip:]], width, found)
    table = [row for row in table if len(row) == len(names)][:LOOK]
    if not table:
        raise DataError(f"{path} has a header but no rows; expected bars")
    return pd.DataFrame(table, columns=names, dtype="str")


def _lines(path: Path, found: Sniffed) -> list[str]:
    """The first lines that are not blank; an encoding that had to be tried is noted."""
    try:
        whole = text.decoded(path)
    except DataError as error:
        if "not utf-8" not in str(error):
            raise
        whole = text.decoded(path, "cp1252")
        found.feed["encoding"] = "cp1252"
        found.questions.append("encoding: the file is not UTF-8; cp1252 is the usual one of Western Windows")
    lines = [line for line in whole.splitlines()[: LOOK + 20] if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty; expected a header and rows")
    return lines


def _named(table: list[list[str]], width: int, found: Sniffed) -> tuple[list[str], list[list[str]]]:
    """The columns' names and the rows of a table that may begin with a header."""
    first = table[0]
    if text.is_data(list(first)):
        names = _names_for(first)
        found.feed["header"] = ", ".join(names)
        found.why.append(f"header: the first line is a row of numbers; its {width} columns are named by their content")
        return names, table
    if len(first) == width - 1:
        names = [first[0], "Time", *first[1:]]
        found.feed["header"] = ", ".join(names)
        found.why.append("header: it names one column less than the rows have: date and time are two")
        return names, table[1:]
    return [name.strip() or f"column {n}" for n, name in enumerate(first, 1)], table[1:]


def _cells(line: str, separator: str) -> list[str]:
    import csv  # noqa: PLC0415 - the one use

    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]


def _names_for(row: list[str]) -> list[str]:
    """Names of the columns of a file without a header, by its first row."""
    n = 0
    names: list[str] = []
    while (n < len(row) and not re.fullmatch(r"[-+]?\d{1,9}([.,]\d+)?", row[n])) or not names:
        clock = re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?( [AaPp][Mm])?", row[n])
        dated = re.search(r"\d{1,4}[-./]\w+[-./]\d{1,4}|^\d{8}|^\d{10,19}$", row[n])
        names.append("time" if clock else "date" if dated else f"text{n}" if "symbol" in names else "symbol")
        n += 1
    if n < len(row) and re.fullmatch(r"\d{4}(\d\d)?", row[n]) and "." in "".join(row[n + 1 : n + 2]):
        names.append("time")
        n += 1
    rest = HEADERS.get(len(row) - n, HEADERS[5] if len(row) - n > 5 else HEADERS[4]).split(", ")
    return [*names, *rest, *(f"column{k}" for k in range(len(names) + len(rest), len(row)))][: len(row)]


def _plain(name: str) -> str:
    ascii_name = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]", "", ascii_name.lower())


def _columns(rows: pd.DataFrame, found: Sniffed) -> dict[str, str]:
    """Our name -> the file's column."""
    plain = {_plain(name): str(name) for name in reversed(list(rows.columns))}
    columns = {"ts": _stamp_column(rows, plain)}
    for ours, names in NAMES.items():
        if ours != "ts" and (theirs := next((plain[name] for name in names.split() if name in plain), "")):
            columns[ours] = theirs
    tick = [plain[name] for name in ("tickvol", "tickvolume") if name in plain]
    if (
        tick
        and columns.get("volume") not in tick
        and (pd.to_numeric(rows[columns["volume"]], errors="coerce") == 0).all()
    ):
        columns["volume"] = tick[0]
        found.why.append(f"volume: {tick[0]}, since the other one is 0 throughout: these are ticks, not shares")
    if not columns["ts"] or "close" not in columns:
        missing = "timestamp" if not columns["ts"] else "closing price"
        raise DataError(f"no column looks like a {missing}; the file has {', '.join(map(str, rows.columns))}")
    if not {"open", "high", "low"} <= set(columns):
        columns = {ours: theirs for ours, theirs in columns.items() if ours not in ("open", "high", "low")}
        found.why.append("close only: open, high and low are not all there")
    if "volume" not in columns:
        found.why.append("volume: no column looks like it; the series has none")
    adjusted = next((name for key, name in plain.items() if key in ("adjclose", "adjustedclose")), None)
    if adjusted:
        found.questions.append(
            f"close: {columns['close']} is taken as traded; `close: {adjusted}` adjusts open, high and low as well"
        )
    return columns


def _stamp_column(rows: pd.DataFrame, plain: dict[str, str]) -> str:
    """The column of the timestamp, or the two of date and time; empty: none."""
    typed = (str(c) for c in rows.columns if pd.api.types.is_datetime64_any_dtype(rows[c].dtype))
    theirs = next((plain[name] for name in NAMES["ts"].split() if name in plain), next(typed, ""))
    clock = next((plain[name] for name in TIMES if name in plain and plain[name] != theirs), "")
    return f"{theirs}+{clock}" if clock and _plain(theirs) in DAY_NAMES else theirs


DAY_NAMES = {"date", "day", "datum", "fecha", "tradedt", "traddt"}


def _chosen(rows: pd.DataFrame, columns: dict[str, str], found: Sniffed) -> pd.DataFrame:
    """The rows of one symbol, without options: a symbol column, contracts and a filter are noted."""
    kind = next((c for c in rows.columns if _plain(str(c)) in ("instrument", "fininstrmtp", "series", "sctysrs")), None)
    if kind is not None:
        values = rows[kind].astype("str").unique()
        wanted = [v for v in values if v in ("FUTIDX", "FUTSTK", "IDF", "STF", "EQ")]
        if wanted and len(values) > 1:
            found.feed["where"] = f"{kind}: {wanted[0]}"
            found.why.append(
                f"where: the rows of {wanted[0]}; {kind} also has {', '.join(v for v in values if v != wanted[0])}"
            )
        if wanted:
            rows = rows[rows[kind] == wanted[0]]
    symbol = columns.get("symbol")
    if symbol is None:
        return rows
    names = rows[symbol].astype("str").str.strip()
    if "contract" not in columns and _are_contracts(names):
        columns["contract"] = columns.pop("symbol")
        found.why.append(f"contract: {symbol} names futures contracts, such as {names.iloc[0]}")
        return rows
    if (names == names.iloc[0]).all() and "contract" not in columns:
        found.symbol = _symbol(names.iloc[0])
        del columns["symbol"]
        return rows
    found.symbol = _symbol(names.iloc[0])
    found.instrument["name in the file"] = names.iloc[0]
    found.why.append(f"symbol: {symbol} holds {names.nunique()} symbols; this section reads {names.iloc[0]}")
    return rows[names == names.iloc[0]]


def _are_contracts(names: Iterable[str]) -> bool:
    readable = 0
    unique = list(dict.fromkeys(names))[:50]
    for name in unique:
        try:
            month_of(name, datetime.now(UTC))
            readable += not re.fullmatch(r"[A-Z]{1,5}", name)
        except UnreadableError as error:
            readable += error.kind in ("spread", "option")
    return readable == len(unique)


def _stamps(rows: pd.DataFrame, columns: dict[str, str], found: Sniffed) -> stamps.Stamps:
    names = [columns["ts"]] if columns["ts"] in rows.columns else columns["ts"].split("+")
    if pd.api.types.is_datetime64_any_dtype(rows[names[0]].dtype):
        return stamps.of_index(pd.DatetimeIndex(rows[names[0]]))
    given = rows[names[0]].astype("str").str.strip()
    for name in names[1:]:
        given = given + " " + rows[name].astype("str").str.strip()
    if (parsed := _clear(given, found)) is not None:
        return parsed
    readings = {}
    for day in DATES:
        for clock in CLOCKS:
            read = pd.to_datetime(given, format=day + clock, errors="coerce")
            if read.notna().all():
                readings[day + clock] = read
    if not readings:
        raise DataError(f"no known form of a date reads {given.iloc[0]!r}; give its strptime format as date_format")
    return stamps.Stamps(pd.DatetimeIndex(readings[_format(readings, found)]))


def _clear(given: pd.Series[str], found: Sniffed) -> stamps.Stamps | None:
    """Timestamps that need no format: ISO 8601 or epochs."""
    if given.str.fullmatch(r"\d{8} .*").any():
        return None
    for date_format in (None, "epoch"):
        try:
            parsed = stamps.parse(given, date_format)
        except ValueError:
            continue
        if parsed.written.isna().any():
            continue
        if parsed.instants is not None and given.str.fullmatch(r"\d+").all():
            digits = {10: "seconds", 13: "milliseconds", 16: "microseconds", 19: "nanoseconds"}
            unit = digits.get(len(given.iloc[0]), "some unit")
            found.why.append(f"ts: epochs in {unit}, from {parsed.written[0]} UTC on")
        if date_format:
            found.feed["date_format"] = date_format
        return parsed
    return None


def _format(readings: dict[str, pd.Series[pd.Timestamp]], found: Sniffed) -> str:
    """The format of dates; where day and month may be either, the one whose days follow each other, or a question."""
    names = list(readings)
    chosen = names[0]
    if len(names) > 1:
        # days in order of the file: steps of a session against those of a month
        steps = {n: readings[n].sort_values().diff().dt.days.abs().median() for n in names}
        near = [n for n in names if steps[n] <= 4]
        clear = len(near) == 1 and all(steps[n] >= 20 for n in names if n not in near)
        chosen = near[0] if near else chosen
        if clear:
            found.why.append(f"date_format = {chosen}: read so, the days follow each other")
        else:
            found.questions.append(
                f"date_format: is it {' or '.join(names)}? Each fits all lines; {chosen} is written here"
            )
    else:
        found.why.append(f"date_format = {chosen}: the one form that reads every line")
    found.feed["date_format"] = chosen
    return chosen


def _interval(parsed: stamps.Stamps, found: Sniffed) -> str:
    order = pd.Series(parsed.order).drop_duplicates().sort_values()
    minutes = order.diff().dt.total_seconds().dropna() / 60
    step = float(minutes.median()) if len(minutes) else 1440.0
    clocks = parsed.written != parsed.written.normalize()
    if len(minutes) == 0 and clocks.any():
        found.questions.append("interval: one bar does not show it; 1h is written here")
        return "1h"
    interval = min(WIDTHS, key=lambda name: abs(WIDTHS[name] - step) if step < 1440 else abs(WIDTHS[name] - 1440))
    found.why.append(
        f"interval {interval}: {step:g} minutes from bar to bar" if len(minutes) else "interval 1d: dates only"
    )
    return interval


def _zone(parsed: stamps.Stamps, interval: str, rows: pd.DataFrame, found: Sniffed) -> None:
    """The zone of the stamps and what they mean."""
    if interval == "1d":
        found.feed |= {"zone": "UTC", "stamp": "date"}
        found.why.append("stamp = date: daily bars; a session's date is as written")
        return
    found.feed |= {"zone": "UTC", "stamp": "start"}
    if parsed.instants is None:
        found.questions.append(
            "zone: the stamps have none; UTC is written here, or is it the exchange's, such as America/New_York?"
        )
    known = _plain("".join(map(str, rows.columns)))
    vendor = next((v for v in ("takerbase", "tickvol", "windowstart", "tsevent", "unix") if v in known), None)
    if vendor:
        found.why.append("stamp = start: files of this layout stamp bars at their start")
    else:
        found.questions.append("stamp: does a stamp begin its bar (start) or end it (end)? start is written here")


def _decimals(rows: pd.DataFrame, columns: dict[str, str], found: Sniffed) -> None:
    texts = [rows[columns[n]] for n in NAMES if n in columns and n in ("open", "high", "low", "close", "volume")]
    texts = [c for c in texts if not pd.api.types.is_numeric_dtype(c.dtype)]
    mark = numbers.decimal_of(texts)
    if mark is None:
        found.feed["decimal"] = "comma"
        found.questions.append(
            "decimal: the file does not show what its commas are; comma (1,105 is 1.105) is written here"
        )
    elif mark == "comma" or any(c.str.contains(",", regex=False).any() for c in texts):
        found.feed["decimal"] = mark
        found.why.append(f"decimal = {mark}: a number in the file can be read in no other way")


def _instrument(
    path: Path, rows: pd.DataFrame, columns: dict[str, str], parsed: stamps.Stamps, interval: str, found: Sniffed
) -> None:
    if found.symbol == "SYMBOL":
        found.symbol = _symbol(name_of(path))
    market = "futures" if "contract" in columns else "spot"
    name = found.instrument.pop("name in the file", "")
    ticker = f"{path.name}: {name}" if name and name != found.symbol else path.name
    weekend = bool((parsed.written.day_of_week == 5).any())
    calendar = "24/7" if weekend else "XNYS"
    found.questions.append(
        f"calendar = {calendar}: "
        + ("bars on Saturdays, so round the clock" if weekend else "no bar on a Saturday; which exchange is it?")
    )
    closes = rows[columns["close"]].astype("str")
    places = int(closes.str.extract(r"[.,](\d{1,8})$")[0].str.len().fillna(0).head(200).max() or 0)
    found.instrument |= {
        "signal_market": market,
        "trade_market": market,
        market: ticker,
        **({f"{market}_interval": interval} if interval != "1d" else {}),
        **({"roll": "volume" if "volume" in columns else "open_interest"} if market == "futures" else {}),
        "calendar": calendar,
        "currency": "USD",
        "quote_unit": "1",
        "multiplier": "1",
        "tick": f"{10.0**-places:.{places}f}" if places else "1",
        "lot": "1",
        "margin": "1",
        "tradable": "no",
    }
    found.questions.append(
        "currency, quote_unit, multiplier, tick, lot, margin: the market's terms, which no file shows"
    )


def _symbol(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.^=/&_+-]", "_", name).upper() or "SYMBOL"


def _read(found: Sniffed, interval: str) -> Fetched:
    """The file read with the sections, as ingestion does."""
    mapped = {"columns", "where"}
    texts = {k: _mapping(v) if k in mapped else v for k, v in found.feed.items() if k != "kind"}
    section = FilesFeed.model_validate(texts)
    instrument = Instrument.model_validate({"symbol": found.symbol, **found.instrument})
    request = Request(instrument, instrument.signal_market, interval, None, datetime.now(UTC))
    return Files("files", section).fetch([request])


def _mapping(value: str) -> dict[str, str]:
    return {key.strip(): name.strip() for key, _, name in (item.partition(":") for item in value.split(",")) if name}
