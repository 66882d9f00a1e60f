"""
Days that a later bar or [quality] ``complete_after`` completed although their last intraday bars never came. Pure.

A day that lacks as many as each of the two sessions before it is as usual. Else a few missing ones are normal in a thin
market: the day is flagged. Beyond [quality] ``short_day`` an early close that the calendar does not know, or a
feed with a hole, is likely: no entries until a whole day follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar.bar_ends import calendar_of, ends_between, naive
from alphapivot.frames import Bars, Issues

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alphapivot.calendar.bar_ends import Calendars
    from alphapivot.calendar.exchange import Instants
    from alphapivot.config.sections.screen import Quality

CHECK = "short day"


@dataclass(frozen=True)
class Judged:
    """``passing``: (symbol, market, check) of the markets whose newest day is long enough."""

    issues: pd.DataFrame
    passing: list[tuple[str, str, str]]


def judge(parts: pd.DataFrame, days: pd.DataFrame, calendars: Calendars, checks: Mapping[str, Quality]) -> Judged:
    """
    Issues of the resampled daily ``days`` that lack their last ``parts``, over all contracts of a market.

    ``parts``: intraday Bars, sorted by series and ts, among them all those of ``days``.
    """
    if days.empty:
        return Judged(Issues.empty(), [])
    issues, passing = [], []
    for key, own in parts.groupby(["symbol", "market", "interval"], sort=False):
        symbol, market, interval = map(str, key)
        made = days[(days["symbol"] == symbol) & (days["market"] == market)].sort_values("ts")
        made = made.drop_duplicates("ts", keep="last")
        if made.empty:
            continue
        ts, ends = np.sort(naive(own["ts"])), naive(made["ts"])
        calendar = calendar_of(calendars, symbol, market)
        due = ends_between(calendar, interval, ts[0] - np.timedelta64(10, "D"), ends[-1])
        dailies = ends_between(calendar, "1d", ts[0] - np.timedelta64(20, "D"), ends[-1])
        before, earlier = (dailies[np.maximum(np.searchsorted(dailies, ends) - n, 0)] for n in (1, 2))
        newest, missing = _missing(ts, due, ends)
        usual = (missing == _missing(ts, due, before)[1]) & (missing == _missing(ts, due, earlier)[1])
        in_session = np.searchsorted(due, ends, "right") - np.searchsorted(due, before, "right")
        share = missing / np.maximum(in_session, 1)
        short = (share > checks[symbol].short_day) & ~usual
        for k in np.flatnonzero((missing > 0) & ~usual):
            lasting = bool(short[k]) and k == len(ends) - 1
            detail = (
                f"its last {missing[k]} bars of {interval} ({share[k]:.0%}) are missing: the newest is of"
                f" {pd.Timestamp(newest[k]):%Y-%m-%d %H:%M}; an early close? then name it in a [calendar.NAME]"
            )
            row = made.iloc[k][Bars.keys()].to_dict()
            outcome = "halted" if lasting else "flagged"
            issues.append(
                row | {"check_name": CHECK, "outcome": outcome, "detail": detail, "bar": "", "source": "resampled"}
            )
        if not short[-1]:
            passing.append((symbol, market, CHECK))
    frame = pd.DataFrame(issues, columns=Issues.columns())
    return Judged(frame.astype({c: "datetime64[us, UTC]" if c == "ts" else "str" for c in frame}), passing)


def _missing(ts: Instants, due: Instants, ends: Instants) -> tuple[Instants, npt.NDArray[np.int64]]:
    """The newest of ``ts`` up to each of ``ends``, and how many were ``due`` after it; -1 where there is none."""
    count = np.searchsorted(ts, ends, "right")
    newest = ts[np.maximum(count - 1, 0)]
    lacking = np.searchsorted(due, ends, "right") - np.searchsorted(due, newest, "right")
    return newest, np.where(count > 0, lacking, -1)
