"""Which column holds what, and which rows are of one symbol."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.calendar.contracts import UnreadableError, month_of
from alphapivot.errors import DataError
from alphapivot.feeds.sniff.sniffed import symbol_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alphapivot.feeds.sniff.sniffed import Sniffed

# names of columns, letters only, in the order of preference
NAMES = {
    "ts": "ts timestamp datetime tsevent opentime windowstart unix date time day datum fecha tradedt traddt startdate "
    "dt t",
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


def letters_of(name: str) -> str:
    ascii_name = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]", "", ascii_name.lower())


def columns_of(rows: pd.DataFrame, found: Sniffed) -> dict[str, str]:
    """Our name -> the file's column."""
    plain = {letters_of(name): str(name) for name in reversed(list(rows.columns))}
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
    return f"{theirs}+{clock}" if clock and letters_of(theirs) in DAY_NAMES else theirs


DAY_NAMES = {"date", "day", "datum", "fecha", "tradedt", "traddt"}


def chosen(rows: pd.DataFrame, columns: dict[str, str], found: Sniffed) -> pd.DataFrame:
    """The rows of one symbol, without options: a symbol column, contracts and a filter are noted."""
    kind = next(
        (c for c in rows.columns if letters_of(str(c)) in ("instrument", "fininstrmtp", "series", "sctysrs")), None
    )
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
        found.symbol = symbol_of(names.iloc[0])
        del columns["symbol"]
        return rows
    found.symbol = symbol_of(names.iloc[0])
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
