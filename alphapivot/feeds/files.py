"""
Bars from CSV and Parquet files, by the mapping of columns, stamps and time zone that config.ini gives.

What a file does not say is never guessed: a mistake in it is a Problem that names the file, the line and the fix.
Prices pass on as they stand, text too, so that the screening quarantines the row and not the file.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, ClassVar, NoReturn

import numpy as np
import pandas as pd

from alphapivot import calendars
from alphapivot.errors import ConfigError, DataError
from alphapivot.feeds.base import RAW, Fetched, Problem, Request, events, gather

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from alphapivot.feeds.base import Limit
    from alphapivot.settings import FilesFeed

NUMBERS = ["open", "high", "low", "close", "volume", "open_interest"]
STAMPS = ("ts", "timestamp", "datetime", "date")  # what a stamp's column may be called where the mapping is silent
OFFSET = r"(?:Z|[+-]\d\d:?\d\d)$"


class Files:
    """
    The Feed port over files under ``section.root``; an instrument's ticker is a file's path there, or a glob.

    A glob of futures is one contract a file, named by the file without its suffix, unless columns map ``contract``, or
    ``contracts`` name several side by side in each row (close only).
    """

    limits: ClassVar[Mapping[str, Limit]] = {}

    def __init__(self, name: str, section: FilesFeed) -> None:
        self.name = name
        self.section = section

    def fetch(self, requests: list[Request]) -> Fetched:
        """Bars of the requests' files; a file that is missing or cannot be understood is a Problem."""
        if not self.section.root.is_dir():
            raise ConfigError(f"[feed.{self.name}] root = {self.section.root} is no folder")
        parts, problems, actions = [], [], []
        for request in requests:
            try:
                bars = self._bars(request)
                if request.market == "spot":
                    actions += self._actions(request)
                parts.append(bars)
            except DataError as error:
                problems.append(Problem(request, str(error)))
        return gather(parts, problems, actions)

    def _paths(self, ticker: str) -> list[Path]:
        paths = sorted(path for path in self.section.root.glob(ticker) if path.is_file())
        if not paths:
            there = {p.relative_to(self.section.root).as_posix() for p in self.section.root.rglob("*") if p.is_file()}
            raise DataError(f"there is no file {ticker} in {self.section.root}{_meant(ticker, there)}")
        return paths

    def _actions(self, request: Request) -> list[pd.DataFrame]:
        """Splits and dividends: of the file that ``actions`` names, else of columns beside the bars, where mapped."""
        instrument = request.instrument
        if instrument.actions is None and not {"split", "dividend"} & set(self.section.columns):
            return []
        found = []
        for path in self._paths(instrument.actions or instrument.spot or ""):
            table = _Table(path, self.section, self.name, {}, ("ts", "split", "dividend"))
            dates = table.stamps().tz_localize(None)
            for kind in ("split", "dividend"):
                values = table.numbers(kind)
                wrong = pd.to_numeric(values, errors="coerce").isna() & values.notna()
                table.all_known(values, wrong, f"a {kind} as a number")
                found.append(pd.DataFrame({"date": dates, "kind": kind, "value": values.to_numpy()}))
        made = events(instrument.symbol, self.name, instrument.hours, pd.concat(found, ignore_index=True))
        return [made[made["ts"] <= request.until]]

    def _bars(self, request: Request) -> pd.DataFrame:
        ticker = getattr(request.instrument, request.market)
        if ticker is None:
            raise DataError(f"[instrument.{request.instrument.symbol}] names no {request.market} file")
        bars = pd.concat([self._file(path, request, ticker) for path in self._paths(ticker)], ignore_index=True)
        since = pd.Timestamp.min.tz_localize("UTC") if request.since is None else request.since
        wanted = bars[(bars["ts"] > since) & (bars["ts"] <= request.until)]
        return wanted.sort_values(["contract", "ts"], kind="stable", ignore_index=True)

    def _file(self, path: Path, request: Request, ticker: str) -> pd.DataFrame:
        beside = self.section.contracts if request.market == "futures" else {}
        table = _Table(path, self.section, self.name, beside)
        stamps = table.stamps()
        ts = self._ends(table, stamps, request)
        if beside:
            quotes = [table.quotes(name, close) for name, close in beside.items()]
            rows = pd.concat([part.assign(ts=ts).dropna(subset=["contract"]) for part in quotes])
            # the carry contract may be the forward one
            rows = rows.drop_duplicates(["contract", "ts", "close"])
        else:
            contract = path.stem if request.market == "futures" and set(ticker) & set("*?[") else ""
            named = table.column("contract") if "contract" in self.section.columns else contract
            rows = table.values(zero_is_missing=self.section.zero_volume_is_missing).assign(contract=named, ts=ts)
            if self.section.join:
                rows = _joined(rows.assign(date=stamps.normalize()).iloc[np.argsort(stamps, kind="stable")])
        bars = rows[rows["ts"].notna()].assign(
            symbol=request.instrument.symbol, market=request.market, interval=request.interval, source=self.name
        )
        return bars[RAW]

    def _ends(self, table: _Table, stamps: pd.DatetimeIndex, request: Request) -> pd.DatetimeIndex:
        """When each row's bar ends; NaT for one that an other row of its session stands for."""
        calendar, interval = request.instrument.hours, request.interval
        if self.section.stamp != "date":
            ts = table.instants(stamps)
            ts = calendars.ends_of(calendar, interval, ts) if self.section.stamp == "start" else ts
            return ts.as_unit("us")
        dates = stamps.tz_localize(None)
        if not self.section.join:
            return calendars.session_closes(calendar, dates)
        dates = calendars.session_dates(calendar, dates)
        ts = calendars.session_closes(calendar, dates)
        if not table.beside:
            return ts
        # contracts are quoted at one instant, the session's last: the close of one and a later close of another would
        # make a spread that nobody could trade
        quoted = table.rows[list(table.beside.values())].notna().any(axis=1).to_numpy()
        order = pd.Series(np.where(quoted, np.argsort(np.argsort(stamps, kind="stable"), kind="stable"), -1))
        newest = quoted & (order == order.groupby(dates.to_numpy()).transform("max")).to_numpy()
        return pd.DatetimeIndex(ts.where(newest))


