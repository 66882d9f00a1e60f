"""
When bars end: exchange sessions, bar ends within them, and resampling to higher timeframes.

A bar belongs to the first bar end of its calendar at or after its own end, so that every bar counts once. A calendar
is a name of exchange_calendars, or an instrument's ``Hours``: ``alphapivot.calendar.schedule`` knows both.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import schedule
from alphapivot.calendar.schedule import Calendar, Instants
from alphapivot.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERVALS: dict[str, timedelta] = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "30m": timedelta(minutes=30),
    "1h": timedelta(hours=1),
    "4h": timedelta(hours=4),
    "1d": timedelta(days=1),
    "1w": timedelta(weeks=1),
}
SERIES = ["symbol", "market", "contract", "interval"]


def width(interval: str) -> timedelta:
    """How long a full bar of ``interval`` is; ConfigError for an interval that does not exist."""
    if interval not in INTERVALS:
        near = difflib.get_close_matches(interval, INTERVALS, n=1, cutoff=0.0)[0]
        raise ConfigError(f"interval {interval!r} is unknown; allowed are {', '.join(INTERVALS)}; did you mean {near}?")
    return INTERVALS[interval]


def divides(fine: str, coarse: str) -> bool:
    """Can bars of ``coarse`` be put together from whole bars of ``fine``? An interval divides itself."""
    return width(coarse) % width(fine) == timedelta(0)


def naive(at: Any) -> Any:
    """Aware instants as numpy's naive UTC microseconds; a naive one is an error, for nobody knows what it means."""
    if type(at) is datetime and at.tzinfo is not None:
        return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")
    stamps = pd.DatetimeIndex(at) if pd.api.types.is_list_like(at) else pd.DatetimeIndex([at])
    if stamps.tz is None:
        raise DataError(f"instants must carry a time zone, got {stamps[0] if len(stamps) else 'none'} without one")
    values = stamps.tz_convert(None).to_numpy().astype("datetime64[us]")
    return values if pd.api.types.is_list_like(at) else values[0]


def aware(at: Instants) -> pd.DatetimeIndex:
    """Numpy's naive UTC instants as an aware index of microseconds."""
    return pd.DatetimeIndex(at.astype("datetime64[us]"), tz="UTC")


def _covered(calendar: Calendar, end: np.datetime64) -> None:
    closes = schedule.of(calendar).closes
    if end > closes[-1]:
        raise DataError(f"calendar {calendar} is known up to {closes[-1]} UTC, but {end} was asked for")


def sessions(calendar: Calendar, start: datetime, end: datetime) -> pd.DataFrame:
    """The sessions that overlap (start, end]: index is the session's date, columns ``open`` and ``close`` in UTC."""
    known = schedule.of(calendar)
    opens, closes = known.opens, known.closes
    low, high = naive(start), naive(end)
    _covered(calendar, high)
    part = slice(np.searchsorted(closes, low, "right"), np.searchsorted(opens, high, "left"))
    columns = {"open": aware(opens[part]), "close": aware(closes[part])}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(known.labels[part], name="session"))


def session_closes(calendar: Calendar, dates: npt.ArrayLike | pd.DatetimeIndex) -> pd.DatetimeIndex:
    """
    When each date's daily bar is complete, in UTC: at its session's close, or at the settlement where hours say so.

    A date without a session gets the end of that day where the exchange is: never before its bar could be known, and
    no bar end of the calendar, so that the screening finds it.
    """
    days = pd.DatetimeIndex(np.asarray(dates)).normalize()
    known = schedule.of(calendar)
    wanted = days.to_numpy().astype("datetime64[us]")
    at = np.minimum(np.searchsorted(known.labels, wanted), len(known.labels) - 1)
    return aware(np.where(known.labels[at] == wanted, known.days[at], schedule.local(wanted, schedule.DAY, known.zone)))


