"""The Feed port: what every source of market data does."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import pandas as pd

from alphapivot.settings import Instrument, Market

RAW = ["symbol", "market", "contract", "interval", "ts", "open", "high", "low", "close", "volume", "open_interest", "source"]


@dataclass(frozen=True)
class Request:
    """Bars wanted: of one market of one instrument, complete after ``since`` and up to ``until`` (both UTC; since None: all)."""

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
    What a feed brought: ``bars`` with the columns RAW, ``ts`` aware and UTC at each bar's end, values as the source gave them
    (text where it is no number: ``alphapivot.quality.screen`` quarantines it); and the requests that failed.
    """

    bars: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)


class Feed(Protocol):
    """A source of bars. Raises Unavailable when it cannot be reached at all; never returns a bar that was not complete at ``until``."""

    name: str

    def fetch(self, requests: list[Request]) -> Fetched: ...
