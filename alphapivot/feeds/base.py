"""The Feed port: what every source of market data does."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Protocol

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
    """Bars wanted of one market of one instrument: complete after ``since`` (None: all) up to ``until``, both UTC."""

    instrument: Instrument
    market: Market
    interval: str
    since: datetime | None
    until: datetime

    def __str__(self) -> str:
        return f"{self.instrument.symbol} {self.market} {self.interval}"


@dataclass(frozen=True)
class Problem:
    """A request that got no usable answer, and why, in a sentence for a person; the other requests go on."""

    request: Request
    reason: str
    transient: bool = False  # would asking again later help?


@dataclass(frozen=True)
class Fetched:
    """
    What a feed brought, and the requests that failed.

    ``bars``: the columns RAW, ``ts`` aware and UTC at each bar's end, values as the source gave them (text where it is
    no number: ``alphapivot.data.screen.screen`` quarantines it), in the order of the requests, each by contract and ts.
    Prices and volumes are as traded, not adjusted for later splits or dividends; ``actions`` holds those, each once or
    more, with the columns ACTIONS: see ``events``.

    ``actions_after``: symbol -> the instant after which ``actions`` holds all that the source knows of it, up to the
    request's ``until``: an event that it brought there before, and brings no more, is withdrawn. A symbol of which the
    source says nothing is left out.
    """

    bars: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)
    actions: pd.DataFrame = field(default_factory=lambda: Actions.empty()[ACTIONS])
    actions_after: Mapping[str, datetime] = field(default_factory=dict)


def gather(
    parts: list[pd.DataFrame],
    problems: list[Problem],
    actions: Sequence[pd.DataFrame] = (),
    actions_after: Mapping[str, datetime] = MappingProxyType({}),
) -> Fetched:
    """One frame of what came for each request, and one of the splits and dividends that came along."""
    filled, events = ([part for part in found if len(part)] for found in (parts, actions))
    return Fetched(
        pd.concat(filled, ignore_index=True) if filled else Bars.empty(),
        problems,
        pd.concat(events, ignore_index=True) if events else Actions.empty()[ACTIONS],
        actions_after,
    )


def events(symbol: str, source: str, calendar: Calendar, found: pd.DataFrame) -> pd.DataFrame:
    """
    ``found`` (date of the first day ex, kind, value) as a feed's actions: at the open of that day's session, or of the
    next where it has none. What is 0 or missing is no event; nor is a split of 1.
    """
    value = pd.to_numeric(found["value"], errors="coerce")
    some = found[~(value.isna() | (value == 0) | ((found["kind"] == "split") & (value == 1)))]
    dates = bar_ends.session_dates(calendar, pd.DatetimeIndex(some["date"]))
    known = schedule.of(calendar)
    opens = known.opens[np.searchsorted(known.labels, dates.to_numpy().astype("datetime64[us]"))]
    return pd.DataFrame(
        {
            "symbol": symbol,
            "kind": some["kind"].to_numpy(),
            "ts": bar_ends.aware(opens),
            "value": value[some.index].to_numpy(),
            "source": source,
        }
    )


@dataclass(frozen=True)
class Limit:
    """What a provider gives of an interval; None: all of it."""

    reach: timedelta | None = None  # how far back
    request: timedelta | None = None  # how much at once


class Feed(Protocol):
    """
    A source of bars.

    Raises Unavailable when it cannot be reached at all; never returns a bar that was not complete at ``until``.
    """

    limits: ClassVar[Mapping[str, Limit]]  # by interval; those that have none are left out
    name: str

    def fetch(self, requests: list[Request]) -> Fetched: ...
