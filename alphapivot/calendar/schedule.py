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

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from alphapivot.calendar import exchange
from alphapivot.calendar import hours as grammar
from alphapivot.calendar.exchange import DAY, Instants, local
from alphapivot.calendar.hours import Hours

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

Mask = npt.NDArray[np.bool_]
Calendar = str | Hours  # a name: that calendar unchanged


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
def of(calendar: Calendar) -> Schedule:
    """The schedule of a calendar or of an instrument's hours; ConfigError for an unknown calendar."""
    hours = calendar if isinstance(calendar, Hours) else Hours(calendar)
    base = exchange.sessions(hours.calendar)
    zone, early = hours.zone or base.zone, base.early
    labels, opens, closes, break_starts, break_ends = (
        base.labels, base.opens, base.closes, base.break_starts, base.break_ends
    )  # fmt: skip
    if hours.session:
        opens, closes = _own_hours(
            hours.session, labels, opens, closes, zone, np.isin(labels, early), np.isin(labels, base.late)
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
    named = int(np.searchsorted(labels, base.last, "right"))
    return Schedule(labels, opens, closes, days, starts[ends > starts], ends[ends > starts], zone, named)


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
