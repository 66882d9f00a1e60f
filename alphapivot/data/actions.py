"""
Splits and dividends, and spot prices adjusted for them without changing the past. Pure.

Stored bars are as traded. adjusted = raw x factor, the product of the factors of all events before a bar, so 1 at the
first one: after a 4-for-1 split prices are multiplied by 4 (one share became four), and after a dividend by what
reinvesting it adds. A series anchored at its first bar changes only after an event, never before it, so scores before
an ex-date stay the same to the last bit. Pillars only compare prices with each other, so the scale does not matter;
the offset is 0, and a level converts to traded prices as level / factor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.frames import ENDINGS, PRICES, Actions, Issues

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

QUIET = pd.Timedelta(days=30)  # no market that pays dividends closes for longer
Floats = npt.NDArray[np.float64]


def factors(symbols: pd.Series[str], ts: pd.Series[pd.Timestamp], events: pd.DataFrame, column: str) -> Floats:
    """For each row the product of ``column`` (factor, or value of splits) over the ``events`` before its instant."""
    products = np.ones(len(symbols))
    rows_of = symbols.groupby(symbols.to_numpy(), sort=False).indices if len(events) else {}
    for symbol, symbol_events in events.groupby("symbol"):
        if symbol not in rows_of:
            continue
        rows = np.asarray(rows_of[symbol])
        symbol_events = symbol_events.sort_values(["ts", "kind"])  # noqa: PLW2901 - one order, so that products agree to the last bit
        product = np.append(1.0, np.cumprod(symbol_events[column].to_numpy()))
        # an event applies to the bars after it
        products[rows] = product[np.searchsorted(symbol_events["ts"].to_numpy(), ts.iloc[rows].to_numpy(), "left")]
    return products


def adjust(bars: pd.DataFrame, events: pd.DataFrame, how: Mapping[str, str]) -> pd.DataFrame:
    """
    ``bars`` with prices adjusted for earlier ``events`` (Actions), and volume adjusted for splits.

    ``how``: symbol -> all, splits or none (the default for a missing symbol). Futures are unchanged. Any interval.
    """
    setting = events["symbol"].map(how)
    counted = events[(setting == "all") | ((setting == "splits") & (events["kind"] != "dividend"))]
    counted = counted[counted["symbol"].isin(bars["symbol"].unique())]
    if counted.empty:
        return bars
    spot = (bars["market"] == "spot").to_numpy()
    price = np.where(spot, factors(bars["symbol"], bars["ts"], counted, "factor"), 1.0)
    splits = counted[counted["kind"] == "split"]
    shares = np.where(spot, factors(bars["symbol"], bars["ts"], splits, "value"), 1.0)
    adjusted = {p: bars[p] * price for p in PRICES if p in bars}
    return bars.assign(**adjusted, **({"volume": bars["volume"] / shares} if "volume" in bars else {}))


def splits(stored: pd.DataFrame, fetched: pd.DataFrame) -> pd.DataFrame:
    """All splits (Actions): the ``stored`` ones, replaced and completed by those ``fetched`` from a feed."""
    new = fetched[(fetched["kind"] == "split") & (fetched["value"] > 0) & np.isfinite(fetched["value"])]
    both = pd.concat([stored, new.assign(factor=new["value"])[Actions.columns()]], ignore_index=True)
    latest: pd.DataFrame = both[both["kind"] == "split"].drop_duplicates(Actions.keys(), keep="last")
    return latest


def distributions(stored: pd.DataFrame, fetched: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """As ``splits``, all distributions: their factors need the closes before them, among ``bars``."""
    new, _ = realise(fetched[fetched["kind"] == "distribution"], bars)
    both = pd.concat([stored[stored["kind"] == "distribution"], new], ignore_index=True)
    return both.drop_duplicates(Actions.keys(), keep="last")


def withdrawn(
    stored: pd.DataFrame, fetched: pd.DataFrame, after: Mapping[str, datetime], until: datetime, source: str
) -> pd.DataFrame:
    """
    The ``stored`` events (Actions) that came from ``source`` and that it no longer reports.

    ``fetched`` (symbol, kind, ts, ...) holds all its events of a symbol ``after`` that symbol's instant and up to
    ``until``.
    """
    begins = pd.to_datetime(stored["symbol"].map(after), utc=True)
    covered = (stored["ts"] > begins) & (stored["ts"] <= until) & (stored["source"] == source)
    keys = Actions.keys()
    gone = ~pd.MultiIndex.from_frame(stored[keys]).isin(pd.MultiIndex.from_frame(fetched[keys]))
    return stored[covered & gone]


def of_others(stored: pd.DataFrame, fetched: pd.DataFrame, answered: Iterable[str], source: str) -> pd.DataFrame:
    """
    The ``stored`` events (Actions) of a source that is no longer the feed of its symbol, which has ``answered`` from
    ``source``: two vendors date one dividend differently, and together they would count it twice.
    """
    other = stored["symbol"].isin(list(answered)) & (stored["source"] != source)
    keys = Actions.keys()
    again = pd.MultiIndex.from_frame(stored[keys]).isin(pd.MultiIndex.from_frame(fetched[keys]))
    return stored[other & ~again]


def withdrawal_issues(gone: pd.DataFrame, source: str) -> pd.DataFrame:
    """One issue for each withdrawn event, which ``source``, the feed, does not report."""
    if gone.empty:
        return Issues.empty()
    own = "{0.source} no longer reports its {0.kind} of {0.value:g}: withdrawn; the earlier version is kept"
    other = "{1} does not report the {0.kind} of {0.value:g} from {0.source}: withdrawn; the earlier version is kept"
    return _issues(
        (row.symbol, row.ts, "flagged", (own if row.source == source else other).format(row, source), row.source)
        for row in gone.itertuples()
    )


def dropped_issues(gone: pd.DataFrame, why: str) -> pd.DataFrame:
    """One issue for each event that someone has dropped."""
    text = "the {0.kind} of {0.value:g} from {0.source} was dropped: {1}"
    rows = _issues((row.symbol, row.ts, "flagged", text.format(row, why), row.source) for row in gone.itertuples())
    return rows.assign(check_name=("dropped " + gone["kind"]).to_numpy())


def after(stored: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """The ``stored`` events whose last close before them may be in ``bars`` (spot), with a feed's columns."""
    if stored.empty:
        return stored[["symbol", "kind", "ts", "value", "source"]]
    spot = bars[bars["market"] == "spot"].groupby("symbol")["ts"].agg(["min", "max"])
    first, last = (pd.to_datetime(stored["symbol"].map(spot[name].to_dict()), utc=True) for name in ("min", "max"))
    near = (stored["ts"] >= first) & (stored["ts"] <= last + QUIET)
    return stored.loc[near, ["symbol", "kind", "ts", "value", "source"]]


