"""Spot and futures side by side: the values of both markets at the instants of one market's bars. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.calendar.contracts import month_of
from alphapivot.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alphapivot.calendar.schedule import Calendar

KEY = ["symbol", "ts"]
BEGINNING = pd.Timestamp("1970-01-01", tz="UTC")


def join(
    bars: pd.DataFrame,
    spot: pd.DataFrame | None,
    contracts: pd.DataFrame | None,
    front: pd.DataFrame | None,
    rolled: pd.DataFrame,
) -> pd.DataFrame:
    """
    ``bars`` with the columns of pillars.base.BESIDE: NaN where a market has no bar at exactly that instant.

    ``bars``: of the signal market, one per symbol and ts; all arguments have the same interval. ``spot`` and
    ``contracts`` (all of them): Bars; ``front``: ``contracts`` after rolls.adjust. Volume and open interest are summed
    over the contracts that traded, so that a roll changes neither.
    """
    joined = bars
    if spot is not None:
        joined = joined.merge(spot[[*KEY, "close"]].rename(columns={"close": "spot_close"}), on=KEY, how="left")
    if contracts is not None and front is not None and len(front):  # pandas joins no columns that Arrow left empty
        totals = contracts.groupby(KEY)[["volume", "open_interest"]].sum(min_count=1).reset_index()
        totals = totals.rename(columns={"volume": "futures_volume", "open_interest": "total_interest"})
        front_bars = front.assign(futures_close=front["close"] - front["offset"], front_interest=front["open_interest"])
        since = rolled[KEY].assign(rolled=(rolled["ts"] - BEGINNING) / pd.Timedelta(days=1)).sort_values("ts")
        # a roll applies to the bars after it
        front_bars = pd.merge_asof(
            front_bars[[*KEY, "contract", "futures_close", "front_interest"]].sort_values("ts"),
            since,
            on="ts",
            by="symbol",
            allow_exact_matches=False,
        )
        front_bars["rolled"] = front_bars["rolled"].where(front_bars["contract"] != "")
        for more in (front_bars.drop(columns="contract"), totals, _deliveries(contracts, front_bars)):
            joined = joined.merge(more, on=KEY, how="left")
    names = (
        *("spot_close", "futures_close", "futures_volume", "total_interest", "front_interest", "rolled"),
        *("other_close", "other_months", "front_months"),
    )
    return joined.assign(**{name: float("nan") for name in names if name not in joined})


def aligned(frame: pd.DataFrame, apart: Mapping[str, tuple[str, Calendar]], interval: str) -> pd.DataFrame:
    """
    ``frame`` of one market with the instants of the signal market, for the symbols ``apart`` (signal market, its hours)
    whose markets close at different times: a bar counts at the end of the signal market's bar if it was complete by
    then and at most a quarter of ``interval`` before. A bar that ends later has no counterpart.
    """
    near = np.timedelta64(bar_ends.width(interval)) / 4
    ts = bar_ends.naive(frame["ts"])
    for symbol, (market, calendar) in apart.items():
        rows = np.flatnonzero((frame["symbol"] == symbol) & (frame["market"] != market))
        if not len(rows):
            continue
        own = ts[rows]
        ends = bar_ends.ends_between(calendar, interval, own.min() - np.timedelta64(1, "us"), own.max() + near)
        ends = np.append(ends, np.datetime64("NaT"))
        due = ends[np.searchsorted(ends[:-1], own)]
        ts[rows] = np.where(due - own <= near, due, own)
    return frame.assign(ts=bar_ends.aware(ts)) if apart else frame


def _deliveries(contracts: pd.DataFrame, front: pd.DataFrame) -> pd.DataFrame:
    """
    For each (symbol, ts) with a dated front contract: front_months, and other_close and other_months of the contract
    nearest to it in delivery, the later one of two. Nothing of a vendor's continuous series, and of contracts whose ids
    have no month: those roll by volume or open interest, but what they earn until delivery is unknown.
    """
    dated = contracts.loc[contracts["contract"] != "", [*KEY, "contract", "close"]]
    listed = dated.groupby(["symbol", "contract"])["ts"].min().reset_index()
    listed["month"] = [_month(c, at) for c, at in zip(listed["contract"], listed["ts"], strict=True)]
    dated = dated.merge(listed.dropna().drop(columns="ts"), on=["symbol", "contract"])
    own = dated.drop(columns="close").merge(front[[*KEY, "contract"]], on=[*KEY, "contract"])
    ts = own["ts"].dt.tz_convert("UTC")
    passed = ts.dt.year * 12 + ts.dt.month - 1 + (ts.dt.day - 1) / ts.dt.days_in_month
    own["front_months"] = own["month"] + 0.5 - passed
    pairs = dated.merge(own[[*KEY, "contract", "month"]], on=KEY, suffixes=("", "_front"))
    pairs = pairs[pairs["contract"] != pairs["contract_front"]]
    pairs["other_months"] = (pairs["month"] - pairs["month_front"]).astype(float)
    pairs = pairs.assign(away=pairs["other_months"].abs()).sort_values([*KEY, "away", "other_months"])
    nearest = pairs.drop_duplicates([*KEY, "away"], keep="last").drop_duplicates(KEY)
    nearest = nearest.rename(columns={"close": "other_close"})[[*KEY, "other_close", "other_months"]]
    return own[[*KEY, "front_months"]].merge(nearest, on=KEY, how="left")


def _month(contract: str, listed: datetime) -> float:
    try:
        return month_of(contract, listed)
    except DataError:
        return float("nan")
