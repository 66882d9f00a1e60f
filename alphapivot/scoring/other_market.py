"""Spot and futures side by side: what both markets of a symbol said at the instant of a bar of one of them. Pure."""

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
    ``bars`` with the columns of pillars.base.BESIDE: NaN where a market has no bar at that very instant.

    ``bars``: the signal market's, one a symbol and ts, of one interval like all of them. ``spot`` and ``contracts``
    (all of them): Bars; ``front``: what rolls.adjust made of ``contracts``. Volume and open interest are summed over
    the contracts that traded, so that a roll from one to the next moves neither.
    """
    found = bars
    if spot is not None:
        found = found.merge(spot[[*KEY, "close"]].rename(columns={"close": "spot_close"}), on=KEY, how="left")
    if contracts is not None and front is not None and len(front):  # pandas joins no columns that Arrow left empty
        both = contracts.groupby(KEY)[["volume", "open_interest"]].sum(min_count=1).reset_index()
        both = both.rename(columns={"volume": "futures_volume", "open_interest": "total_interest"})
        mine = front.assign(futures_close=front["close"] - front["offset"], front_interest=front["open_interest"])
        since = rolls[KEY].assign(rolled=(rolls["ts"] - BEGINNING) / pd.Timedelta(days=1)).sort_values("ts")
        # a roll holds for the bars after it
        mine = pd.merge_asof(
            mine[[*KEY, "contract", "futures_close", "front_interest"]].sort_values("ts"),
            since,
            on="ts",
            by="symbol",
            allow_exact_matches=False,
        )
        mine["rolled"] = mine["rolled"].where(mine["contract"] != "")
        found = found.merge(mine.drop(columns="contract"), on=KEY, how="left").merge(both, on=KEY, how="left")
    names = ("spot_close", "futures_close", "futures_volume", "total_interest", "front_interest", "rolled")
    return found.assign(**{name: float("nan") for name in names if name not in found})
