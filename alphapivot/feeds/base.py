"""The Feed port: what every source of market data does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

import pandas as pd

from alphapivot.frames import Bars

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from alphapivot.settings import Instrument, Market

RAW = Bars.columns()


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
    no number: ``alphapivot.quality.screen`` quarantines it), in the order of the requests, each by contract and ts.
    """

    bars: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)


def gather(parts: list[pd.DataFrame], problems: list[Problem]) -> Fetched:
    """One frame of what came for each request."""
    filled = [part for part in parts if len(part)]
    return Fetched(pd.concat(filled, ignore_index=True) if filled else Bars.empty(), problems)


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
