"""What follows from new source bars: bars of higher timeframes, and rolls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.calendar.schedule import Calendar
from alphapivot.config.sections.instrument import Instrument, hours_by_market
from alphapivot.config.settings import Settings
from alphapivot.data import resample, roll_step
from alphapivot.data.series import short_days
from alphapivot.frames import Bars, Issues, Rolls, kept, spans
from alphapivot.hub import Hub
from alphapivot.hub.tables import series

NONE: Mapping[str, pd.Timestamp] = MappingProxyType({})


@dataclass(frozen=True)
class Derived:
    """Bars of higher timeframes, days that lack their end, rolls."""

    higher: pd.DataFrame
    short: short_days.Judged
    rolled: roll_step.Rolled


def derive(
    database: Hub,
    settings: Settings,
    new: pd.DataFrame,
    instruments: dict[str, Instrument],
    until: datetime,
    splits: pd.DataFrame,
    late: Mapping[str, pd.Timestamp] = NONE,
    *,
    spreads: pd.DataFrame | None = None,
) -> Derived:
    """
    The higher-timeframe bars that new source bars complete, and the rolls that follow (``late``: see
    ``roll_step.roll``).

    Reads stored bars from two coarsest bars before the new ones to one after them, because a bar is always made of all
    its parts, and the bars before it tell how far they usually reach. The first bar of that window may lack its
    beginning (a market may open after its session does), and is never among the results. A bar that ends after
    ``until`` is made only where later bars of its series are stored.
    """
    if new.empty:
        nothing = roll_step.Rolled(Rolls.empty(), Issues.empty(), Rolls.empty())
        return Derived(Bars.empty(), short_days.Judged(Issues.empty(), []), nothing)
    names = hours_by_market(instruments.values())
    wanted = list(dict.fromkeys([settings.timeframes.base, *settings.timeframes.weights]))
    first = spans(new, "symbol", "market")["min"] - pd.Timedelta("1us")
    coarsest = max([*wanted, "1d"], key=bar_ends.width)  # rolls are decided from days
    starts = (
        pd.concat(
            pd.Series(_two_before(name, coarsest, pd.DatetimeIndex(ts)), index=ts.index)
            for name, ts in first.groupby(first.index.map(names))
        )
        .groupby("symbol")
        .min()
    )
    # the coarsest bar around the newest one may have later parts already
    last_part = new["ts"].max() + bar_ends.width(coarsest) + timedelta(days=10)
    whole = series.overlaid(database, new, starts, last_part.to_pydatetime())
    newest = spans(whole, *bar_ends.SERIES[:3])["max"].rename("newest")
    thresholds = {symbol: settings.checks(symbol) for symbol in instruments}
    patience = {
        symbol: timedelta(minutes=own.complete_after)
        for symbol, own in thresholds.items()
        if own.complete_after is not None
    }

    def coarser(part: pd.DataFrame, interval: str) -> pd.DataFrame:
        end = last_part.to_pydatetime()
        resampled = resample.resample(part, interval, names, end, splits, patience, now=until)
        ends = resampled[["ts"]].assign(newest=resampled.join(newest, on=bar_ends.SERIES[:3])["newest"])
        return resampled[(ends["ts"] <= until) | (ends["ts"] <= ends["newest"])]

    higher = [
        coarser(kept(whole, whole["interval"] == source), interval)
        for source in sorted(whole["interval"].unique())
        for interval in wanted
        if interval != source and bar_ends.divides(source, interval)
    ]
    contracts = kept(whole, whole["contract"] != "")
    daily = {str(i): p if i == "1d" else coarser(p, "1d") for i, p in contracts.groupby("interval")}
    if "1d" not in wanted:  # a roll refers to the daily bars that decided it
        higher += [part for source, part in daily.items() if source != "1d"]
    rolled = roll_step.roll(
        database,
        settings,
        pd.concat([Bars.empty(), *daily.values()], ignore_index=True),
        instruments,
        until,
        late,
        spreads,
    )
    made = pd.concat([Bars.empty(), *higher], ignore_index=True)
    fine = [i for i in whole["interval"].unique() if bar_ends.width(i) < bar_ends.width("1d")]
    intraday = kept(whole, whole["interval"].isin(fine))
    return Derived(made, short_days.judge(intraday, made[made["interval"] == "1d"], names, thresholds), rolled)


def _two_before(calendar: Calendar, interval: str, at: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """The start of the second bar before the one that contains ``at``."""
    for _ in range(2):
        at = bar_ends.due(calendar, interval, at) - pd.Timedelta("1us")
    return bar_ends.due(calendar, interval, at)
