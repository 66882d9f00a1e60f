"""How one symbol's contracts roll: the terms of its section, and the contents of the roll files that it names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import bar_ends, schedule
from alphapivot.calendar.expiry import NEVER, day, roll_file
from alphapivot.errors import ConfigError, DataError
from alphapivot.feeds.files import stamps
from alphapivot.feeds.files.text import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alphapivot.calendar.exchange import Instants
    from alphapivot.calendar.schedule import Calendar
    from alphapivot.config.sections.feeds import FilesFeed
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.feeds.files.stamps import Stamps


@dataclass(frozen=True, eq=False)
class Policy:
    """How one symbol's contracts roll."""

    by: str = "open_interest"  # or volume, or calendar
    before: int = 0  # sessions
    calendar: Calendar = "24/7"
    last_trade: str | None = None
    first_notice: str | None = None
    last_trade_dates: Mapping[str, str] = field(default_factory=dict)
    first_notice_dates: Mapping[str, str] = field(default_factory=dict)
    # from the roll files: the contract to hold after the session that ended at each instant, as known then; ascending
    wanted: pd.Series[str] | None = None

    def ends(self, contracts: Sequence[str], months: Sequence[int]) -> npt.NDArray[np.datetime64]:
        """The earlier of each contract's first notice and last trade dates; NaT where neither is known."""
        dates = np.full(len(contracts), NEVER, dtype="datetime64[D]")
        for text, named_dates in (
            (self.last_trade, self.last_trade_dates),
            (self.first_notice, self.first_notice_dates),
        ):
            for n, (contract, month) in enumerate(zip(contracts, months, strict=True)):
                if contract in named_dates:
                    dates[n] = np.fmin(dates[n], np.datetime64(named_dates[contract], "D"))
                elif text is not None:
                    dates[n] = np.fmin(dates[n], day(text, month, self.calendar))
        return dates

    def deadlines(self, contracts: Sequence[str], months: Sequence[int]) -> Instants:
        """The end of the last session on which rolling out of each contract may be decided; NaT without a deadline."""
        timetable = schedule.of(self.calendar)
        ends = self.ends(contracts, months).astype("datetime64[us]")
        at = np.searchsorted(timetable.labels, ends, "right") - 1 - self.before
        inside = ~np.isnat(ends) & (ends <= timetable.labels[-1]) & (at >= 0)
        return np.where(inside, timetable.days[np.where(inside, at, 0)], NEVER)


def policy(instrument: Instrument, feed: object) -> Policy:
    """The roll policy of ``instrument``; its roll files are below the root of ``feed``, the section of its feed."""
    wanted = None
    if instrument.roll_calendar or instrument.roll_followed:
        if not hasattr(feed, "root"):
            raise ConfigError(
                f"[instrument.{instrument.symbol}] roll_calendar and roll_followed need a feed of kind files"
            )
        wanted = _wanted(instrument, feed)  # type: ignore[arg-type]
    return Policy(
        by=instrument.roll,
        before=instrument.roll_before,
        calendar=instrument.hours_of("futures"),
        last_trade=instrument.last_trade,
        first_notice=instrument.first_notice,
        last_trade_dates=instrument.last_trade_dates,
        first_notice_dates=instrument.first_notice_dates,
        wanted=wanted,
    )


def _wanted(instrument: Instrument, feed: FilesFeed) -> pd.Series[str]:
    """
    The published rolls up to the last one, then the contract that the source itself used as the front one.

    A published roll is known in advance: it is decided on the last session that ended by its stamp. The source's front
    contract is known only after its session.
    """
    timetable = schedule.of(instrument.hours_of("futures"))
    parts: list[pd.Series[str]] = []
    if instrument.roll_calendar:
        given, contracts = _read(instrument, "roll_calendar", feed)
        instants = given.written.tz_localize(feed.zone) if given.instants is None else given.instants
        at = np.searchsorted(timetable.days, bar_ends.naive(instants), "right") - 1
        parts.append(contracts.set_axis(bar_ends.aware(timetable.days[at])))
    if instrument.roll_followed:
        given, contracts = _read(instrument, "roll_followed", feed)
        dates = stamps.dates(given, feed.zone, instrument.hours_of("futures"))
        ends = bar_ends.session_closes(
            instrument.hours_of("futures"), bar_ends.session_dates(instrument.hours_of("futures"), dates)
        )
        table = contracts.set_axis(ends)
        table = table[~table.index.duplicated(keep="last")]
        parts.append(table[table.index > parts[0].index[-1]] if parts else table)
    wanted: pd.Series[str] = pd.concat(parts)
    return wanted[(wanted != wanted.shift()).to_numpy()]


def _read(instrument: Instrument, key: str, feed: FilesFeed) -> tuple[Stamps, pd.Series[str]]:
    """The timestamps of a roll file, ascending, and its contracts."""
    name, ts, contract = roll_file(getattr(instrument, key))
    path, place = Path(feed.root, name), f"[instrument.{instrument.symbol}] {key}"
    try:
        table = pd.read_csv(path, dtype=str)
    except UNREADABLE as error:
        raise DataError(f"{place}: {path} cannot be read: {error}") from error
    if missing := [column for column in (ts, contract) if column not in table]:
        raise DataError(f"{place}: {path} has no column {missing[0]!r}; it has {', '.join(table.columns)}")
    table = table.dropna(subset=[ts, contract])
    if table.empty:
        raise DataError(f"{place}: {path} has no row with both {ts} and {contract}")
    try:
        given = stamps.parse(table[ts].str.strip(), feed.date_format)
    except ValueError as error:
        raise DataError(f"{place}: {path}: of the timestamps {error}; expected one in all lines, or in none") from error
    if given.written.isna().any():
        row = int(np.flatnonzero(given.written.isna())[0])
        raise DataError(f"{place}: {path}, line {table.index[row] + 2}: got {table[ts].iloc[row]}, expected a date")
    order = np.argsort(given.order, kind="stable")
    return given[order], table[contract].iloc[order]
