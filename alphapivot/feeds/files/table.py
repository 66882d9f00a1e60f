"""
One CSV or Parquet file, read with the columns, timestamps and time zone that config.ini gives.

Nothing is guessed: a mistake in a file is a DataError with the file, the line and the fix.
"""

from __future__ import annotations

import copy
import difflib
import re
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import pandas as pd
import pyarrow as pa
from pandas.tseries.api import guess_datetime_format

from alphapivot.errors import DataError
from alphapivot.feeds.files import databento, json_rows, numbers, text, typed
from alphapivot.feeds.files import stamps as timestamps
from alphapivot.feeds.files.stamps import Stamps
from alphapivot.frames import ACTION_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from alphapivot.calendar.schedule import Calendar
    from alphapivot.config.sections.feeds import LayoutFeed

NUMBERS = ["open", "high", "low", "close", "volume", "open_interest"]
STAMPS = ("ts", "timestamp", "datetime", "date", "time")  # names of an unmapped timestamp column
BARS = {  # what is read of each market's rows: a file of spot prices need not have what only futures have
    "spot": ("ts", "symbol", *NUMBERS),
    "futures": ("ts", "symbol", "contract", *NUMBERS),
}
MAPPED = ("contract", "symbol")  # columns of ours that are used only if mapped
# names of columns that may be our volume or open interest, and are not read unless mapped
VOLUMES = (
    "vol tickvol tickvolume realvolume qty quantity contracts lots volumefrom totalvolume tradedquantity tottrdqty "
    "ttltradgvol totaltradedquantity stuecke umsatz"
)
ALIKE = {"volume": set(VOLUMES.split()), "open_interest": {"openint", "oi", "interest", "opnintrst"}}


