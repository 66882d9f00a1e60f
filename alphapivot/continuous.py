"""
Continuous futures prices for charts only. Pure.

Both views change their whole history at every roll, with what was known only later: no pillar and no decision may read
them. Those read ``rolls.adjust``, which is anchored at the first contract and never changes the past.
"""

from __future__ import annotations

import pandas as pd

from alphapivot import rolls
from alphapivot.errors import DataError
from alphapivot.frames import PRICES


def backward(bars: pd.DataFrame, decided: pd.DataFrame) -> pd.DataFrame:
    """
    Front bars shifted so that the newest contract's prices are as traded: adjusted = raw + offset, 0 at the end.

    ``bars`` and ``decided`` as for ``rolls.adjust``, whose columns come back. Differences are true, ratios are not;
    old prices may be negative.
    """
    front = rolls.adjust(bars, decided)
    newest = front.groupby(["symbol", "market", "interval"])["offset"].transform("last")
    return front.assign(offset=front["offset"] - newest, **{p: front[p] - newest for p in PRICES})


def ratio(bars: pd.DataFrame, decided: pd.DataFrame) -> pd.DataFrame:
    """
    Front bars scaled so that the newest contract's prices are as traded and percent changes are true.

    Columns of Bars and ``factor``: adjusted = raw x factor. At a roll earlier prices are multiplied by the new
    contract's close over the old one's, (old + spread) / old. Raises DataError where a price at a roll is not positive.
    """
    front = rolls.adjust(bars, decided)
    raw = front.assign(**{p: front[p] - front["offset"] for p in PRICES})
    series = [raw[name] for name in ("symbol", "market", "interval")]
    # the close from which each roll leads away is the last front one before it
    old = raw["close"].groupby(series).shift()
    step = (front["offset"] - front["offset"].groupby(series).shift()).fillna(0.0)  # minus the spreads in between
    bad = (step != 0) & ~((old > 0) & (old - step > 0))
    if bad.any():
        row = raw[bad].iloc[0]
        raise DataError(
            f"{row['symbol']} has no ratio view: a close at the roll into {row['contract']} before {row['ts']} is not "
            "positive; use the backward view"
        )
    growth = ((old - step) / old).where(step != 0, 1.0)
    product = growth.groupby(series).cumprod()
    factor = product.groupby(series).transform("last") / product
    made: pd.DataFrame = raw.drop(columns="offset").assign(factor=factor, **{p: raw[p] * factor for p in PRICES})
    return made