def session_dates(calendar: Calendar, dates: npt.ArrayLike | pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Each date, or where it has no session the date of the next one: of Monday for a Sunday evening's trades."""
    wanted = pd.DatetimeIndex(np.asarray(dates)).normalize().to_numpy().astype("datetime64[us]")
    labels = np.append(schedule.of(calendar).labels, np.datetime64("NaT"))
    following = labels[np.searchsorted(labels[:-1], wanted)]
    return pd.DatetimeIndex(np.where(np.isnat(following), wanted, following))


def has_session(calendar: Calendar, ts: pd.DatetimeIndex) -> npt.NDArray[np.bool_]:
    """Does the day on which each bar ended, where the exchange is, have a session? Midnight ends the day before."""
    known = schedule.of(calendar)
    days = (ts.tz_convert(known.zone) - pd.Timedelta("1us")).tz_localize(None).normalize()
    return np.isin(days.to_numpy().astype("datetime64[us]"), known.labels)


def ends_of(calendar: Calendar, interval: str, starts: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """
    When bars that began at ``starts`` were complete: at the calendar's next bar end (a session's last may be short).

    A bar whose full width passes before any bar of the calendar ends gets that, and the screening flags it.
    """
    begun = naive(starts)
    if not len(begun):
        return aware(begun)
    full = begun + np.timedelta64(width(interval))
    ends = ends_between(calendar, interval, begun.min(), full.max())
    following = np.append(ends, np.datetime64("NaT"))[np.searchsorted(ends, begun, "right")]
    return aware(np.where(following <= full, following, full))


def bar_ends(calendar: Calendar, interval: str, start: datetime, end: datetime) -> pd.DatetimeIndex:
    """
    The ends of the calendar's bars in (start, end], UTC, microseconds.

    Intraday bars are anchored at the session's open, and anew at the end of each break; the last one before a break or
    the close is cut there. ``1d`` ends at the session's close (or settlement), ``1w`` with the week's last session.
    Raises ConfigError for an unknown calendar or interval.
    """
    return aware(ends(calendar, interval, start, end))


def ends(calendar: Calendar, interval: str, start: datetime, end: datetime) -> Instants:
    """As ``bar_ends``, but naive."""
    low, high = naive(start), naive(end)
    _covered(calendar, high)
    return ends_between(calendar, interval, low, high)


def ends_between(calendar: Calendar, interval: str, low: np.datetime64, high: np.datetime64) -> Instants:
    step, known = np.timedelta64(width(interval)), schedule.of(calendar)
    if interval == "1d":
        ends = known.days
    elif interval == "1w":
        # 1970-01-01 was a Thursday; weeks begin on Monday
        week = (known.labels.astype("datetime64[D]").astype(np.int64) + 3) // 7
        # the calendar's own last week may go on after it
        ends = known.days[:-1][week[1:] != week[:-1]]
    else:
        part = slice(np.searchsorted(known.ends, low, "right"), np.searchsorted(known.starts, high, "left"))
        starts, stops = known.starts[part], known.ends[part]
        count = -((starts - stops) // step)  # rounded up: the last bar may be short
        stretch = np.repeat(np.arange(len(starts)), count)
        within = np.arange(len(stretch)) - np.repeat(np.cumsum(count) - count, count)
        ends = np.minimum(starts[stretch] + (within + 1) * step, stops[stretch])
    return ends[np.searchsorted(ends, low, "right") : np.searchsorted(ends, high, "right")]


@overload
def due(calendar: Calendar, interval: str, at: datetime) -> pd.Timestamp: ...
@overload
def due(calendar: Calendar, interval: str, at: pd.DatetimeIndex) -> pd.DatetimeIndex: ...
def due(calendar: Calendar, interval: str, at: datetime | pd.DatetimeIndex) -> pd.Timestamp | pd.DatetimeIndex:
    """The newest bar end at or before ``at``, an instant or an index of them; NaT before the calendar's first bar."""
    if not isinstance(at, pd.DatetimeIndex):
        return due(calendar, interval, pd.DatetimeIndex([at]))[0]
    found = naive(at)
    known = ~np.isnat(found)
    wanted = found[known]
    if not len(wanted):
        return aware(found)
    _covered(calendar, wanted.max())
    opens, closes = schedule.of(calendar).opens, schedule.of(calendar).closes
    # ten sessions back there is the end of a week, whatever the holidays
    first = opens[max(int(np.searchsorted(closes, wanted.min(), "right")) - 10, 0)]
    ends = ends_between(calendar, interval, first, wanted.max())
    found[known] = np.append(np.datetime64("NaT"), ends)[np.searchsorted(ends, wanted, "right")]
    return aware(found)


def rows_by_calendar(
    bars: pd.DataFrame, calendars: Mapping[str, Calendar]
) -> dict[tuple[Calendar, str], npt.NDArray[np.int64]]:
    """(calendar, interval) -> the positions of its rows, so that each calendar is asked once for all its symbols."""
    found: dict[tuple[Calendar, str], list[npt.NDArray[np.int64]]] = {}
    for (symbol, interval), rows in bars.groupby(["symbol", "interval"], sort=False).indices.items():  # type: ignore[misc]
        found.setdefault((calendars[symbol], interval), []).append(np.asarray(rows))  # type: ignore[has-type]
    return {key: np.concatenate(rows) for key, rows in found.items()}
