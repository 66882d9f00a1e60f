"""
One CSV or Parquet file, read with the columns, timestamps and time zone that config.ini gives.

Nothing is guessed: a mistake in a file is a DataError with the file, the line and the fix.
"""

from __future__ import annotations

import copy
import difflib
import lzma
import re
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING, NoReturn

import pandas as pd
from pandas.tseries.api import guess_datetime_format

from alphapivot.errors import DataError
from alphapivot.feeds import stamps as timestamps
from alphapivot.feeds.stamps import Stamps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from alphapivot.calendar.schedule import Calendar
    from alphapivot.config.sections.feeds import FilesFeed

NUMBERS = ["open", "high", "low", "close", "volume", "open_interest"]
STAMPS = ("ts", "timestamp", "datetime", "date", "time")  # names of an unmapped timestamp column
MAPPED = ("contract", "symbol")  # columns of ours that are used only if mapped
# errors of decompression that pandas passes on: damaged, several files, or a package that is not installed
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    ImportError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)


class Table:
    """One file's rows, as text (CSV) or typed (Parquet), indexed by line; and the columns that hold our columns."""

    def __init__(
        self,
        path: Path,
        section: FilesFeed,
        feed: str,
        beside: Mapping[str, str],
        ours: tuple[str, ...] = ("ts", "symbol", "contract", *NUMBERS),
    ) -> None:
        self.path, self.section, self.feed, self.ours = path, section, feed, ours
        self.beside = beside  # contracts side by side: column of the name -> column of the close
        self.rows = self._parquet() if path.suffix == ".parquet" else self._csv()
        if self.rows.empty:
            raise DataError(f"{path} has a header but no rows; expected bars")
        self.found = self._find()
        self._symbol = self.column("symbol").str.strip() if "symbol" in self.found else self.rows.index

    def _parquet(self) -> pd.DataFrame:
        try:
            rows = pd.read_parquet(self.path).reset_index()
        except (OSError, ValueError, NotImplementedError) as error:
            raise DataError(f"{self.path} cannot be read as Parquet: {error}") from error
        return rows.set_axis(rows.index + 1)

    def _csv(self) -> pd.DataFrame:
        try:
            # the header is read as an ordinary row, so that a row with more fields is an error
            rows = pd.read_csv(
                self.path, header=None, dtype=str, skip_blank_lines=False, encoding="utf-8-sig", skipinitialspace=True
            )
        except pd.errors.EmptyDataError as error:
            raise DataError(f"{self.path} is empty; expected a header and rows") from error
        except pd.errors.ParserError as error:
            if self.section.header is None:
                self._misfit(error)
            rows = self._without_header()
        except UNREADABLE as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error
        else:
            rows.index += 1
            if self.section.header is None:
                rows.columns = pd.Index([str(name).strip() for name in rows.iloc[0]])
            rows = rows[1:] if self.section.header is None else self._named(rows[1:])
        return rows.dropna(how="all")

    def _without_header(self) -> pd.DataFrame:
        """The rows after a header that is shorter than the rows."""
        try:
            rows = pd.read_csv(
                self.path, header=None, dtype=str, skip_blank_lines=False, skiprows=1, skipinitialspace=True
            )
        except pd.errors.ParserError as error:
            self._misfit(error)
        rows.index += 2
        return self._named(rows)

    def _named(self, rows: pd.DataFrame) -> pd.DataFrame:
        names = [name.strip() for name in (self.section.header or "").split(",")]
        if len(names) != rows.shape[1]:
            raise DataError(
                f"{self.path}, line 2: {rows.shape[1]} fields, but [feed.{self.feed}] header names {len(names)}: "
                f"{', '.join(names)}"
            )
        return rows.set_axis(names, axis="columns")

    def _misfit(self, error: Exception) -> NoReturn:
        match = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if match is None:
            raise DataError(f"{self.path} cannot be read as CSV: {error}") from error
        expected, line, fields = (int(n) for n in match.groups())
        if self.section.header is not None:
            raise DataError(f"{self.path}, line {line + 1}: {fields} fields, expected {expected}") from error
        with self.path.open(encoding="utf-8-sig") as file:
            names = [name.strip() for name in file.readline().split(",")]
        # the most common case: date and time are two columns, and the header lacks the time
        example = [names[0], "Time", *names[1:]] if fields == expected + 1 else ["..."] * fields
        raise DataError(
            f"{self.path}, line {line}: {fields} fields, but the header names {expected} ({', '.join(names)}); if the "
            f"header is wrong, name all {fields} columns in [feed.{self.feed}], such as header = {', '.join(example)}"
        ) from error

    def _find(self) -> dict[str, list[str]]:
        """Our name -> the file's columns that hold it: by the mapping, else by the same name in any spelling."""
        names = [str(name) for name in self.rows.columns]
        plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(names)}
        found = {}
        for ours in self.ours:
            if theirs := self.section.columns.get(ours):
                found[ours] = [theirs] if theirs in names else [part.strip() for part in theirs.split("+")]
                for name in found[ours]:
                    if name not in names:
                        self._absent(f"column {name!r} ([feed.{self.feed}] columns = {ours}: {theirs})", name)
            elif ours == "ts":
                found[ours] = [plain[stamp] for stamp in STAMPS if stamp in plain][:1]
            elif ours.replace("_", "") in plain and ours not in MAPPED:
                found[ours] = [plain[ours.replace("_", "")]]
        self._check(found, plain)
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
        if "close" not in self.ours and not {"split", "dividend"} & set(found):
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

    def values(self, *, zero_is_missing: bool) -> pd.DataFrame:
        """Prices, volume and open interest of every row."""
        numbers = pd.DataFrame({name: self.numbers(name) for name in NUMBERS})
        for name in ("volume", "open_interest") if zero_is_missing else ():
            numbers[name] = numbers[name].mask(pd.to_numeric(numbers[name], errors="coerce") == 0)
        return numbers

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
        numbers = pd.to_numeric(values, errors="coerce")
        return values.astype(object) if (numbers.isna() & values.notna()).any() else numbers.astype(float)

    def stamps(self) -> Stamps:
        """The timestamps, as the file writes them."""
        if len(self.found["ts"]) == 1:
            values = self.rows[self.found["ts"][0]]
            if pd.api.types.is_datetime64_any_dtype(values.dtype):
                self.all_known(values, values.isna(), "a date")
                return timestamps.of_index(pd.DatetimeIndex(values))
        text, date_format = self.column("ts").str.strip(), self.section.date_format
        try:
            parsed = timestamps.parse(text, date_format)
        except ValueError:
            offset = text.str.contains(timestamps.OFFSET) & text.str.contains(":")
            self.all_known(text, ~offset, "an offset such as +00:00, which other lines have")
            raise
        expected = f"a date as {date_format}" if date_format else "an ISO 8601 date such as 2006-01-31 17:30"
        unparsed = text[parsed.written.isna()]
        # suggested, not used: day and month cannot be told apart
        if len(unparsed) and date_format is None and (guess := guess_datetime_format(unparsed.iloc[0])):
            expected += f", or its format in [feed.{self.feed}], such as date_format = {guess}"
        self.all_known(text, pd.Series(parsed.written.isna(), text.index), expected)
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
        self.all_known(naive.to_series(index=self.rows.index), pd.Series(local.isna(), self.rows.index), expected)
        return local.tz_convert("UTC")

    def all_known(self, given: pd.Series, unknown: pd.Series[bool], expected: str) -> None:
        lines = self.rows.index[unknown]
        if len(lines):
            more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
            unit = "row" if self.path.suffix == ".parquet" else "line"
            raise DataError(f"{self.path}, {unit} {lines[0]}: got {given[lines[0]]}, expected {expected}{more}")


def meant(name: str, names: set[str]) -> str:
    """The nearest of ``names``, as the end of a message; empty if none is close."""
    # case is the most common mistake
    lower = {n.lower(): n for n in sorted(names)}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"; did you mean {lower[near[0]]}?" if near else ""
