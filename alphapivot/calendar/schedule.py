"""
When an instrument trades: a calendar of exchange_calendars with the instrument's own hours applied.

The calendar gives the days with sessions and the half days among them; ``Hours`` gives the times, the breaks and when
the daily bar is complete. On a half day the narrower of the two holds.

Some calendars of exchange_calendars end on a date (XBOM, XSES, XSHG: their holidays are published a year ahead). The
weekdays after it, up to a year from now, are assumed to be regular sessions, so that open trades are still priced,
protected and exited, contracts have deadlines and other instruments continue. No trade is entered on an assumed session
(``alphapivot.data.horizon``), so a holiday mistaken for a session costs nothing.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import hours as grammar
from alphapivot.calendar.hours import Hours
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, time

Instants = npt.NDArray[np.datetime64]  # naive UTC, microseconds
Mask = npt.NDArray[np.bool_]
Calendar = str | Hours  # a name: that calendar unchanged
DAY = 24 * 60


@dataclass(frozen=True, eq=False)
class Schedule:
    """All sessions of a calendar in order, and the open periods (sessions cut by breaks)."""

    labels: Instants  # session dates
    opens: Instants
    closes: Instants
    days: Instants  # when each session's daily bar is complete
    starts: Instants  # of the open periods
    ends: Instants
    zone: str
    named: int  # number of sessions that the calendar names; later ones are assumed


@lru_cache
def get_calendar(name: str, start: str = "1970-01-01") -> Any:
    """
    A calendar of exchange_calendars, from ``start`` (or its earliest date) to a year from now.

    Raises ConfigError, with the nearest names, for an unknown name.
    """
    import exchange_calendars as xc  # noqa: PLC0415 - takes most of a second

    names = xc.get_calendar_names(include_aliases=True)
    if name not in names:
        near = difflib.get_close_matches(name.upper(), names, n=3, cutoff=0.4)
        meant = f"did you mean {' or '.join(near)}?" if near else "see exchange_calendars.get_calendar_names()"
        raise ConfigError(f"calendar {name!r} is unknown to exchange_calendars; {meant}")
    try:
        return xc.get_calendar(name, start=start)
    except (ValueError, NotImplementedError):
        try:  # some calendars begin later
            return xc.get_calendar(name, start=xc.get_calendar(name).bound_min())
        except (ValueError, NotImplementedError) as error:
            reason = str(error)[:100]
            raise ConfigError(
                f"exchange_calendars {xc.__version__} cannot build calendar {name!r}: {reason}"
            ) from error


@lru_cache
def of(calendar: Calendar) -> Schedule:
    """The schedule of a calendar or of an instrument's hours; ConfigError for an unknown calendar."""
    hours = calendar if isinstance(calendar, Hours) else Hours(calendar)
    base = get_calendar(hours.calendar)
    zone, table = hours.zone or str(base.tz), base.schedule
    labels, opens, break_starts, break_ends, closes = (
        np.append(*columns) for columns in zip(_named(table), _assumed(base), strict=True)
    )
    early, late_days = (days.to_numpy().astype("datetime64[us]") for days in (base.early_closes, base.late_opens))
    if hours.session:
        opens, closes = _own_hours(
            hours.session, labels, opens, closes, zone, np.isin(labels, early), np.isin(labels, late_days)
        )
    shut = [np.datetime64(day) for day in grammar.dates(hours.closed)] if hours.closed else []
    special = grammar.special(hours.open) if hours.open else {}
    valid = (closes > opens) & ~np.isin(labels, np.array([*shut, *special], dtype="datetime64[us]"))
    labels, opens, closes, break_starts, break_ends = (
        column[valid] for column in (labels, opens, closes, break_starts, break_ends)
    )
    if hours.breaks:
        break_starts, break_ends = _own_breaks(hours.breaks, labels, opens, closes, break_starts, break_ends, zone)
    else:
        break_starts, break_ends = break_starts[None], break_ends[None]
    days = _days(hours.daily_stamp, labels, closes, zone, np.isin(labels, early)) if hours.daily_stamp else closes
    if special:
        labels, opens, closes, days, break_starts, break_ends = _with_special(
            special, zone, labels, opens, closes, days, break_starts, break_ends
        )
    within = ~np.isnat(break_starts) & (break_starts < closes) & (break_ends > opens)
    # neither sessions nor breaks overlap: starts and ends pair up when each is sorted
    starts = np.sort(np.append(opens, np.minimum(break_ends, closes)[within]))
    ends = np.sort(np.append(closes, np.maximum(break_starts, opens)[within]))
    named = int(np.searchsorted(labels, table.index[-1].to_datetime64(), "right"))
    return Schedule(labels, opens, closes, days, starts[ends > starts], ends[ends > starts], zone, named)


