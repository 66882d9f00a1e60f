"""
Bars from a folder of CSV and Parquet files, listed again in each run; ``table`` reads a single file.

A mistake in a file is a Problem of its instruments; the others continue. Prices pass unchanged, including text, so that
screening quarantines the row and not the file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.errors import ConfigError, DataError
from alphapivot.feeds.base import RAW, Fetched, Problem, Request, events, gather
from alphapivot.feeds.table import NUMBERS, Table, meant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from alphapivot.config.sections.feeds import FilesFeed
    from alphapivot.feeds.base import Limit
    from alphapivot.feeds.stamps import Stamps

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
EVENTS = ("ts", "symbol", "split", "dividend")
Opened = dict[tuple["Path", bool], Table]  # a file of many symbols is read once


class Files:
    """
    The Feed port over files under ``section.root``; an instrument's ticker is a file's path there, or a glob.

    Where ``columns`` map ``symbol``, a file holds many symbols: the rows of the instrument's symbol are used, or of the
    symbol in its ticker, as in ``bars-*.csv: BRK.B``. A glob of futures is one contract per file, named by the file
    without its suffix, unless ``columns`` map ``contract``, or ``contracts`` name several in each row (close only).
    """

    limits: ClassVar[Mapping[str, Limit]] = {}

    def __init__(self, name: str, section: FilesFeed) -> None:
        self.name = name
        self.section = section

    def fetch(self, requests: list[Request]) -> Fetched:
        """Bars of the requests' files; a file that is missing or cannot be read is a Problem."""
        if not self.section.root.is_dir():
            raise ConfigError(f"[feed.{self.name}] root = {self.section.root} is not a folder")
        parts, problems, actions = [], [], []
        actions_after: dict[str, datetime] = {}
        opened: Opened = {}
        for request in requests:
            try:
                bars = self._bars(request, opened)
                if request.market == "spot" and self._has_events(request):
                    actions.append(self._events(request, opened))
                    actions_after[request.instrument.symbol] = ALWAYS
                parts.append(bars)
            except DataError as error:
                problems.append(Problem(request, str(error)))
        return gather(parts, problems, actions, actions_after)

    def _tables(self, request: Request, ticker: str, opened: Opened, *, of_events: bool = False) -> list[Table]:
        """The files that a ticker names, each with only the rows of the request's symbol."""
        many = "symbol" in self.section.columns
        files, named, name = ticker.partition(":") if many else (ticker, "", "")
        name = name.strip() if named else request.instrument.symbol
        paths = paths_of(self.section.root, files)
        if not paths:
            existing = {
                p.relative_to(self.section.root).as_posix() for p in self.section.root.rglob("*") if p.is_file()
            }
            hint = "" if many or ":" not in ticker else f"; [feed.{self.name}] needs columns = symbol: ..."
            raise DataError(f"there is no file {files} in {self.section.root}{meant(files, existing)}{hint}")
        side_by_side = self.section.contracts if request.market == "futures" else {}
        for path in paths:
            if (path, of_events) not in opened:
                wanted = EVENTS if of_events else ("ts", "symbol", "contract", *NUMBERS)
                opened[path, of_events] = Table(
                    path, self.section, self.name, {} if of_events else side_by_side, wanted
                )
        tables = [opened[path, of_events] for path in paths]
        matching = [part for table in tables if (part := table.of(name)) is not None]
        if not matching:
            column, names = self.section.columns["symbol"], {n for table in tables for n in table.symbols()}
            raise DataError(f"{files} has no row of {name} in its column {column}{meant(name, names)}")
        return matching

    def _has_events(self, request: Request) -> bool:
        return request.instrument.actions is not None or bool({"split", "dividend"} & set(self.section.columns))

    def _events(self, request: Request, opened: Opened) -> pd.DataFrame:
        """Splits and dividends: from the file that ``actions`` names, else from columns of the bars' file."""
        instrument = request.instrument
        parts = []
        for table in self._tables(request, instrument.actions or instrument.spot or "", opened, of_events=True):
            dates = table.dates(table.stamps(), instrument.hours)
            for kind in ("split", "dividend"):
                values = table.numbers(kind)
                wrong = pd.to_numeric(values, errors="coerce").isna() & values.notna()
                table.all_known(values, wrong, f"a {kind} as a number")
                parts.append(pd.DataFrame({"date": dates, "kind": kind, "value": values.to_numpy()}))
        actions = events(instrument.symbol, self.name, instrument.hours, pd.concat(parts, ignore_index=True))
        return actions[actions["ts"] <= request.until]

    def _bars(self, request: Request, opened: Opened) -> pd.DataFrame:
        ticker = getattr(request.instrument, request.market)
        if ticker is None:
            raise DataError(f"[instrument.{request.instrument.symbol}] has no {request.market} file")
        tables = self._tables(request, ticker, opened)
        bars = pd.concat([self._file(table, request, ticker) for table in tables], ignore_index=True)
        since = pd.Timestamp.min.tz_localize("UTC") if request.since is None else request.since
        requested = bars[(bars["ts"] > since) & (bars["ts"] <= request.until)]
        return requested.sort_values(["contract", "ts"], kind="stable", ignore_index=True)

    def _file(self, table: Table, request: Request, ticker: str) -> pd.DataFrame:
        stamps = table.stamps()
        dates = table.dates(stamps, request.instrument.hours)
        ts = self._ends(table, stamps, dates, request)
        if table.beside:
            quotes = [table.quotes(name, close) for name, close in table.beside.items()]
            rows = pd.concat([part.assign(ts=ts).dropna(subset=["contract"]) for part in quotes])
            # the carry contract may be the forward one
            rows = rows.drop_duplicates(["contract", "ts", "close"])
        else:
            contract = table.path.stem if request.market == "futures" and set(ticker) & set("*?[") else ""
            named = table.column("contract") if "contract" in self.section.columns else contract
            rows = table.values(zero_is_missing=self.section.zero_volume_is_missing).assign(contract=named, ts=ts)
            if self.section.join:
                rows = rows.assign(date=dates).iloc[np.argsort(stamps.order, kind="stable")]
                rows = _joined(rows[rows["ts"].notna()])
        bars = rows[rows["ts"].notna()].assign(
            symbol=request.instrument.symbol, market=request.market, interval=request.interval, source=self.name
        )
        return bars[RAW]

    def _ends(self, table: Table, stamps: Stamps, dates: pd.DatetimeIndex, request: Request) -> pd.DatetimeIndex:
        """The end of each row's bar; NaT for a row that another row of its session replaces or must complete."""
        calendar, interval = request.instrument.hours, request.interval
        if self.section.stamp != "date":
            ts = table.instants(stamps)
            ts = bar_ends.ends_of(calendar, interval, ts) if self.section.stamp == "start" else ts
            self._refuse_dates(table, stamps, ts, request)
            return ts.as_unit("us")
        if not self.section.join:
            return bar_ends.session_closes(calendar, dates)
        written = dates.normalize()
        dates = bar_ends.session_dates(calendar, dates)
        ts = bar_ends.session_closes(calendar, dates)
        newest = dates == dates.max()
        if (written < dates)[newest].all():  # a Sunday evening whose Monday is still to come
            ts = pd.DatetimeIndex(ts.where(~newest))
        if not table.beside:
            return ts
        # all contracts are quoted at the session's last instant: closes of different instants would make a spread that
        # could not be traded
        quoted = table.rows[list(table.beside.values())].notna().any(axis=1).to_numpy()
        order = pd.Series(np.where(quoted, np.argsort(np.argsort(stamps.order, kind="stable"), kind="stable"), -1))
        newest = quoted & (order == order.groupby(dates.to_numpy()).transform("max")).to_numpy()
        return pd.DatetimeIndex(ts.where(newest))

    def _refuse_dates(self, table: Table, stamps: Stamps, ts: pd.DatetimeIndex, request: Request) -> None:
        """Raises DataError for dates read as the ends of daily bars: each bar would be known a session early."""
        if self.section.stamp != "end" or request.interval != "1d":
            return
        calendar, midnight = request.instrument.hours, (stamps.written == stamps.written.normalize()).all()
        if midnight and not (bar_ends.due(calendar, "1d", ts) == ts).any():
            raise DataError(
                f"{table.path}: daily bars stamped {stamps.written[0]}, where no bar of {calendar} ends; these are "
                f"dates: [feed.{self.name}] stamp = date"
            )


