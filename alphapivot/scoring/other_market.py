"""Spot and futures side by side: the values of both markets at the instants of one market's bars. Pure."""

from __future__ import annotations

import pandas as pd

KEY = ["symbol", "ts"]
BEGINNING = pd.Timestamp("1970-01-01", tz="UTC")


def join(
    bars: pd.DataFrame,
    spot: pd.DataFrame | None,
    contracts: pd.DataFrame | None,
    front: pd.DataFrame | None,
    rolls: pd.DataFrame,
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
        since = rolls[KEY].assign(rolled=(rolls["ts"] - BEGINNING) / pd.Timedelta(days=1)).sort_values("ts")
        # a roll applies to the bars after it
        front_bars = pd.merge_asof(
            front_bars[[*KEY, "contract", "futures_close", "front_interest"]].sort_values("ts"),
            since,
            on="ts",
            by="symbol",
            allow_exact_matches=False,
        )
        front_bars["rolled"] = front_bars["rolled"].where(front_bars["contract"] != "")
        joined = joined.merge(front_bars.drop(columns="contract"), on=KEY, how="left").merge(totals, on=KEY, how="left")
    names = ("spot_close", "futures_close", "futures_volume", "total_interest", "front_interest", "rolled")
    return joined.assign(**{name: float("nan") for name in names if name not in joined})
