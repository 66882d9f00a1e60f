"""
When bars end: exchange sessions and the bar ends within them.

A calendar is a name of exchange_calendars, or an instrument's ``Hours``: ``alphapivot.calendar.schedule`` takes both.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import exchange, schedule
from alphapivot.calendar.exchange import Instants
from alphapivot.calendar.schedule import Calendar
from alphapivot.errors import ConfigError, DataError
from alphapivot.frames import firsts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
Calendars: TypeAlias = "Mapping[Any, Calendar]"  # by symbol, or by (symbol, market)


def width(interval: str) -> timedelta:
    """The length of a full bar of ``interval``; ConfigError for an unknown interval."""
    if interval not in INTERVALS:
        near = difflib.get_close_matches(interval, INTERVALS, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"interval {interval!r} is unknown; expected one of {', '.join(INTERVALS)}; did you mean {near}?"
        )
    return INTERVALS[interval]


def divides(fine: str, coarse: str) -> bool:
    """True if bars of ``coarse`` consist of whole bars of ``fine``. An interval divides itself."""
    return width(coarse) % width(fine) == timedelta(0)


def naive(at: Any) -> Any:
    """Aware instants as numpy's naive UTC microseconds; DataError for naive ones, whose zone is unknown."""
    if type(at) is datetime and at.tzinfo is not None:
        return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")
    stamps = pd.DatetimeIndex(at) if pd.api.types.is_list_like(at) else pd.DatetimeIndex([at])
    if stamps.tz is None:
        raise DataError(f"instants must carry a time zone, got {stamps[0] if len(stamps) else 'none'} without one")
    values = stamps.tz_convert(None).to_numpy().astype("datetime64[us]")
    return values if pd.api.types.is_list_like(at) else values[0]


def aware(at: Instants) -> pd.DatetimeIndex:
    """Numpy's naive UTC instants as an aware index in microseconds."""
    return pd.DatetimeIndex(at.astype("datetime64[us]"), tz="UTC")


def _covered(calendar: Calendar, end: np.datetime64) -> None:
    closes = schedule.of(calendar).closes
    if end > closes[-1]:
        raise DataError(f"calendar {calendar} ends at {closes[-1]} UTC, got {end}; expected an earlier instant")


def sessions(calendar: Calendar, start: datetime, end: datetime) -> pd.DataFrame:
    """The sessions that overlap (start, end]: indexed by session date, columns ``open`` and ``close`` in UTC."""
    timetable = schedule.of(calendar)
    opens, closes = timetable.opens, timetable.closes
    low, high = naive(start), naive(end)
    _covered(calendar, high)
    part = slice(np.searchsorted(closes, low, "right"), np.searchsorted(opens, high, "left"))
    columns = {"open": aware(opens[part]), "close": aware(closes[part])}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(timetable.labels[part], name="session"))


def next_open(calendar: Calendar, start: datetime, end: datetime) -> datetime | None:
    """The open of the first of the ``sessions`` that overlap (start, end]; None without one."""
    timetable = schedule.of(calendar)
    at = int(np.searchsorted(timetable.closes, naive(start), "right"))
    if at == len(timetable.opens) or timetable.opens[at] >= naive(end):
        return None
    opened: datetime = timetable.opens[at].astype(datetime).replace(tzinfo=UTC)
    return opened


def trading(calendar: Calendar, at: datetime) -> tuple[bool, datetime | None, datetime | None]:
    """Whether its market is open, when this open period ends, and when the next one begins; None where unknown."""
    timetable, now = schedule.of(calendar), naive(at)
    number = int(np.searchsorted(timetable.starts, now, "right"))

    def instant(times: Instants, n: int) -> datetime | None:
        return times[n].astype(datetime).replace(tzinfo=UTC) if n < len(times) else None

    is_open = number > 0 and bool(now < timetable.ends[number - 1])
    return is_open, instant(timetable.ends, number - 1) if is_open else None, instant(timetable.starts, number)


def session_closes(calendar: Calendar, dates: npt.ArrayLike | pd.DatetimeIndex) -> pd.DatetimeIndex:
    """
    When each date's daily bar is complete, in UTC: at its session's close, or at the settlement where hours say so.

    A date without a session gets the end of that day in the exchange's zone: never before its bar could be known, and
    not a bar end of the calendar, so that screening finds it.
    """
    days = pd.DatetimeIndex(np.asarray(dates)).normalize().to_numpy().astype("datetime64[us]")
    timetable = schedule.of(calendar)
    at = np.minimum(np.searchsorted(timetable.labels, days), len(timetable.labels) - 1)
    midnight = exchange.local(days, exchange.DAY, timetable.zone)
    return aware(np.where(timetable.labels[at] == days, timetable.days[at], midnight))


