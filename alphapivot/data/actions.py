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
    from collections.abc import Iterable, Mapping
    from datetime import datetime

KINDS = ("split", "dividend")
QUIET = pd.Timedelta(days=30)  # no market that pays dividends rests longer
Floats = npt.NDArray[np.float64]


def factors(symbols: pd.Series[str], ts: pd.Series[pd.Timestamp], events: pd.DataFrame, column: str) -> Floats:
    """For each row the product of a ``column`` of ``events`` (factor, or value of splits) before its instant."""
    found = np.ones(len(symbols))
    mine = symbols.groupby(symbols.to_numpy(), sort=False).indices if len(events) else {}
    for symbol, own in events.groupby("symbol"):
        if symbol not in mine:
            continue
        rows = np.asarray(mine[symbol])
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
    seen = {p: bars[p] * price for p in PRICES if p in bars}
    return bars.assign(**seen, **({"volume": bars["volume"] / shares} if "volume" in bars else {}))


def splits(stored: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """All splits (Actions): those ``stored``, and over them what a feed ``found``."""
    new = found[(found["kind"] == "split") & (found["value"] > 0) & np.isfinite(found["value"])]
    both = pd.concat([stored, new.assign(factor=new["value"])[Actions.columns()]], ignore_index=True)
    made: pd.DataFrame = both[both["kind"] == "split"].drop_duplicates(Actions.keys(), keep="last")
    return made


def withdrawn(
    stored: pd.DataFrame, found: pd.DataFrame, after: Mapping[str, datetime], until: datetime, source: str
) -> pd.DataFrame:
    """
    The ``stored`` events (Actions) that ``source`` brought once and brings no more.

    ``found`` (symbol, kind, ts, ...) holds all that it knows of a symbol ``after`` its instant and up to ``until``.
    """
    begins = pd.to_datetime(stored["symbol"].map(after), utc=True)
    asked = (stored["ts"] > begins) & (stored["ts"] <= until) & (stored["source"] == source)
    keys = Actions.keys()
    gone = ~pd.MultiIndex.from_frame(stored[keys]).isin(pd.MultiIndex.from_frame(found[keys]))
    return stored[asked & gone]


def told(gone: pd.DataFrame) -> pd.DataFrame:
    """Issues that tell a person which events were withdrawn."""
    text = "{0.source} brought a {0.kind} of {0.value:g} and brings it no more: withdrawn; what was known is kept"
    return _issues((row.symbol, row.ts, "flagged", text.format(row), row.source) for row in gone.itertuples())


def after(stored: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """Those of the ``stored`` events that a close of ``bars`` (spot) may come right before; the columns of a feed's."""
    spot = bars[bars["market"] == "spot"].groupby("symbol")["ts"].agg(["min", "max"])
    first, last = (pd.to_datetime(stored["symbol"].map(spot[name].to_dict()), utc=True) for name in ("min", "max"))
    near = (stored["ts"] >= first) & (stored["ts"] <= last + QUIET)
    return stored.loc[near, ["symbol", "kind", "ts", "value", "source"]]


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
    wrong = _issues((r.symbol, r.ts, "quarantined", _wrong(r), r.source) for r in joined[~usable].itertuples())
    return made[Actions.columns()].astype(types | {"value": float, "factor": float}).reset_index(drop=True), wrong


def _issues(found: Iterable[tuple[object, ...]]) -> pd.DataFrame:
    """Issues of spot markets: symbol, ts, outcome, detail, source."""
    told = pd.DataFrame(list(found), columns=["symbol", "ts", "outcome", "detail", "source"])
    told = told.assign(market="spot", contract="", interval="1d", check_name="corporate action", bar="")
    return told[Issues.columns()].astype({c: "datetime64[us, UTC]" if c == "ts" else "str" for c in Issues.columns()})


def _wrong(row: object) -> str:
    kind, value, close = (getattr(row, name) for name in ("kind", "value", "close"))
    if kind == "dividend" and value > 0:
        return f"a dividend of {value} is as much as the price before it, {close}; expected less"
    return f"a {kind} of {value} came; expected a number above 0"