def paths_of(root: Path, files: str) -> list[Path]:
    """The files that a path or glob names, sorted. Raises DataError for an invalid path or glob below ``root``."""
    try:
        return sorted(path for path in root.glob(files.strip()) if path.is_file())
    except (OSError, ValueError, NotImplementedError, IndexError) as error:
        raise DataError(f"{files!r} is not a path or glob below {root}: {error}") from error


def _joined(rows: pd.DataFrame) -> pd.DataFrame:
    """
    Merge rows, sorted by time, that belong to one bar, such as Sunday evening's and Monday's.

    Two rows of the same date are not parts, and text would be lost: both are left unchanged, for screening.
    """
    key = ["contract", "ts"]
    several = rows.duplicated(key, keep=False)
    numbers = rows[NUMBERS].apply(pd.to_numeric, errors="coerce")
    wrong = rows.duplicated([*key, "date"], keep=False) | (numbers.isna() & rows[NUMBERS].notna()).any(axis=1)
    wrong = wrong.groupby([rows[k] for k in key]).transform("any")
    parts = numbers.assign(**{k: rows[k] for k in key})[several & ~wrong]
    groups = parts.groupby(key, sort=False)
    merged = pd.DataFrame({name: groups[name].last(skipna=False) for name in ("close", "open_interest")})
    merged["open"] = groups["open"].first(skipna=False)
    # a value missing in one part is missing in the whole
    for name, function in (("high", "max"), ("low", "min"), ("volume", "sum")):
        merged[name] = groups[name].agg(function).mask(groups[name].agg("size") > groups[name].agg("count"))
    merged["open"] = merged["open"].mask(merged["high"].isna())
    result: pd.DataFrame = pd.concat([rows[~several | wrong], merged.reset_index()], ignore_index=True)
    return result