def session_dates(calendar: Calendar, dates: npt.ArrayLike | pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Each date, or the date of the next session where it has none: Monday for trades of Sunday evening."""
    days = pd.DatetimeIndex(np.asarray(dates)).normalize().to_numpy().astype("datetime64[us]")
    labels = np.append(schedule.of(calendar).labels, np.datetime64("NaT"))
    following = labels[np.searchsorted(labels[:-1], days)]
    return pd.DatetimeIndex(np.where(np.isnat(following), days, following))


def has_session(calendar: Calendar, ts: pd.DatetimeIndex) -> npt.NDArray[np.bool_]:
    """True for each bar that ends on a day with a session, in the exchange's zone. Midnight ends the day before."""
    timetable = schedule.of(calendar)
    days = (ts.tz_convert(timetable.zone) - pd.Timedelta("1us")).tz_localize(None).normalize()
    return np.isin(days.to_numpy().astype("datetime64[us]"), timetable.labels)


def ends_of(calendar: Calendar, interval: str, starts: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """
    When bars that began at ``starts`` were complete: at the calendar's next bar end (a session's last may be short).

    Where no bar of the calendar ends within the full width, it is start + width, and screening flags the bar.
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

    Intraday bars are anchored at the session's open and again at the end of each break; the last one before a break or
    the close is cut there. ``1d`` ends at the session's close (or settlement), ``1w`` with the week's last session.
    Raises ConfigError for an unknown calendar or interval.
    """
    return aware(ends(calendar, interval, start, end))


def days(calendars: Iterable[Calendar], interval: str, until: datetime) -> pd.DatetimeIndex:
    """The UTC days (naive) on which a bar of any of ``calendars`` ends, in the year up to ``until``."""
    high = naive(until)
    low, instant = high - np.timedelta64(366, "D"), np.timedelta64(1, "us")  # midnight ends the day before
    every = [ends_between(calendar, interval, low, high) - instant for calendar in set(calendars)]
    return pd.DatetimeIndex(np.unique(np.concatenate(every).astype("datetime64[D]")))


def ends(calendar: Calendar, interval: str, start: datetime, end: datetime) -> Instants:
    """As ``bar_ends``, but naive."""
    low, high = naive(start), naive(end)
    _covered(calendar, high)
    return ends_between(calendar, interval, low, high)


def ends_between(calendar: Calendar, interval: str, low: np.datetime64, high: np.datetime64) -> Instants:
    step, timetable = np.timedelta64(width(interval)), schedule.of(calendar)
    if interval == "1d":
        ends = timetable.days
    elif interval == "1w":
        # 1970-01-01 was a Thursday; weeks begin on Monday
        week = (timetable.labels.astype("datetime64[D]").astype(np.int64) + 3) // 7
        # the calendar may end within its last week
        ends = timetable.days[:-1][week[1:] != week[:-1]]
    else:
        part = slice(np.searchsorted(timetable.ends, low, "right"), np.searchsorted(timetable.starts, high, "left"))
        starts, stops = timetable.starts[part], timetable.ends[part]
        count = -((starts - stops) // step)  # rounded up: the last bar may be short
        last = np.cumsum(count) - 1
        ends = np.repeat(starts - (last - count) * step, count)
        ends += np.arange(len(ends)) * step
        ends[last] = stops
    return ends[np.searchsorted(ends, low, "right") : np.searchsorted(ends, high, "right")]


@overload
def due(calendar: Calendar, interval: str, at: datetime) -> pd.Timestamp: ...
@overload
def due(calendar: Calendar, interval: str, at: pd.DatetimeIndex) -> pd.DatetimeIndex: ...
def due(calendar: Calendar, interval: str, at: datetime | pd.DatetimeIndex) -> pd.Timestamp | pd.DatetimeIndex:
    """The latest bar end at or before ``at``, an instant or an index of them; NaT before the calendar's first bar."""
    if not isinstance(at, pd.DatetimeIndex):
        return due(calendar, interval, pd.DatetimeIndex([at]))[0]
    instants = naive(at)
    valid = ~np.isnat(instants)
    moments = instants[valid]
    if not len(moments):
        return aware(instants)
    _covered(calendar, moments.max())
    opens, closes = schedule.of(calendar).opens, schedule.of(calendar).closes
    # ten sessions always reach back over a week's end, whatever the holidays
    first = opens[max(int(np.searchsorted(closes, moments.min(), "right")) - 10, 0)]
    ends = ends_between(calendar, interval, first, moments.max())
    instants[valid] = np.append(np.datetime64("NaT"), ends)[np.searchsorted(ends, moments, "right")]
    return aware(instants)


def back(calendar: Calendar, interval: str, at: datetime, count: int) -> datetime:
    """The end of the ``count``-th bar before the one that ends at ``at``; for another instant, before the next one."""
    high = naive(at)
    # sessions of a few hours and a week's holidays: eight times the width of the bars and a fortnight
    low = high - np.timedelta64(8 * count * width(interval)) - np.timedelta64(14, "D")
    before = ends_between(calendar, interval, low, high - np.timedelta64(1, "us"))
    found = [at, *aware(before[-count:]).to_pydatetime()] if count else [at]
    return min(found)


def calendar_of(calendars: Calendars, symbol: str, market: str) -> Calendar:
    """The calendar of a market."""
    own: Calendar | None = calendars.get((symbol, market))
    return calendars[symbol] if own is None else own


def rows_by_calendar(bars: pd.DataFrame, calendars: Calendars) -> dict[tuple[Calendar, str], npt.NDArray[np.int64]]:
    """(calendar, interval) -> positions of its rows, so that each calendar is used once for all its symbols."""
    names = ["symbol", "market", "interval"]
    starts = np.flatnonzero(firsts(bars, *names))
    runs = bars[names].iloc[starts]
    series = runs.drop_duplicates()
    keys = [(calendar_of(calendars, s, m), i) for s, m, i in series.itertuples(index=False, name=None)]
    number = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    of_run = runs.merge(series.assign(n=[number[key] for key in keys]), on=names, how="left")["n"].to_numpy(np.int64)
    of_row = np.repeat(of_run, np.diff(starts, append=len(bars)))
    return {key: np.flatnonzero(of_row == n) for key, n in number.items()}
