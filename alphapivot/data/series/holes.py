"""
Bars that a calendar has and a stored series lacks: which to request again, and until when. Pure.

A source often has them later. They are requested again once a day for [quality] ``hole_days``, and listed after that.
Intraday, only runs of [quality] ``intraday`` bars count: a thin market has minutes without a trade.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot.calendar import bar_ends

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from alphapivot.calendar.bar_ends import Calendars
    from alphapivot.config.sections.screen import Quality

PAUSE = timedelta(hours=20)  # between two requests: once a day, whatever the minute of the schedule
SERIES = ["symbol", "market", "interval"]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Hole:
    """``missing`` bars of a series between its stored bars ``after`` and ``before``."""

    symbol: str
    market: str
    interval: str
    after: datetime
    before: datetime
    missing: int
    found_at: datetime
    asked: int = 0
    asked_at: datetime | None = None

    @property
    def key(self) -> Key:
        """Its series."""
        return self.symbol, self.market, self.interval

    def due(self, now: datetime, days: int) -> bool:
        """True if it is to be requested again at ``now``."""
        return not self.over(now, days) and (self.asked_at is None or now - self.asked_at >= PAUSE)

    def over(self, now: datetime, days: int) -> bool:
        """True if its days have passed: it is only listed."""
        return now - self.found_at > timedelta(days=days)

    def __str__(self) -> str:
        span = f"--from {self.after:%Y-%m-%d} --to {self.before + timedelta(days=1):%Y-%m-%d}"
        return (
            f"{' '.join(self.key)}: {self.missing} bars after {self.after:%Y-%m-%d %H:%M} never came in {self.asked}"
            f" requests; `alphapivot ingest {span}` requests them again"
        )


def find(bars: pd.DataFrame, calendars: Calendars, checks: Mapping[str, Quality], now: datetime) -> Iterator[Hole]:
    """
    The holes in ``bars`` (key columns of Bars: stored, new and quarantined ones), at most ``hole_days`` before the
    newest bar of each series, over all contracts of a market.
    """
    for key, ts in bars.groupby(SERIES)["ts"]:
        symbol, market, interval = map(str, key)
        quality = checks[symbol]
        present = bar_ends.naive(ts)
        present = np.unique(present[present >= present.max() - np.timedelta64(quality.hole_days, "D")])
        due = bar_ends.ends_between(bar_ends.calendar_of(calendars, symbol, market), interval, present[0], present[-1])
        place = np.searchsorted(due, present, "right")
        least = quality.intraday if bar_ends.width(interval) < bar_ends.width("1d") else 1
        missing = np.diff(place) - np.isin(present[1:], due)
        for n in np.flatnonzero(missing >= least):
            after, before = (bar_ends.aware(present[[k]])[0].to_pydatetime() for k in (n, n + 1))
            yield Hole(symbol, market, interval, after, before, int(missing[n]), now)


@dataclass(frozen=True)
class Lacking:
    """Holes around new bars: ``found`` now, ``gone`` now, and those that are requested no longer from today on."""

    found: list[Hole]
    gone: list[Hole]
    given_up: list[Hole]


def lacking(
    bars: pd.DataFrame,
    known: Iterable[Hole],
    calendars: Calendars,
    checks: Mapping[str, Quality],
    now: datetime,
) -> Lacking:
    """What ``bars`` (as of ``find``) say of their holes and of the ``known`` ones."""
    found, known = list(find(bars, calendars, checks, now)), list(known)
    groups = bars.groupby(SERIES)["ts"] if known else ()
    series = {tuple(map(str, key)): bar_ends.naive(ts) for key, ts in groups}
    gone, given_up = [], []
    for hole in known:
        days, ts = checks[hole.symbol].hole_days, series.get(hole.key)
        if ts is not None and ts.min() <= bar_ends.naive(hole.after):
            last = bar_ends.naive(hole.before) - np.timedelta64(1, "us")
            calendar = bar_ends.calendar_of(calendars, hole.symbol, hole.market)
            due = bar_ends.ends_between(calendar, hole.interval, bar_ends.naive(hole.after), last)
            within = (h for h in found if h.key == hole.key and hole.after < h.after < hole.before)
            if np.isin(due, ts).all() or any(within):
                gone.append(hole)
                continue
        if hole.asked and hole.over(now, days) and not hole.over(now - timedelta(days=1), days):
            given_up.append(hole)
    return Lacking(found, gone, given_up)
