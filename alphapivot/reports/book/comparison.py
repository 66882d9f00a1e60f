"""Compares two books: how the same decisions were filled, and the trades that only one of them has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.reports.book import result as results

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.reports.book.result import Result

DECISION = ["symbol", "side", "scored"]  # the bar of the score, as runs need not be at the same instant
KEY = [*DECISION, "turn"]  # ``turn`` counts: a bar may be traded again after a stop
OWN = [
    "as_of",
    "trade_id",
    "contract",
    "entry_qty",
    "entry_price",
    "exit_price",
    "entry_at",
    "exit_at",
    "close_reason",
    "result",
]


@dataclass(frozen=True)
class Comparison:
    """
    ``pairs``: trades that both books entered, by KEY: the columns of OWN, the same of the other book as ``other_...``,
    and the differences entry_ticks, entry_bps, exit_ticks, exit_bps (positive: we paid more or got less), qty_more,
    result_more. ``missed``: trades that only the other book entered, with the reason in ``why``. ``extra``: trades that
    only we entered. ``since``, ``until``: the period that both books cover.
    """

    other: str
    since: pd.Timestamp
    until: pd.Timestamp
    pairs: pd.DataFrame
    missed: pd.DataFrame
    extra: pd.DataFrame


def of(hub: Hub, settings: Settings, own: Result, other: str) -> Comparison:
    """``own`` against the book ``other``. Raises DataError if there is no such book."""
    return compare(own, results.make(hub, settings, other), settings.ticks)


def compare(own: Result, other: Result, ticks: Mapping[str, Decimal]) -> Comparison:
    """
    Trades matched by symbol, side and bar of the score, over the period that both books cover. Pure.

    ``ticks``: symbol -> tick size; without it a difference in ticks is None.
    """
    since, until = max(own.book.since, other.book.since), min(own.book.until, other.book.until)
    mine, theirs = (_within(r.trades, since, until) for r in (own, other))
    both = mine.merge(theirs, on=KEY, how="outer", suffixes=("", "_other"), indicator=True)
    pairs = both[both["_merge"] == "both"].drop(columns="_merge").reset_index(drop=True)
    pairs.columns = [f"other_{c.removesuffix('_other')}" if c.endswith("_other") else c for c in pairs.columns]
    sign = pairs["side"].map({"LONG": 1, "SHORT": -1})
    for end, way in (("entry", 1), ("exit", -1)):
        ours, base = pairs[f"{end}_price"], pairs[f"other_{end}_price"]
        against = [
            None if pd.isna(a) or pd.isna(b) else (a - b) * int(s) * way
            for a, b, s in zip(ours, base, sign, strict=True)
        ]
        pairs[f"{end}_ticks"] = [
            None if d is None or symbol not in ticks else d / ticks[symbol]
            for d, symbol in zip(against, pairs["symbol"], strict=True)
        ]
        pairs[f"{end}_bps"] = [
            None if d is None or not b else 10_000 * d / abs(b) for d, b in zip(against, base, strict=True)
        ]
    pairs["qty_more"] = [a - b for a, b in zip(pairs["entry_qty"], pairs["other_entry_qty"], strict=True)]
    pairs["result_more"] = [a - b for a, b in zip(pairs["result"], pairs["other_result"], strict=True)]
    left, right = (both.loc[both["_merge"] == where, KEY] for where in ("left_only", "right_only"))
    missed = right.merge(theirs, on=KEY)
    return Comparison(
        other=other.book.name,
        since=since,
        until=until,
        pairs=pairs,
        missed=missed.assign(why=_reasons(own.book.trades, missed)),
        extra=left.merge(mine, on=KEY),
    )


def _within(trades: pd.DataFrame, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    inside = trades[(trades["as_of"] >= since) & (trades["as_of"] <= until)].sort_values(["as_of", "trade_id"])
    return inside.assign(turn=inside.groupby(DECISION).cumcount())[[*KEY, *OWN]]


def _reasons(trades: pd.DataFrame, missed: pd.DataFrame) -> list[str]:
    """Why each of ``missed`` is not in ``trades``: its entry never filled, or it was not decided."""
    unfilled = trades[trades["entry_at"].isna()]
    reasons = dict(zip(unfilled[DECISION].itertuples(index=False, name=None), unfilled["close_reason"], strict=True))
    return [
        f"not filled: {reasons[key] or 'still pending'}" if key in reasons else "not decided here"
        for key in missed[DECISION].itertuples(index=False, name=None)
    ]
