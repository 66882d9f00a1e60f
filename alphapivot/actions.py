"""
Splits and dividends, and spot prices adjusted for them without changing the past. Pure.

Stored bars are as traded. adjusted = raw x factor, the product of the factors of all events before a bar, so 1 at the
first one: after a 4-for-1 split prices are multiplied by 4 (one share has become four), and after a dividend by what
reinvesting it adds. A series anchored at its first bar changes only after an event, never before it: what a pillar said
before an ex-date stays as it was, to the last bit. Pillars compare prices with each other and so do not mind the scale;
their offset is 0, and a level crosses to traded prices as level / factor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.frames import PRICES, Actions, Issues

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = ("split", "dividend")
Floats = npt.NDArray[np.float64]


def factors(symbols: pd.Series[str], ts: pd.Series[pd.Timestamp], events: pd.DataFrame, column: str) -> Floats:
    """For each row the product of a ``column`` of ``events`` (factor, or value of splits) before its instant."""
    found = np.ones(len(symbols))
    for symbol, own in events.groupby("symbol"):
        rows = np.flatnonzero((symbols == symbol).to_numpy())
        own = own.sort_values(["ts", "kind"])  # noqa: PLW2901 - one order, so that products agree to the last bit
        product = np.append(1.0, np.cumprod(own[column].to_numpy()))
        # an event holds for the bars after it
        found[rows] = product[np.searchsorted(own["ts"].to_numpy(), ts.iloc[rows].to_numpy(), "left")]
    return found


def adjust(bars: pd.DataFrame, events: pd.DataFrame, how: Mapping[str, str]) -> pd.DataFrame:
    """
    ``bars`` with prices adjusted for ``events`` (Actions) before them, and volume, which splits alone change.

    ``how``: symbol -> all, splits or none (as for a symbol that is not in it). Futures pass as they are. Any interval.
    """
    wanted = events["symbol"].map(how)
    counted = events[(wanted == "all") | ((wanted == "splits") & (events["kind"] == "split"))]
    counted = counted[counted["symbol"].isin(bars["symbol"].unique())]
    if counted.empty:
        return bars
    spot = (bars["market"] == "spot").to_numpy()
    price = np.where(spot, factors(bars["symbol"], bars["ts"], counted, "factor"), 1.0)
    splits = counted[counted["kind"] == "split"]
    shares = np.where(spot, factors(bars["symbol"], bars["ts"], splits, "value"), 1.0)
    return bars.assign(**{p: bars[p] * price for p in PRICES}, volume=bars["volume"] / shares)


def splits(stored: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """All splits (Actions): those ``stored``, and over them what a feed ``found``."""
    new = found[(found["kind"] == "split") & (found["value"] > 0) & np.isfinite(found["value"])]
    both = pd.concat([stored, new.assign(factor=new["value"])[Actions.columns()]], ignore_index=True)
    made: pd.DataFrame = both[both["kind"] == "split"].drop_duplicates(Actions.keys(), keep="last")
    return made


def realise(found: pd.DataFrame, bars: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    Events that a feed brought (symbol, kind, ts, value, source) as Actions, and Issues for those that cannot be.

    A split's factor is its value. A dividend's is close / (close - dividend), of the last of ``bars`` (raw, spot, one
    interval) at or before its instant: the return of who held the share over it (CRSP's and Yahoo's rule, turned
    round). Where no bar comes before, nothing needs to be joined, and it is 1. A dividend is per share as traded on its
    own day, so after a split of the same day.
    """
    found = found.drop_duplicates(["symbol", "kind", "ts"], keep="last").sort_values("ts")
    spot = bars.loc[bars["market"] == "spot", ["symbol", "ts", "close"]].sort_values("ts")
    joined = pd.merge_asof(found, spot, on="ts", by="symbol")
    split = joined[joined["kind"] == "split"].set_index(["symbol", "ts"])["value"]
    same_day = split.reindex(pd.MultiIndex.from_frame(joined[["symbol", "ts"]])).fillna(1.0).to_numpy()
    dividend = (joined["kind"] == "dividend").to_numpy()
    value, close = joined["value"].to_numpy(float), joined["close"].to_numpy(float)
    paid = np.where(dividend, value * same_day, 0.0)
    usable = np.isfinite(value) & (value > 0) & ~(paid >= close)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(dividend, np.where(np.isnan(close), 1.0, close / (close - paid)), value)
    made = joined.assign(factor=factor)[usable]
    types = {c: "datetime64[us, UTC]" if c == "ts" else "str" for c in ("symbol", "kind", "ts", "source")}
    issues = [
        (row.symbol, "spot", "", "1d", row.ts, "corporate action", "quarantined", _wrong(row), row.source)
        for row in joined[~usable].itertuples()
    ]
    columns = [name for name in Issues.columns() if name != "bar"]
    told = pd.DataFrame(issues, columns=columns).assign(bar="")[Issues.columns()]
    told = told.astype({c: "datetime64[us, UTC]" if c == "ts" else "str" for c in told})
    return made[Actions.columns()].astype(types | {"value": float, "factor": float}).reset_index(drop=True), told


def _wrong(row: object) -> str:
    kind, value, close = (getattr(row, name) for name in ("kind", "value", "close"))
    if kind == "dividend" and value > 0:
        return f"a dividend of {value} is as much as the price before it, {close}; expected less"
    return f"a {kind} of {value} came; expected a number above 0"