class Table:
    """One file's rows, as text (CSV) or typed (Parquet), indexed by line; and the columns that hold our columns."""

    def __init__(
        self,
        path: Path,
        section: LayoutFeed,
        feed: str,
        beside: Mapping[str, str],
        ours: tuple[str, ...] = BARS["futures"],
        rows: pd.DataFrame | None = None,
    ) -> None:
        self.path, self.section, self.feed, self.ours = path, section, feed, ours
        self.beside = beside  # contracts side by side: column of the name -> column of the close
        self.rows = self._read() if rows is None else rows
        if self.rows.empty:
            raise DataError(f"{path} has a header but no rows; expected bars")
        self.rows = self._chosen()
        self._all = self.rows  # also where ``rows`` are one symbol's
        self.found = self._find()
        self._symbol = self.column("symbol").str.strip() if "symbol" in self.found else self.rows.index

    def _chosen(self) -> pd.DataFrame:
        """The rows that [feed.*] where keeps."""
        rows = self.rows
        for name, values in self.section.where.items():
            if name not in rows.columns:
                self._absent(f"column {name!r} ([feed.{self.feed}] where = {name}: ...)", name)
            kept = rows[rows[name].astype("str").str.strip().isin([value.strip() for value in values.split("|")])]
            if kept.empty:
                some = ", ".join(sorted(rows[name].astype("str").unique())[:5])
                raise DataError(f"{self.path} has no row with {values} in column {name}; it has {some}")
            rows = kept
        return rows

    def _read(self) -> pd.DataFrame:
        name = self.path.name.lower()
        if name.endswith((".dbn", ".dbn.zst")):
            return databento.dbn(self.path)
        if name.endswith((".json", ".jsonl", ".json.gz", ".jsonl.gz")):
            decoded = text.decoded(self.path, self.section.encoding)
            return json_rows.read(self.path, decoded, self.section.rows, self.section.header)
        if self.path.suffix == ".parquet":
            return self._parquet()
        rows = typed.read(self.path, self.section, self._types)
        return text.read(self.path, self.section, self.feed) if rows is None else rows

    def _types(self, names: list[str]) -> typed.Types:
        """The columns of a CSV that can only be timestamps or numbers."""
        found = self._mapped(names)
        if set(names) >= databento.RECORD:  # fixed-point prices look like numbers
            return {}
        stamp = found["ts"] if len(found["ts"]) == 1 and self.section.date_format is None else []
        prices = {name for ours in NUMBERS for name in found.get(ours, [])[:1]} - set(self.section.where)
        types = dict.fromkeys(prices, pa.float64()) | dict.fromkeys(stamp, pa.timestamp("us"))
        return {name: of for name, of in types.items() if name in names}

    def _parquet(self) -> pd.DataFrame:
        try:
            rows = pd.read_parquet(self.path).reset_index()
        except (OSError, ValueError, NotImplementedError) as error:
            raise DataError(f"{self.path} cannot be read as Parquet: {error}") from error
        return rows.set_axis(rows.index + 1)

    def _find(self) -> dict[str, list[str]]:
        """As ``_mapped``, of this file's columns, all of which exist."""
        names = [str(name) for name in self.rows.columns]
        found = self._mapped(names)
        for ours, theirs in found.items():
            for name in theirs:
                if name not in names:
                    self._absent(
                        f"column {name!r} ([feed.{self.feed}] columns = {ours}: {self.section.columns[ours]})", name
                    )
        self._check(found, _plain(names))
        return found

    def _mapped(self, names: list[str]) -> dict[str, list[str]]:
        """Our name -> the columns that hold it: by the mapping, else by the same name in any spelling."""
        plain = _plain(names)
        found = {}
        for ours in self.ours:
            theirs = self.section.columns.get(ours)
            if ours == "open_interest" and "contract" not in self.ours and theirs not in names:
                theirs = None  # mapped for the futures beside these spot prices
            own = plain.keys() & (STAMPS if ours == "ts" else {ours})
            if "close" not in self.ours and own and theirs and not {theirs, *theirs.split("+")} & set(names):
                theirs = None  # mapped for the bars; a file of events by itself may have our names
            if theirs:
                found[ours] = [theirs] if theirs in names else [part.strip() for part in theirs.split("+")]
            elif ours == "ts":
                found[ours] = [plain[stamp] for stamp in STAMPS if stamp in plain][:1]
            elif ours.replace("_", "") in plain and ours not in MAPPED:
                found[ours] = [plain[ours.replace("_", "")]]
        return found

    def _check(self, found: dict[str, list[str]], plain: dict[str, str]) -> None:
        if not found["ts"]:
            self._absent(f"column for ts ([feed.{self.feed}] columns = ts: ...)", "date")
        if "time" in plain and "ts" not in self.section.columns and found["ts"] != [plain["time"]]:
            date, time = found["ts"][0], plain["time"]
            raise DataError(
                f"{self.path} has both {date} and {time}; map the timestamp in [feed.{self.feed}]: "
                f"columns = ts: {date}+{time}"
            )
        for contract, close in self.beside.items():
            for name in (contract, close):
                if name not in self.rows.columns:
                    self._absent(f"column {name!r} ([feed.{self.feed}] contracts = {contract}: {close})", name)
        if "close" not in self.ours and not {*ACTION_KINDS} & set(found):
            self._absent("column for split or dividend", "split")
        for price in () if self.beside or "close" not in self.ours else ("open", "high", "low", "close"):
            if price not in found and (price == "close" or {"open", "high", "low"} & set(found)):
                self._absent(f"column for {price} ([feed.{self.feed}] columns = {price}: ...)", price)

    def _absent(self, column: str, name: str) -> NoReturn:
        names = [str(header) for header in self.rows.columns]
        raise DataError(f"{self.path} has no {column}; it has {', '.join(names)}{meant(name, set(names))}")

    def of(self, name: str) -> Table | None:
        """The rows of one symbol where a symbol column is mapped, None if there are none; else all rows."""
        if "symbol" not in self.found:
            return self
        part = copy.copy(self)
        part.rows = self.rows[self._symbol == name]
        return None if part.rows.empty else part

    def symbols(self) -> set[str]:
        """The symbols of a file with a symbol column; else empty."""
        return set(self._symbol) if "symbol" in self.found else set()

    def column(self, ours: str) -> pd.Series[str]:
        """A column as text; several are joined by a space."""
        first, *rest = (self.rows[name].astype("str") for name in self.found[ours])
        for part in rest:
            first = first.str.cat(part, sep=" ")
        return first

    def line_of(self, contract: str) -> str:
        """The first line of a contract."""
        lines = self.rows.index[self.column("contract") == contract]
        return f"{self._unit} {lines[0]}" if len(lines) else self._unit

    @property
    def _unit(self) -> str:
        return "row" if self.path.suffix == ".parquet" else "line"

    def values(self, *, zero_is_missing: bool) -> pd.DataFrame:
        """Prices, volume and open interest of every row; open, high and low adjusted as a mapped close is."""
        values = pd.DataFrame({name: self.numbers(name) for name in NUMBERS}, copy=False)
        if plain := self._unadjusted_close():
            adjusted, traded = (pd.to_numeric(v, errors="coerce") for v in (values["close"], self._numbers(plain)))
            ratio = adjusted / traded
            for name in ("open", "high", "low"):
                values[name] = (pd.to_numeric(values[name], errors="coerce") * ratio).where(ratio.notna(), values[name])
            prices = values[["open", "high", "low", "close"]]  # a product may miss another by its last bit
            values["high"] = prices.max(axis=1).where(traded == self._numbers(self.found["high"][0]), values["high"])
            values["low"] = prices.min(axis=1).where(traded == self._numbers(self.found["low"][0]), values["low"])
        for name in ("volume", "open_interest") if zero_is_missing else ():
            values[name] = values[name].mask(pd.to_numeric(values[name], errors="coerce") == 0)
        return values

    def _unadjusted_close(self) -> str | None:
        """The plain close beside a mapped adjusted one, where open, high and low are plain as well."""
        if "adj" not in "".join(self.found.get("close", [])).lower() or "high" not in self.found:
            return None
        if any("adj" in column.lower() for name in ("open", "high", "low") for column in self.found.get(name, [])):
            return None
        return next((str(name) for name in self.rows.columns if str(name).strip().lower() in ("close", "last")), None)

    def unread(self) -> list[str]:
        """Notes on columns that look like volume or open interest and are not mapped."""
        notes = []
        for ours, alike in ALIKE.items():
            if ours in self.ours and ours not in self.found:
                theirs = [str(n) for n in self.rows.columns if re.sub(r"[^a-z]", "", str(n).lower()) in alike]
                if theirs:
                    notes.append(
                        f"{self.path.name}: no column is read as {ours}; if it is {' or '.join(theirs)}, write "
                        f"[feed.{self.feed}] columns = {ours}: {theirs[0]}"
                    )
        return notes

    def quotes(self, contract: str, close: str) -> pd.DataFrame:
        """One of several contracts in a row, close only; no contract where it has no close."""
        empty = pd.DataFrame(float("nan"), index=self.rows.index, columns=NUMBERS)
        return empty.assign(close=self._numbers(close), contract=self.rows[contract].where(self.rows[close].notna()))

    def numbers(self, ours: str) -> pd.Series[float]:
        """The column as numbers if all are, else unchanged; all missing if the file has no such column."""
        if ours not in self.found:
            return pd.Series(float("nan"), index=self.rows.index)
        return self._numbers(self.found[ours][0])

    def _numbers(self, name: str) -> pd.Series[float]:
        values = self.rows[name]
        if databento.is_fixed_point(self.rows, name):
            return databento.prices(values)
        if pd.api.types.is_numeric_dtype(values.dtype):
            return values.astype(float)
        mark = self._decimal
        if mark is None:
            unclear = values.astype("str").str.contains(",", regex=False, na=False)
            fix = f"[feed.{self.feed}] decimal = comma or point"
            self.all_known(values, unclear, f"a number whose comma the file explains, or {fix}")
        found = numbers.plain(values.astype("str") if values.dtype == object else values, mark or "point")
        return values.astype(object) if (found.isna() & values.notna()).any() else found

    @cached_property
    def _decimal(self) -> str | None:
        """The decimal mark of this file: as configured, else as its numbers prove it."""
        names = {c for n in self.ours if n in (*NUMBERS, *ACTION_KINDS) for c in self.found.get(n, [])}
        columns = [self._all[c] for c in (*names, *self.beside.values()) if self._all[c].dtype.kind not in "iuf"]
        return self.section.decimal or numbers.decimal_of(c.astype("str") for c in columns)

    def stamps(self) -> Stamps:
        """The timestamps, as the file writes them."""
        if len(self.found["ts"]) == 1:
            values = self.rows[self.found["ts"][0]]
            if pd.api.types.is_datetime64_any_dtype(values.dtype):
                self.all_known(values, values.isna(), "a date")
                return timestamps.of_index(pd.DatetimeIndex(values))
        given, date_format = self.column("ts").str.strip(), self.section.date_format
        try:
            parsed = timestamps.parse(given, date_format)
        except ValueError:
            offset = given.str.contains(timestamps.OFFSET) & given.str.contains(":")
            self.all_known(given, ~offset, "an offset such as +00:00, which other lines have")
            raise
        expected = f"a date as {date_format}" if date_format else "an ISO 8601 date such as 2006-01-31 17:30"
        unparsed = given[parsed.written.isna()].dropna()
        # suggested, not used: day and month cannot be told apart
        if len(unparsed) and date_format is None and (guess := guess_datetime_format(unparsed.iloc[0])):
            expected += f", or its format in [feed.{self.feed}], such as date_format = {guess}"
        self.all_known(given, pd.Series(parsed.written.isna(), given.index), expected)
        return parsed

    def dates(self, given: Stamps, calendar: Calendar) -> pd.DatetimeIndex:
        """The date of each row's session, naive."""
        return timestamps.dates(given, self.section.zone, calendar)

    def instants(self, given: Stamps) -> pd.DatetimeIndex:
        """The timestamps in UTC; naive ones are in the configured zone."""
        if given.instants is not None:
            return given.instants
        naive = given.written
        local = naive.tz_localize(self.section.zone, ambiguous="NaT", nonexistent="NaT")
        expected = (
            f"a time that occurs exactly once in {self.section.zone} (its clocks change then); use offsets or UTC"
        )
        if local.hasnans:
            self.all_known(naive.to_series(index=self.rows.index), pd.Series(local.isna(), self.rows.index), expected)
        return local.tz_convert("UTC")

    def all_known(self, given: pd.Series, unknown: pd.Series[bool], expected: str) -> None:
        lines = self.rows.index[unknown]
        if len(lines):
            more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
            raise DataError(f"{self.path}, {self._unit} {lines[0]}: got {given[lines[0]]}, expected {expected}{more}")


def _plain(names: list[str]) -> dict[str, str]:
    """Each name by its letters alone."""
    return {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(names)}


def meant(name: str, names: set[str]) -> str:
    """The nearest of ``names``, as the end of a message; empty if none is close."""
    # case is the most common mistake
    lower = {n.lower(): n for n in sorted(names)}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"; did you mean {lower[near[0]]}?" if near else ""