def _joined(rows: pd.DataFrame) -> pd.DataFrame:
    """
    One bar of the rows, in order of time, that belong to one bar: of Sunday evening's trades and Monday's.

    Two rows of one date are no parts, and text in a number would be lost: those stay as they are, for the screening.
    """
    key = ["contract", "ts"]
    several = rows.duplicated(key, keep=False)
    numbers = rows[NUMBERS].apply(pd.to_numeric, errors="coerce")
    wrong = rows.duplicated([*key, "date"], keep=False) | (numbers.isna() & rows[NUMBERS].notna()).any(axis=1)
    wrong = wrong.groupby([rows[k] for k in key]).transform("any")
    parts = numbers.assign(**{k: rows[k] for k in key})[several & ~wrong]
    groups = parts.groupby(key, sort=False)
    made = pd.DataFrame({name: groups[name].last(skipna=False) for name in ("close", "open_interest")})
    made["open"] = groups["open"].first(skipna=False)
    # what one part does not know the whole does not know
    for name, how in (("high", "max"), ("low", "min"), ("volume", "sum")):
        made[name] = groups[name].agg(how).mask(groups[name].agg("size") > groups[name].agg("count"))
    made["open"] = made["open"].mask(made["high"].isna())
    joined: pd.DataFrame = pd.concat([rows[~several | wrong], made.reset_index()], ignore_index=True)
    return joined


