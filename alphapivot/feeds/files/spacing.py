"""
Bars that are further apart than the interval that the config gives them: daily files read as bars of 30 minutes. Pure.

Holes of a thin market or a vendor's night are of all sizes; the bars of a coarser file are evenly apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot.calendar import bar_ends

if TYPE_CHECKING:
    from alphapivot.calendar.schedule import Calendar

FEWEST = 10  # bars; fewer show nothing
MOST = 0.6  # the share of bars that must be apart, and evenly so: an hour before a break has half a bar
EVEN = 0.25  # two distances differ by less: half days and holidays change a day or a week by that much


def coarser(calendar: Calendar, interval: str, ts: pd.DatetimeIndex) -> str:
    """
    The interval of which bars that end at ``ts`` rather are than of ``interval``; empty if they fit. Times without a
    session do not count.
    """
    stamps = bar_ends.naive(ts.dropna())
    if not (stamps[1:] > stamps[:-1]).all():
        stamps = np.unique(stamps)
    if len(stamps) < FEWEST:
        return ""
    first, last = stamps[0] - np.timedelta64(1, "us"), stamps[-1]
    apart = np.diff(np.searchsorted(bar_ends.ends_between(calendar, interval, first, last), stamps))
    even = np.abs(apart - np.median(apart)) <= EVEN * np.median(apart)
    if min((apart > 1).mean(), even.mean()) < MOST:
        return ""
    names = list(bar_ends.INTERVALS)
    wider = names[names.index(interval) + 1 :]
    counts = {name: len(bar_ends.ends_between(calendar, name, first, last)) for name in wider}
    return min(wider, key=lambda name: abs(counts[name] - len(stamps)), default="")