def _named(table: pd.DataFrame) -> tuple[Instants, ...]:
    """The sessions that the calendar names: labels, opens, break starts, break ends, closes."""
    columns = (table[name].dt.tz_convert(None) for name in ("open", "break_start", "break_end", "close"))
    return tuple(column.to_numpy().astype("datetime64[us]") for column in (table.index, *columns))


def _assumed(base: Any) -> tuple[Instants, ...]:
    """As ``_named``, for the weekdays after the end of a calendar that ends on a date; empty for other calendars."""
    last, until = base.schedule.index[-1], pd.Timestamp.now("UTC").tz_localize(None) + pd.DateOffset(years=1)
    if base.bound_max() is None or last >= until:
        return (np.empty(0, dtype="datetime64[us]"),) * 5
    days = pd.date_range(last + pd.Timedelta(days=1), until, freq=pd.offsets.CDay(weekmask=base.weekmask))
    labels = days.to_numpy().astype("datetime64[us]")

    def regular(times: Sequence[tuple[Any, time]] | None, offset: int) -> Instants:
        if times is None:
            return np.full(len(labels), np.datetime64("NaT"), dtype="datetime64[us]")
        _, at = times[-1]
        return local(labels, at.hour * 60 + at.minute + offset * DAY, str(base.tz))

    return (
        labels,
        regular(base.open_times, base.open_offset),
        regular(base.break_start_times, 0),
        regular(base.break_end_times, 0),
        regular(base.close_times, base.close_offset),
    )


def _own_hours(
    text: str, labels: Instants, opens: Instants, closes: Instants, zone: str, short: Mask, late: Mask
) -> tuple[Instants, Instants]:
    opens, closes = opens.copy(), closes.copy()
    periods = grammar.sessions(text)
    for rows, (_, (start, end)) in zip(_periods(labels, [since for since, _ in periods]), periods, strict=True):
        opened = local(labels[rows], start - (DAY if start >= end else 0), zone)
        closed = local(labels[rows], end, zone)
        opens[rows] = np.where(late[rows], np.maximum(opened, opens[rows]), opened)
        closes[rows] = np.where(short[rows], np.minimum(closed, closes[rows]), closed)
    # where hours change to an earlier opening, the last session of the old hours comes first
    opens[1:] = np.maximum(opens[1:], closes[:-1])
    return opens, closes


def _own_breaks(
    text: str,
    labels: Instants,
    opens: Instants,
    closes: Instants,
    starts: Instants,
    ends: Instants,
    zone: str,
) -> tuple[Instants, Instants]:
    """Starts and ends of breaks, one row for each break of a day; before the text's first date the calendar's."""
    periods = grammar.breaks(text)
    most = max(1, *(len(spans) for _, spans in periods))
    break_starts = np.full((most, len(labels)), np.datetime64("NaT"), dtype="datetime64[us]")
    break_ends = break_starts.copy()
    break_starts[0], break_ends[0] = starts, ends
    for rows, (_, spans) in zip(_periods(labels, [since for since, _ in periods]), periods, strict=True):
        break_starts[:, rows] = break_ends[:, rows] = np.datetime64("NaT")
        for number, (start, end) in enumerate(spans):
            for day in (0, -DAY):  # a session that opened the evening before may have its break then
                a, b = local(labels[rows], start + day, zone), local(labels[rows], end + day, zone)
                inside = (a < closes[rows]) & (b > opens[rows])
                break_starts[number, rows] = np.where(inside, a, break_starts[number, rows])
                break_ends[number, rows] = np.where(inside, b, break_ends[number, rows])
    return break_starts, break_ends