class _Table:
    """One file's rows, as text (CSV) or as they are (Parquet), indexed by line; and where our columns stand in it."""

    def __init__(
        self,
        path: Path,
        section: FilesFeed,
        feed: str,
        beside: Mapping[str, str],
        ours: tuple[str, ...] = ("ts", "contract", *NUMBERS),
    ) -> None:
        self.path, self.section, self.feed, self.ours = path, section, feed, ours
        self.beside = beside  # contracts side by side: column of the name -> column of the close
        self.rows = self._parquet() if path.suffix == ".parquet" else self._csv()
        if self.rows.empty:
            raise DataError(f"{path} has a header but no rows; expected bars")
        self.found = self._find()

    def _parquet(self) -> pd.DataFrame:
        try:
            rows = pd.read_parquet(self.path).reset_index()
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} cannot be read as Parquet: {error}") from error
        return rows.set_axis(rows.index + 1)

    def _csv(self) -> pd.DataFrame:
        try:
            # the header is read as a row like any other, so that a row with more fields than it has is an error
            rows = pd.read_csv(
                self.path, header=None, dtype=str, skip_blank_lines=False, encoding="utf-8-sig", skipinitialspace=True
            )
        except pd.errors.EmptyDataError as error:
            raise DataError(f"{self.path} is empty; expected a header and rows") from error
        except pd.errors.ParserError as error:
            if self.section.header is None:
                self._misfit(error)
            rows = self._without_header()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error
        else:
            rows.index += 1
            if self.section.header is None:
                rows.columns = pd.Index([str(name).strip() for name in rows.iloc[0]])
            rows = rows[1:] if self.section.header is None else self._named(rows[1:])
        return rows.dropna(how="all")

    def _without_header(self) -> pd.DataFrame:
        """The rows after a header that is shorter than they are."""
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
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if found is None:
            raise DataError(f"{self.path} cannot be read as CSV: {error}") from error
        expected, line, saw = (int(n) for n in found.groups())
        if self.section.header is not None:
            raise DataError(f"{self.path}, line {line + 1}: {saw} fields, expected {expected}") from error
        with self.path.open(encoding="utf-8-sig") as file:
            names = [name.strip() for name in file.readline().split(",")]
        # the commonest case: date and time are two columns, and the header forgets the time
        example = [names[0], "Time", *names[1:]] if saw == expected + 1 else ["..."] * saw
        raise DataError(
            f"{self.path}, line {line}: {saw} fields, but the header names {expected} ({', '.join(names)}); if the "
            f"header is wrong, name all {saw} columns in [feed.{self.feed}], such as header = {', '.join(example)}"
        ) from error

    def _find(self) -> dict[str, list[str]]:
        """Our name -> the columns of the file that hold it: by the mapping, else by the same name in any spelling."""
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
            elif ours.replace("_", "") in plain and ours != "contract":
                found[ours] = [plain[ours.replace("_", "")]]
        self._check(found, plain)
        return found

    def _check(self, found: dict[str, list[str]], plain: dict[str, str]) -> None:
        if not found["ts"]:
            self._absent(f"column for ts ([feed.{self.feed}] columns = ts: ...)", "date")
        if "time" in plain and "ts" not in self.section.columns:
            date, time = found["ts"][0], plain["time"]
            raise DataError(
                f"{self.path} has both {date} and {time}; say what the stamp is in [feed.{self.feed}]: "
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

    def _absent(self, what: str, name: str) -> NoReturn:
        names = [str(column) for column in self.rows.columns]
        raise DataError(f"{self.path} has no {what}; it has {', '.join(names)}{_meant(name, set(names))}")

    def column(self, ours: str) -> pd.Series[str]:
        """A column as it stands, several joined by a blank."""
        first, *others = (self.rows[name].astype("str") for name in self.found[ours])
        for other in others:
            first = first.str.cat(other, sep=" ")
        return first

    def values(self, *, zero_is_missing: bool) -> pd.DataFrame:
        """Prices, volume and open interest of every row."""
        found = pd.DataFrame({name: self.numbers(name) for name in NUMBERS})
        for name in ("volume", "open_interest") if zero_is_missing else ():
            found[name] = found[name].mask(pd.to_numeric(found[name], errors="coerce") == 0)
        return found

    def quotes(self, contract: str, close: str) -> pd.DataFrame:
        """One of the contracts side by side, close only; no name where it has no close."""
        found = pd.DataFrame(float("nan"), index=self.rows.index, columns=NUMBERS)
        return found.assign(close=self._numbers(close), contract=self.rows[contract].where(self.rows[close].notna()))

    def numbers(self, ours: str) -> pd.Series[float]:
        """Numbers where all are; else the column as it stands. Missing where the file has no such column."""
        if ours not in self.found:
            return pd.Series(float("nan"), index=self.rows.index)
        return self._numbers(self.found[ours][0])

    def _numbers(self, name: str) -> pd.Series[float]:
        given = self.rows[name]
        numbers = pd.to_numeric(given, errors="coerce")
        return given.astype(object) if (numbers.isna() & given.notna()).any() else numbers.astype(float)

    def stamps(self) -> pd.DatetimeIndex:
        """The stamps: aware where the file gives a zone or offset, else naive."""
        if len(self.found["ts"]) == 1:
            given = self.rows[self.found["ts"][0]]
            if pd.api.types.is_datetime64_any_dtype(given.dtype):
                self.all_known(given, given.isna(), "a date")
                return pd.DatetimeIndex(given)
        text = self.column("ts").str.strip()
        form = self.section.date_format
        offset = text.str.contains(OFFSET) & text.str.contains(":")
        with_offset = bool(offset.all()) or (form is not None and "%z" in form)
        if offset.any() and not with_offset:
            self.all_known(text, ~offset, "an offset such as +00:00, which other lines have")
        parsed = pd.to_datetime(text, format=form or "ISO8601", errors="coerce", utc=with_offset)
        self.all_known(
            text, parsed.isna(), f"a date as {form}" if form else "an ISO 8601 date such as 2006-01-31 17:30"
        )
        return pd.DatetimeIndex(parsed)

    def instants(self, stamps: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """UTC, by the configured zone where the file names none."""
        if stamps.tz is not None:
            return stamps.tz_convert("UTC")
        local = stamps.tz_localize(self.section.zone, ambiguous="NaT", nonexistent="NaT")
        expected = f"a time that {self.section.zone} has exactly once (its clocks change there); use offsets or UTC"
        self.all_known(stamps.to_series(index=self.rows.index), pd.Series(local.isna(), self.rows.index), expected)
        return local.tz_convert("UTC")

    def all_known(self, given: pd.Series, unknown: pd.Series[bool], expected: str) -> None:
        lines = self.rows.index[unknown]
        if len(lines):
            more = f" (and {len(lines) - 1} lines more)" if len(lines) > 1 else ""
            unit = "row" if self.path.suffix == ".parquet" else "line"
            raise DataError(f"{self.path}, {unit} {lines[0]}: got {given[lines[0]]}, expected {expected}{more}")


def _meant(name: str, names: set[str]) -> str:
    # case is the commonest slip
    lower = {n.lower(): n for n in sorted(names)}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"; did you mean {lower[near[0]]}?" if near else ""