def realise(events: pd.DataFrame, bars: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    A feed's ``events`` (symbol, kind, ts, value, source) as Actions, and Issues for the impossible ones.

    A split's factor is its value. A dividend's is close / (close - dividend), with the last close in ``bars`` (raw,
    spot, one interval) at or before its instant: the return of holding the share over it (the rule of CRSP and Yahoo,
    inverted). Without an earlier bar there is nothing to adjust, and it is 1; so it is where a share ends. A dividend
    is per share as traded on its day, so after a split of the same day; payments of one morning are one payment.
    """
    if events.empty:
        return Actions.empty(), Issues.empty()
    events = events.drop_duplicates(["symbol", "kind", "ts"], keep="last").sort_values(["ts", "kind"])
    spot = bars.loc[bars["market"] == "spot", ["symbol", "ts", "close"]].sort_values("ts")
    joined = pd.merge_asof(events, spot, on="ts", by="symbol")
    split = joined[joined["kind"] == "split"].set_index(["symbol", "ts"])["value"]
    same_day = split.reindex(pd.MultiIndex.from_frame(joined[["symbol", "ts"]])).fillna(1.0).to_numpy()
    dividend = (~joined["kind"].isin(["split", *ENDINGS])).to_numpy()
    value, close = joined["value"].to_numpy(float), joined["close"].to_numpy(float)
    finite = np.isfinite(value) & (value > 0)
    paid = np.where(dividend & finite, value * same_day, 0.0)
    together = pd.Series(paid).groupby([joined["symbol"], joined["ts"]]).cumsum().to_numpy()
    left = close - together + paid  # by what was paid besides on the same morning
    usable = finite & ~(paid >= left)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(dividend, np.where(np.isnan(close), 1.0, left / (left - paid)), value)
    factor = np.where(joined["kind"].isin(ENDINGS), 1.0, factor)
    realised = joined.assign(factor=factor).loc[usable, Actions.columns()]
    types = {c: "datetime64[us, UTC]" if c == "ts" else "str" for c in ("symbol", "kind", "ts", "source")}
    wrong = _issues((r.symbol, r.ts, "quarantined", _wrong(r), r.source) for r in joined[~usable].itertuples())
    return realised.astype(types | {"value": float, "factor": float}).reset_index(drop=True), wrong


def ended(bars: pd.DataFrame, *events: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """
    ``bars`` without those of spot markets after a merger or delisting among the ``events``, and a sentence for each:
    what trades under the ticker then is another company.
    """
    known = pd.concat([part.loc[part["kind"].isin(ENDINGS), ["symbol", "kind", "ts"]] for part in events])
    if known.empty:
        return bars, []
    ends = known.sort_values("ts").drop_duplicates("symbol").set_index("symbol")
    when, kinds = ends["ts"].to_dict(), ends["kind"].to_dict()
    later = (bars["market"] == "spot") & (bars["ts"] > pd.to_datetime(bars["symbol"].map(when), utc=True))
    told = [
        f"{symbol}: {count} bars after its {kinds[symbol]} of {when[symbol]:%Y-%m-%d} are left out: they are another"
        f" company's (`alphapivot data clear {symbol} --from {when[symbol]:%Y-%m-%d} --reason ...` removes those that"
        " are stored), or the event is wrong (`alphapivot data drop-event`)"
        for symbol, count in bars.loc[later, "symbol"].value_counts().to_dict().items()
    ]
    return bars[~later].reset_index(drop=True), told


def _issues(rows: Iterable[tuple[object, ...]]) -> pd.DataFrame:
    """Issues of spot markets from (symbol, ts, outcome, detail, source)."""
    issues = pd.DataFrame(list(rows), columns=["symbol", "ts", "outcome", "detail", "source"])
    issues = issues.assign(market="spot", contract="", interval="1d", check_name="corporate action", bar="")
    return issues[Issues.columns()].astype({c: "datetime64[us, UTC]" if c == "ts" else "str" for c in Issues.columns()})


def _wrong(row: object) -> str:
    kind, value, close = (getattr(row, name) for name in ("kind", "value", "close"))
    if kind != "split" and value > 0:
        return f"a dividend of {value} is not below the close before it, {close}; expected less"
    return f"got a {kind} of {value}; expected a number above 0"
