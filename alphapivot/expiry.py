"""
When a futures contract must be left: by rules or dates from config.ini, or as files of rolls say.

    last_trade = third friday                   ; a day without a session means the session before it
    last_trade = last session - 1               ; the session before the month's last
    first_notice = last session of month -1     ; of the month before the contract's own
    last_trade = day 25 - 3 of month -1

Sessions are the calendar's: where an exchange's rule counts a short holiday session as none, give dates instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot import calendars, schedule
from alphapivot.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alphapivot.schedule import Calendar, Instants
    from alphapivot.settings import FilesFeed, Instrument

ORDER = ("first", "second", "third", "fourth", "last")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
RULE = re.compile(
    rf"(?:(?P<nth>{'|'.join(ORDER)}) (?P<what>{'|'.join(WEEKDAYS)}|session)|day (?P<day>\d\d?))"
    r"(?: - (?P<back>\d+))?(?: of month -(?P<months>\d+))?"
)
NEVER = np.datetime64("NaT")


def rule(text: str) -> str:
    """``text`` if it is a rule; ValueError with an example otherwise."""
    found = RULE.fullmatch(text)
    if found is None or (found["day"] is not None and not 1 <= int(found["day"]) <= 31):
        raise ValueError("should be a rule such as third friday, last session - 1, or day 25 - 3 of month -1")
    return text


def roll_file(text: str) -> tuple[str, str, str]:
    """``prices.csv: DATETIME + CONTRACT`` -> the file, its column of stamps, its column of contracts."""
    found = re.fullmatch(r"(.+?)\s*:\s*([^:+]+?)\s*\+\s*([^:+]+?)", text)
    if found is None:
        raise ValueError("should be a file and two of its columns, such as rolls.csv: DATE_TIME + next_contract")
    return found[1], found[2], found[3]


def day(text: str, month: int, calendar: Calendar) -> np.datetime64:
    """
    The session that a rule names for a contract's ``month`` (12 * year + month - 1), as its date.

    NaT where the calendar does not reach.
    """
    found = RULE.fullmatch(rule(text))
    assert found is not None  # noqa: S101 - rule() has seen to it
    labels = schedule.of(calendar).labels.astype("datetime64[D]")
    begins = np.datetime64(month - 1970 * 12 - int(found["months"] or 0), "M")
    first, following = begins.astype("datetime64[D]"), (begins + 1).astype("datetime64[D]")
    if labels[0] > first or labels[-1] < following:
        return NEVER
    if found["what"] == "session":
        low, high = np.searchsorted(labels, [first, following])
        at = high - 1 if found["nth"] == "last" else low + ORDER.index(found["nth"])
    else:
        at = np.searchsorted(labels, _date(found, first, following), "right") - 1
    return labels[at - int(found["back"] or 0)]  # type: ignore[no-any-return]


def _date(found: re.Match[str], first: np.datetime64, following: np.datetime64) -> np.datetime64:
    if found["day"] is not None:
        return min(first + int(found["day"]) - 1, following - 1)
    mask = found["what"][:3].capitalize()
    if found["nth"] == "last":
        return np.busday_offset(following, -1, roll="forward", weekmask=mask)
    return np.busday_offset(first, ORDER.index(found["nth"]), roll="forward", weekmask=mask)


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
        at = np.searchsorted(known.days, calendars.naive(stamps.tz_localize(feed.zone)), "right") - 1
        parts.append(contracts.set_axis(calendars.aware(known.days[at])))
    if instrument.roll_followed:
        stamps, contracts = _read(instrument, "roll_followed", feed)
        ends = calendars.session_closes(instrument.hours, calendars.session_dates(instrument.hours, stamps))
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
