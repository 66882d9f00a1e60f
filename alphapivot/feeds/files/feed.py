"""
Bars from a folder of CSV and Parquet files, listed again in each run; ``table`` reads a single file.

A mistake in a file is a Problem of its instruments; the others continue. Prices pass unchanged, including text, so that
screening quarantines the row and not the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.calendar.contracts import UnreadableError, month_of
from alphapivot.errors import ConfigError, DataError
from alphapivot.feeds.base import RAW, Fetched, Problem, Request, events, gather
from alphapivot.feeds.files import beside
from alphapivot.feeds.files.joined import joined
from alphapivot.feeds.files.paths import name_of, paths_of, version
from alphapivot.feeds.files.spacing import coarser
from alphapivot.feeds.files.table import BARS, NUMBERS, Table, meant
from alphapivot.frames import ACTION_KINDS, kept, ordered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from alphapivot.config.sections.feeds import FilesFeed
    from alphapivot.feeds.base import Limit
    from alphapivot.feeds.files.stamps import Stamps

LARGE = 50_000  # bars from which a file's are kept for the next request
ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
EVENTS = ("ts", "symbol", *ACTION_KINDS)
Opened = dict[tuple["Path", bool, bool], Table | DataError]  # a file of many symbols is read once


@dataclass
class Reply:
    """What is told beside bars."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    spreads: list[pd.DataFrame] = field(default_factory=list)
    begins: dict[tuple[str, str, str], datetime] = field(default_factory=dict)


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
        self._ready()
        parts, actions = [], []
        actions_after: dict[str, datetime] = {}
        opened: Opened = {}
        reply = Reply()
        for request in requests:
            try:
                bars = self._bars(request, opened, reply)
                if request.market == "spot" and self._has_events(request):
                    actions.append(self._events(request, opened, reply))
                    actions_after[request.instrument.symbol] = self._known_from(request)
                parts.append(bars)
            except DataError as error:
                reply.problems.append(Problem(request, str(error)))
        return replace(
            gather(parts, reply.problems, actions, actions_after, reply.notes),
            spreads=pd.concat([beside.empty(), *reply.spreads], ignore_index=True),
            begins=reply.begins,
        )

    def _ready(self) -> None:
        """Raises ConfigError for a folder that is not there."""
        if not self.section.root.is_dir():
            raise ConfigError(f"[feed.{self.name}] root = {self.section.root} is not a folder")

    def _known_from(self, request: Request) -> datetime:  # noqa: ARG002 - files hold all
        """The instant from which all events are in the tables of a request."""
        return ALWAYS

    def _tables(
        self, request: Request, ticker: str, opened: Opened, reply: Reply, *, of_events: bool = False
    ) -> list[Table]:
        """The files that a ticker names, each with only the rows of the request's symbol; bad ones are problems."""
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
        tables: list[Table] = []
        errors: list[DataError] = []
        for path in paths:
            table = self._open(path, request, opened, of_events=of_events)
            if isinstance(table, DataError):
                errors.append(table)
            else:
                tables.append(table)
        if not tables:
            raise errors[0]
        reply.problems += [Problem(request, str(error), partial=True) for error in errors]
        matching = [part for table in tables if (part := table.of(name)) is not None]
        if not matching:
            column, names = self.section.columns["symbol"], {n for table in tables for n in table.symbols()}
            raise DataError(f"{files} has no row of {name} in its column {column}{meant(name, names)}")
        return matching

    def _open(self, path: Path, request: Request, opened: Opened, *, of_events: bool) -> Table | DataError:
        """A file, read once for all instruments; or what is wrong with it."""
        futures = request.market == "futures" and not of_events
        side_by_side = self.section.contracts if futures else {}
        key = path, of_events, futures
        if key not in opened:
            wanted = EVENTS if of_events else BARS[request.market]
            try:
                opened[key] = Table(path, self.section, self.name, side_by_side, wanted)
            except DataError as error:
                opened[key] = error
            except Exception as error:  # noqa: BLE001 - one file must not stop the others, whatever is in it
                opened[key] = DataError(f"{path} cannot be read: {type(error).__name__}: {error}")
        return opened[key]

    def _has_events(self, request: Request) -> bool:
        return request.instrument.actions is not None or bool({*ACTION_KINDS} & set(self.section.columns))

    def _events(self, request: Request, opened: Opened, reply: Reply) -> pd.DataFrame:
        """Splits and dividends: from the file that ``actions`` names, else from columns of the bars' file."""
        instrument = request.instrument
        parts = []
        ticker = instrument.actions or instrument.spot or ""
        for table in self._tables(request, ticker, opened, reply, of_events=True):
            dates = table.dates(table.stamps(), instrument.hours_of("spot"))
            for kind in ACTION_KINDS:
                values = table.numbers(kind)
                wrong = pd.to_numeric(values, errors="coerce").isna() & values.notna()
                table.all_known(values, wrong, f"a {kind} as a number")
                parts.append(pd.DataFrame({"date": dates, "kind": kind, "value": values.to_numpy()}))
        actions = events(instrument.symbol, self.name, instrument.hours_of("spot"), pd.concat(parts, ignore_index=True))
        return actions[actions["ts"] <= request.until]

    def _bars(self, request: Request, opened: Opened, reply: Reply) -> pd.DataFrame:
        ticker = getattr(request.instrument, request.market)
        if ticker is None:
            raise DataError(f"[instrument.{request.instrument.symbol}] has no {request.market} file")
        key = self._key(request, ticker)
        known = _LARGE.get(key)
        if known is None:
            known = self._read(request, ticker, opened)
            if len(known[0]) > LARGE:
                _LARGE.clear()
                _LARGE[key] = known
        bars, told = known
        reply.problems += [replace(problem, request=request) for problem in told.problems]
        reply.notes += told.notes
        reply.spreads += told.spreads
        since = pd.Timestamp.min.tz_localize("UTC") if request.since is None else request.since
        asked = kept(bars, (bars["ts"] > since) & (bars["ts"] <= request.until)).reset_index(drop=True)
        names = {"symbol": request.instrument.symbol, "market": request.market, "interval": request.interval}
        if len(bars) and not told.problems:
            reply.begins[request.instrument.symbol, request.market, request.interval] = bars["ts"].min()
        return asked.assign(**names, source=self.name)[RAW]

    def _key(self, request: Request, ticker: str) -> str:
        """What the bars of all time depend on: the settings, and the files as they are now."""
        files = ticker.partition(":")[0] if "symbol" in self.section.columns else ticker
        stats = [(path.as_posix(), *version(path)) for path in paths_of(self.section.root, files)]
        settings = self.section.model_dump_json() + request.instrument.model_dump_json()
        return repr((self.name, request.market, request.interval, stats, settings))

    def _read(self, request: Request, ticker: str, opened: Opened) -> tuple[pd.DataFrame, Reply]:
        """The bars of all time, sorted by contract and ts, without what is the same in all."""
        parts: list[pd.DataFrame] = []
        errors: list[DataError] = []
        reply = Reply()
        for table in self._tables(request, ticker, opened, reply):
            try:
                parts.append(self._of_contracts(self._file(table, request, ticker, reply), table, request, reply))
                reply.notes += table.unread()
            except DataError as error:
                errors.append(error)
        if not parts:
            raise errors[0]
        reply.problems += [Problem(request, str(error), partial=True) for error in errors]
        bars = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0].reset_index(drop=True)
        bars = ordered(bars, "contract")
        self._refuse_coarser(bars, request, ticker)
        return bars, reply

    def _refuse_coarser(self, bars: pd.DataFrame, request: Request, ticker: str) -> None:
        """Raises DataError for files whose bars are of a longer interval than the request's."""
        instrument, ts = request.instrument, pd.DatetimeIndex(bars["ts"])
        if got := coarser(instrument.hours_of(request.market), request.interval, ts):
            key = f"{request.market}_interval"
            own = f"[instrument.{instrument.symbol}] {key}" if getattr(instrument, key) else "[timeframes] base"
            raise DataError(
                f"{ticker}: its {ts.nunique()} bars from {ts.min():%Y-%m-%d} to {ts.max():%Y-%m-%d} are about {got} "
                f"apart, expected bars of {request.interval}: {own} names the interval of the files"
            )

    def _of_contracts(self, bars: pd.DataFrame, table: Table, request: Request, reply: Reply) -> pd.DataFrame:
        """
        ``bars`` without those of names that are no contract. Spreads and options in a column are usual, and noted; else
        it is a problem; a file of nothing else is an error.
        """
        left_out: dict[str, UnreadableError] = {}
        named = bars[bars["contract"] != ""]
        for contract, first in named.groupby("contract")["ts"].min().items():
            try:
                month_of(str(contract), first, request.instrument.last_trade_dates)
            except UnreadableError as error:
                left_out[str(contract)] = error
        if not left_out:
            return bars
        usual = [name for name, why in left_out.items() if why.kind in ("spread", "option")]
        if usual and "contract" in self.section.columns:
            names = ", ".join(usual[:3]) + (f" and {len(usual) - 3} more" if len(usual) > 3 else "")
            reply.notes.append(f"{request}: {table.path.name}: left out {names}: a spread or option is no contract")
        else:
            usual = []
        for name, why in left_out.items():
            if name not in usual:
                where = "" if "contract" not in self.section.columns else f", {table.line_of(name)}"
                told = DataError(f"{table.path}{where}: {why}")
                if len(left_out) == named["contract"].nunique():
                    raise told
                reply.problems.append(Problem(request, str(told), partial=True))
        return bars[~bars["contract"].isin(list(left_out))]

    def _file(self, table: Table, request: Request, ticker: str, reply: Reply) -> pd.DataFrame:
        stamps = table.stamps()
        dates = table.dates(stamps, request.instrument.hours_of(request.market))
        ts = self._ends(table, stamps, dates, request)
        if table.beside:
            if self.section.stamp == "date" and self.section.join:
                quoted = beside.quotes(table, ts, stamps.order)
                reply.spreads.append(beside.spreads(request.instrument.symbol, quoted))
                ts = pd.DatetimeIndex(ts.where(beside.closing(quoted, len(ts))))
            quotes = [table.quotes(name, close) for name, close in table.beside.items()]
            rows = pd.concat([part.assign(ts=ts).dropna(subset=["contract"]) for part in quotes])
            # the carry contract may be the forward one
            rows = rows.drop_duplicates(["contract", "ts", "close"])
        else:
            contract = name_of(table.path) if request.market == "futures" and set(ticker) & set("*?[") else ""
            named = self._contracts(table, request) if "contract" in table.found else contract
            rows = table.values(zero_is_missing=self.section.zero_volume_is_missing).assign(contract=named, ts=ts)
            if self.section.join:
                rows = rows.assign(date=dates).iloc[np.argsort(stamps.order, kind="stable")]
                rows = joined(rows[rows["ts"].notna()])
        return kept(rows, rows["ts"].notna())[["contract", "ts", *NUMBERS]]

    def _contracts(self, table: Table, request: Request) -> pd.Series[str]:
        """The contract of each row. Raises DataError where futures have none; shares in such a file need none."""
        named = table.column("contract")
        empty = named.isna()
        if empty.any() and request.market == "futures":
            column = "+".join(table.found["contract"])
            raise DataError(
                f"{table.path}, row {named.index[empty][0]}: no contract in {int(empty.sum())} of {len(named)} rows;"
                f" expected one in column {column}: [feed.{self.name}] columns name it, or are these no futures?"
            )
        return named.fillna("")

    def _ends(self, table: Table, stamps: Stamps, dates: pd.DatetimeIndex, request: Request) -> pd.DatetimeIndex:
        """The end of each row's bar; NaT for a row that another row of its session replaces or must complete."""
        calendar, interval = request.instrument.hours_of(request.market), request.interval
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
        return ts

    def _refuse_dates(self, table: Table, stamps: Stamps, ts: pd.DatetimeIndex, request: Request) -> None:
        """Raises DataError for dates read as the ends of daily bars: each bar would be known a session early."""
        if self.section.stamp != "end" or request.interval != "1d":
            return
        calendar, midnight = (
            request.instrument.hours_of(request.market),
            (stamps.written == stamps.written.normalize()).all(),
        )
        if midnight and not (bar_ends.due(calendar, "1d", ts) == ts).any():
            raise DataError(
                f"{table.path}: daily bars stamped {stamps.written[0]}, where no bar of {calendar} ends; these are "
                f"dates: [feed.{self.name}] stamp = date"
            )


_LARGE: dict[str, tuple[pd.DataFrame, Reply]] = {}  # the newest: a backfill asks for piece after piece of it
