"""The Feed port: the interface of every source of market data."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from alphapivot.calendar import bar_ends, schedule
from alphapivot.frames import Actions, Bars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from alphapivot.calendar.schedule import Calendar
    from alphapivot.config.sections.instrument import Instrument, Market

RAW = Bars.columns()
ACTIONS = ["symbol", "kind", "ts", "value", "source"]  # of alphapivot.frames.Actions


@dataclass(frozen=True)
class Request:
    """A request for bars of one market of one instrument, complete after ``since`` (None: all) up to ``until``, UTC."""

    instrument: Instrument
    market: Market
    interval: str
    since: datetime | None
    until: datetime

    def __str__(self) -> str:
        return f"{self.instrument.symbol} {self.market} {self.interval}"


@dataclass(frozen=True)
class Problem:
    """A request without a usable response, and the reason as a message; the other requests continue."""

    request: Request
    reason: str
    transient: bool = False  # True if a later retry may succeed
    partial: bool = False  # True if bars came, all except what the reason names


@dataclass(frozen=True)
class Fetched:
    """
    The bars and events that a feed returned, and the requests that failed.

    ``bars``: the columns RAW, ``ts`` aware UTC at each bar's end, values as in the source (text if not a number:
    ``alphapivot.data.screen.screen`` quarantines it), in the order of the requests, each sorted by contract and ts.
    Prices and volumes are as traded, not adjusted for later splits or dividends; ``actions`` holds those events, each
    at least once, with the columns ACTIONS: see ``events``.

    ``actions_after``: symbol -> the instant after which ``actions`` holds all events of the source, up to the request's
    ``until``: a stored event in that span that the source no longer reports is withdrawn. Symbols without information
    on events are left out.
    """

    bars: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)
    actions: pd.DataFrame = field(default_factory=lambda: Actions.empty()[ACTIONS])
    actions_after: Mapping[str, datetime] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # worth knowing, not a problem
    spreads: pd.DataFrame | None = None  # of contracts quoted side by side, feeds.files.beside.SPREADS
    # (symbol, market, interval) -> the first bar of a source that is read whole: what it lacks after it is not there
    begins: Mapping[tuple[str, str, str], datetime] = field(default_factory=dict)


def gather(
    parts: list[pd.DataFrame],
    problems: list[Problem],
    actions: Sequence[pd.DataFrame] = (),
    actions_after: Mapping[str, datetime] = MappingProxyType({}),
    notes: Sequence[str] = (),
) -> Fetched:
    """Concatenates the ``parts`` of all requests, and the splits and dividends that came with them."""
    filled, events = ([frame for frame in frames if len(frame)] for frames in (parts, actions))
    return Fetched(
        bars=pd.concat(filled, ignore_index=True) if filled else Bars.empty(),
        problems=problems,
        actions=pd.concat(events, ignore_index=True) if events else Actions.empty()[ACTIONS],
        actions_after=actions_after,
        notes=tuple(dict.fromkeys(notes)),
    )


def events(symbol: str, source: str, calendar: Calendar, table: pd.DataFrame) -> pd.DataFrame:
    """
    ``table`` (ex-date, kind, value) as a feed's actions: at the open of that day's session, or of the next one where it
    has none. A value of 0 or missing is not an event, nor is a split of 1.
    """
    value = pd.to_numeric(table["value"], errors="coerce")
    some = table[~(value.isna() | (value == 0) | ((table["kind"] == "split") & (value == 1)))]
    dates = bar_ends.session_dates(calendar, pd.DatetimeIndex(some["date"]))
    timetable = schedule.of(calendar)
    opens = timetable.opens[np.searchsorted(timetable.labels, dates.to_numpy().astype("datetime64[us]"))]
    return pd.DataFrame(
        {
            "symbol": symbol,
            "kind": some["kind"].to_numpy(),
            "ts": bar_ends.aware(opens),
            "value": value[some.index].to_numpy(),
            "source": source,
        }
    )


def in_session(calendar: Calendar, starts: pd.DatetimeIndex) -> np.typing.NDArray[np.bool_]:
    """True for the bars that start within a session."""
    timetable, at = schedule.of(calendar), bar_ends.naive(starts)
    session = np.searchsorted(timetable.opens, at, "right") - 1
    inside: np.typing.NDArray[np.bool_] = (session >= 0) & (at < timetable.closes[session])
    return inside


def fits(hours: schedule.Calendar, width: timedelta) -> bool:
    """True if whole bars of ``width`` since midnight UTC begin with each open period, in the last year."""
    starts = schedule.of(hours).starts[-250:]
    return not ((starts - starts.astype("datetime64[D]")) % np.timedelta64(width)).any()


@dataclass(frozen=True)
class Limit:
    """A provider's limits for an interval; None: unlimited."""

    reach: timedelta | None = None  # how far back
    request: timedelta | None = None  # how much in one request


class Feed(Protocol):
    """
    A source of bars.

    Raises Unavailable if it cannot be reached at all; never returns a bar that is not complete at ``until``.
    """

    name: str

    @property
    def limits(self) -> Mapping[str, Limit]:
        """By interval; intervals without limits are left out."""

    def fetch(self, requests: list[Request]) -> Fetched: ...