def _with_special(special: dict[date, list[grammar.Span]], zone: str, *columns: Instants) -> tuple[Instants, ...]:
    """
    Labels, opens, closes, days and breaks (one row for each break of a day) with the special sessions in their places.
    """
    labels, opens, closes, days, break_starts, break_ends = columns
    dates = np.array(list(special), dtype="datetime64[us]")
    spans = list(special.values())

    def at(minutes: list[int]) -> Instants:
        return np.concatenate([local(day[None], m, zone) for day, m in zip(dates, minutes, strict=True)])

    first, last = at([s[0][0] for s in spans]), at([s[-1][1] for s in spans])
    most = max(len(break_starts), *(len(s) - 1 for s in spans))
    gaps = np.full((2, most, len(dates)), np.datetime64("NaT"), dtype="datetime64[us]")
    for n, own in enumerate(spans):
        for k in range(len(own) - 1):
            gaps[0, k, n] = local(dates[n : n + 1], own[k][1], zone)[0]
            gaps[1, k, n] = local(dates[n : n + 1], own[k + 1][0], zone)[0]
    order = np.argsort(np.append(labels, dates), kind="stable")
    singles = (
        np.append(old, new)[order] for old, new in ((labels, dates), (opens, first), (closes, last), (days, last))
    )
    nothing = np.full((most - len(break_starts), len(labels)), np.datetime64("NaT"), dtype="datetime64[us]")
    both = (
        np.concatenate([np.concatenate([old, nothing]), new], axis=1)[:, order]
        for old, new in ((break_starts, gaps[0]), (break_ends, gaps[1]))
    )
    return (*singles, *both)


def _days(text: str, labels: Instants, closes: Instants, zone: str, short: Mask) -> Instants:
    days = closes.copy()
    periods = grammar.daily_stamps(text)
    for rows, (_, minute) in zip(_periods(labels, [since for since, _ in periods]), periods, strict=True):
        if minute is None:
            continue
        settlements, closed = local(labels[rows], minute, zone), closes[rows]
        before_close = (settlements <= closed)[~short[rows]]
        # on a half day a settlement within the session moves to its end
        earlier = short[rows] & bool(before_close.mean() > 0.5 if len(before_close) else True)
        days[rows] = np.where(earlier, np.minimum(settlements, closed), settlements)
    return days


def _periods(labels: Instants, since: Sequence[date]) -> list[npt.NDArray[np.int64]]:
    """Positions of each period's sessions; a period ends where the next one begins."""
    dates = np.array(since, dtype="datetime64[us]")
    number = np.searchsorted(dates, labels, "right") - 1
    return [np.flatnonzero(number == n) for n in range(len(dates))]


def local(days: Instants, minutes: int, zone: str) -> Instants:
    """
    ``minutes`` after midnight of each day in ``zone``, as UTC.

    A time that occurs twice (clocks put back) is the first; one that is skipped (put forward) is the next that exists.
    """
    stamps = pd.DatetimeIndex(days + np.timedelta64(minutes, "m"))
    at = stamps.tz_localize(zone, ambiguous=np.ones(len(stamps), dtype=bool), nonexistent="shift_forward")
    instants: Instants = at.tz_convert(None).to_numpy().astype("datetime64[us]")
    return instants
