"""
Looks at a file and writes the [feed] and [instrument] sections that read it, with what it guessed and why.

What the file does not show (the order of day and month, a zone, whether a stamp begins or ends its bar) is a question,
never decided in silence.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.config.sections.feeds import FilesFeed
from alphapivot.config.sections.instrument import Instrument
from alphapivot.errors import DataError
from alphapivot.feeds.base import Fetched, Request
from alphapivot.feeds.files import numbers, stamps
from alphapivot.feeds.files.feed import Files
from alphapivot.feeds.files.paths import name_of
from alphapivot.feeds.sniff.columns import NAMES, chosen, columns_of, letters_of
from alphapivot.feeds.sniff.rows import rows_of
from alphapivot.feeds.sniff.sniffed import Sniffed, symbol_of
from alphapivot.feeds.sniff.times import interval_of, stamps_of, zone_of

if TYPE_CHECKING:
    from pathlib import Path


def sniff(path: Path) -> Sniffed:
    """What reads ``path``. Raises DataError for a file that holds no table of prices."""
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    found = Sniffed(feed={"kind": "files", "root": str(path.parent)})
    rows = rows_of(path, found)
    columns = columns_of(rows, found)
    rows = chosen(rows, columns, found)
    parsed = stamps_of(rows, columns, found)
    interval = interval_of(parsed, found)
    zone_of(parsed, interval, rows, found)
    found.feed["columns"] = ", ".join(f"{ours}: {theirs}" for ours, theirs in columns.items() if theirs)
    _decimals(rows, columns, found)
    _instrument(path, rows, columns, parsed, interval, found)
    found.fetched = _read(found, interval)
    return found


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
        found.symbol = symbol_of(name_of(path))
    market = "futures" if "contract" in columns else "spot"
    name = found.instrument.pop("name in the file", "")
    ticker = f"{path.name}: {name}" if name and name != found.symbol else path.name
    coins = any(letters_of(str(name)) in ("takerbase", "takerbuybasevolume", "takerquote") for name in rows.columns)
    weekend = bool((parsed.written.day_of_week == 5).any())
    calendar = "24/7" if weekend or coins else "XNYS"
    if coins:
        found.why.append("calendar = 24/7: the columns are those of a crypto exchange")
    else:
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


def _read(found: Sniffed, interval: str) -> Fetched:
    """The file read with the sections, as ingestion does."""
    mapped = {"columns", "where"}
    texts = {k: _mapping(v) if k in mapped else v for k, v in found.feed.items() if k != "kind"}
    section = FilesFeed.model_validate(texts)
    instrument = Instrument.model_validate({"symbol": found.symbol, **found.instrument})
    found.terms = instrument
    request = Request(instrument, instrument.signal_market, interval, None, datetime.now(UTC))
    return Files("files", section).fetch([request])


def _mapping(value: str) -> dict[str, str]:
    return {key.strip(): name.strip() for key, _, name in (item.partition(":") for item in value.split(",")) if name}
