"""Resampling of bars to a higher timeframe."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import schedule
from alphapivot.calendar.bar_ends import SERIES, Calendars, aware, divides, ends_between, naive, rows_by_calendar
from alphapivot.calendar.exchange import Instants
from alphapivot.calendar.schedule import Calendar
from alphapivot.data import actions
from alphapivot.errors import ConfigError
from alphapivot.frames import Bars, firsts, ordered

if TYPE_CHECKING:
    from collections.abc import Mapping

WAITS: MappingProxyType[str, timedelta] = MappingProxyType({})


def resample(
    bars: pd.DataFrame,
    interval: str,
    calendars: Calendars,
    until: datetime,
    splits: pd.DataFrame | None = None,
    patience: Mapping[str, timedelta] = WAITS,
    *,
    now: datetime | None = None,
) -> pd.DataFrame:
    """
    Bars of ``interval`` from finer Bars: a frame of Bars with source ``resampled``, sorted by series and ts.

    Only complete bars: they ended by ``until``, and have their last part, or a later part of their market (of any
    contract) exists, or their parts end as far before their end as those of the two bars before (an index that is
    quoted for a part of its session), or ``patience`` (by symbol; without one it never ends) has passed since their end
    at ``now`` (default: ``until``). A part belongs to the first bar end at or after its own end.
    Volumes are summed, open interest is the last part's; a value missing in one part (volume; open, high and low) is
    missing in the whole. The first bar of a series is left out unless its parts begin where it begins, so pass two
    coarse bars more than you need. A late part restates its bar: the caller resamples again from there.

    A bar with a split within it (``splits``: rows of Actions) is in shares as of its end.

    ``calendars``: symbol -> calendar or hours. Raises ConfigError where an interval of ``bars`` does not divide
    ``interval``.
    """
    for fine in bars["interval"].unique():
        if fine == interval or not divides(fine, interval):
            raise ConfigError(f"bars of {fine} cannot be resampled to {interval}: not a whole multiple of {fine}")
    if bars.empty:
        return Bars.empty()
    bars = ordered(bars, *SERIES).reset_index(drop=True)
    ts = naive(bars["ts"])
    ends, begins, finals = np.empty_like(ts), np.empty_like(ts), np.empty_like(ts)
    for (calendar, fine), rows in rows_by_calendar(bars, calendars).items():
        begins[rows], finals[rows], ends[rows] = _periods(calendar, fine, interval, ts[rows])

    new_series = firsts(bars, *SERIES)
    starts = np.flatnonzero(new_series | (ends != np.roll(ends, 1)))  # the first part of each coarse bar
    last = np.append(starts[1:], len(bars)) - 1
    whole = ~new_series[starts] | (ts[starts] <= begins[starts])
    newest = naive(bars.groupby(["symbol", "market", "interval"])["ts"].transform("max"))
    waited = _waited(bars["symbol"], ends, patience)[last] <= naive(now or until)
    usual = _usual(ends[last] - ts[last], new_series[starts])
    whole &= (ts[last] >= finals[last]) | (newest[last] > ends[last]) | usual | waited
    column = {name: bars[name].to_numpy() for name in ("open", "high", "low", "close", "volume", "open_interest")}
    if splits is not None and len(splits):
        spot = (bars["market"] == "spot").to_numpy()
        shares = actions.factors(bars["symbol"], bars["ts"], splits, "value")
        later = actions.factors(bars["symbol"], pd.Series(aware(ends)), splits, "value")
        scale = np.where(spot & (shares != later), later / shares, 1.0)
        column |= {name: column[name] / scale for name in ("open", "high", "low", "close")}
        column["volume"] = column["volume"] * scale
    high = np.maximum.reduceat(column["high"], starts)
    first = bars.loc[starts, ["symbol", "market", "contract"]]
    coarse: pd.DataFrame = first.assign(
        interval=interval,
        ts=aware(ends[starts]),
        open=np.where(np.isnan(high), np.nan, column["open"][starts]),
        high=high,
        low=np.minimum.reduceat(column["low"], starts),
        close=column["close"][last],
        volume=np.add.reduceat(column["volume"], starts),
        open_interest=column["open_interest"][last],
        source="resampled",
    )
    coarse = coarse[whole & (ends[starts] <= naive(until))]
    return coarse.reset_index(drop=True)


def _usual(short: Instants, first: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """True where a bar lacks as much of its end (``short``) as the two before it; ``first`` of its series."""
    same = (short == np.roll(short, 1)) & ~first
    return np.asarray(same & np.roll(same, 1))


def _waited(symbols: pd.Series[str], ends: Instants, patience: Mapping[str, timedelta]) -> Instants:
    """When each bar's patience ends; NaT, which is never reached, without one."""
    waits = symbols.map({s: np.timedelta64(wait, "us") for s, wait in patience.items()})
    return ends + pd.to_timedelta(waits).to_numpy("timedelta64[us]")


def _periods(calendar: Calendar, fine: str, coarse: str, ts: Instants) -> tuple[Instants, Instants, Instants]:
    """For each part that ends at ``ts``: the ends of its coarse bar's first and last part, and of the coarse bar."""
    opens, closes = schedule.of(calendar).opens, schedule.of(calendar).closes
    # ten sessions to either side always include the end of a week, whatever the holidays
    low = opens[max(int(np.searchsorted(closes, ts.min())) - 10, 0)]
    high = closes[min(int(np.searchsorted(closes, ts.max())) + 10, len(closes) - 1)]
    ends = np.append(ends_between(calendar, coarse, low, high), np.datetime64("NaT"))
    parts = np.append(ends_between(calendar, fine, low, high), np.datetime64("NaT"))
    begins = parts[np.append(0, np.searchsorted(parts[:-1], ends[:-1], "right"))]
    finals = np.append(parts[np.searchsorted(parts[:-1], ends[:-1], "right") - 1], np.datetime64("NaT"))
    bar = np.searchsorted(ends[:-1], ts)
    return begins[bar], finals[bar], ends[bar]
