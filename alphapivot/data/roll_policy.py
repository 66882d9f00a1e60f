"""How one symbol's contracts roll: the terms of its section, and the files of rolls that it names, read."""

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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alphapivot.calendar.schedule import Calendar, Instants
    from alphapivot.config.sections.feeds import FilesFeed
    from alphapivot.config.sections.instrument import Instrument


@dataclass(frozen=True, eq=False)
class Policy:
    """How one symbol's contracts roll: its terms from config.ini, and the files of rolls that it names, read."""

    by: str = "open_interest"  # or volume, or calendar
    before: int = 0  # sessions
    calendar: Calendar = "24/7"
    last_trade: str | None = None
    first_notice: str | None = None
    last_trade_dates: Mapping[str, str] = field(default_factory=dict)
    first_notice_dates: Mapping[str, str] = field(default_factory=dict)
    # the contract to be in after the session that ended at each instant, as could be known then; ascending
    wanted: pd.Series[str] | None = None

    def ends(self, contracts: Sequence[str], months: Sequence[int]) -> npt.NDArray[np.datetime64]:
        """The date of each contract's first notice or last trade, whichever comes first; NaT where neither is known."""
        found = np.full(len(contracts), NEVER, dtype="datetime64[D]")
        for text, dates in (
            (self.last_trade, self.last_trade_dates),
            (self.first_notice, self.first_notice_dates),
        ):
            for n, (contract, month) in enumerate(zip(contracts, months, strict=True)):
                if contract in dates:
                    found[n] = np.fmin(found[n], np.datetime64(dates[contract], "D"))
                elif text is not None:
                    found[n] = np.fmin(found[n], day(text, month, self.calendar))
        return found

    def deadlines(self, contracts: Sequence[str], months: Sequence[int]) -> Instants:
        """The end of the last session on which leaving each contract may be decided; NaT where there is none."""
        known = schedule.of(self.calendar)
        ends = self.ends(contracts, months).astype("datetime64[us]")
        at = np.searchsorted(known.labels, ends, "right") - 1 - self.before
        inside = ~np.isnat(ends) & (ends <= known.labels[-1]) & (at >= 0)
        return np.where(inside, known.days[np.where(inside, at, 0)], NEVER)


def policy(instrument: Instrument, feed: object) -> Policy:
    """What ``instrument`` says of its rolls; its files stand under the root of its ``feed``, a section [feed.*]."""
    wanted = None
    if instrument.roll_calendar or instrument.roll_followed:
        if not hasattr(feed, "root"):
            raise ConfigError(
                f"[instrument.{instrument.symbol}] roll_calendar and roll_followed name files, but its feed has none"
            )
        wanted = _wanted(instrument, feed)  # type: ignore[arg-type]
    return Policy(
        by=instrument.roll,
        before=instrument.roll_before,
        calendar=instrument.hours,
        last_trade=instrument.last_trade,
        first_notice=instrument.first_notice,
        last_trade_dates=instrument.last_trade_dates,
        first_notice_dates=instrument.first_notice_dates,
        wanted=wanted,
    )


def _wanted(instrument: Instrument, feed: FilesFeed) -> pd.Series[str]:
    """
    The published rolls to their end, then the contract that the source itself took for the front one.

    A published roll is known before it comes: it is decided on the last session that ended by its stamp. What a source
    took is known only when its session is over.
    """
    known = schedule.of(instrument.hours)
    parts: list[pd.Series[str]] = []
    if instrument.roll_calendar:
        stamps, contracts = _read(instrument, "roll_calendar", feed)
        at = np.searchsorted(known.days, bar_ends.naive(stamps.tz_localize(feed.zone)), "right") - 1
        parts.append(contracts.set_axis(bar_ends.aware(known.days[at])))
    if instrument.roll_followed:
        stamps, contracts = _read(instrument, "roll_followed", feed)
        ends = bar_ends.session_closes(instrument.hours, bar_ends.session_dates(instrument.hours, stamps))
        table = contracts.set_axis(ends)
        table = table[~table.index.duplicated(keep="last")]
        parts.append(table[table.index > parts[0].index[-1]] if parts else table)
    found: pd.Series[str] = pd.concat(parts)
    return found[(found != found.shift()).to_numpy()]


def _read(instrument: Instrument, key: str, feed: FilesFeed) -> tuple[pd.DatetimeIndex, pd.Series[str]]:
    """A file's stamps, ascending, and its contracts."""
    name, ts, contract = roll_file(getattr(instrument, key))
    path, place = Path(feed.root, name), f"[instrument.{instrument.symbol}] {key}"
    try:
        table = pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: {path} cannot be read: {error}") from error
    if missing := [column for column in (ts, contract) if column not in table]:
        raise DataError(f"{place}: {path} has no column {missing[0]!r}; it has {', '.join(table.columns)}")
    table = table.dropna(subset=[ts, contract])
    stamps = pd.to_datetime(table[ts], format=feed.date_format or "ISO8601", errors="coerce")
    if stamps.isna().any():
        row = int(np.flatnonzero(stamps.isna())[0])
        raise DataError(f"{place}: {path}, line {table.index[row] + 2}: got {table[ts].iloc[row]}, expected a date")
    order = np.argsort(stamps.to_numpy(), kind="stable")
    return pd.DatetimeIndex(stamps.iloc[order]), table[contract].iloc[order]
