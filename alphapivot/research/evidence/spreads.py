"""The spreads of config.ini whose legs are markets of a set: bars and costs made of theirs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot.research.evidence import costs

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument


def of(bars: pd.DataFrame, instruments: Iterable[Instrument]) -> tuple[pd.DataFrame, dict[str, float]]:
    """
    (bars as ``markets.read`` gives them, cost of a unit one way) of each spread with all of its legs among ``bars``.

    A day on which a leg has no price has none of the spread. On a day on which a leg rolls, all of them pay for a roll.
    """
    known, frames, sides = set(bars["symbol"]), [], {}
    for spread in instruments:
        if not spread.legs or not known >= spread.legs.keys():
            continue
        terms = spread.leg_terms
        units = {leg: float(n * terms[leg].multiplier * terms[leg].quote_unit) for leg, n in spread.legs.items()}
        legs = [bars[bars["symbol"] == leg].set_index("ts") for leg in units]
        closes = pd.concat([leg["close"] * unit for leg, unit in zip(legs, units.values(), strict=True)], axis=1)
        closes = closes.dropna()
        rolled = pd.concat([leg["rolled_today"] for leg in legs], axis=1).reindex(closes.index).any(axis=1)
        nothing = dict.fromkeys(bars.columns.difference(["ts"]), np.nan)
        plain = {"interval": "1d", "market": "", "contract": "", "source": "files", "offset": 0.0}
        own = nothing | plain | {"symbol": spread.symbol, "close": closes.sum(axis=1), "rolled_today": rolled}
        frames.append(pd.DataFrame(own, index=closes.index).reset_index()[bars.columns])
        prices = [costs.side(leg) for leg in units]
        if None not in prices:
            sides[spread.symbol] = sum(abs(u) * (p or 0.0) for u, p in zip(units.values(), prices, strict=True))
    return (pd.concat(frames, ignore_index=True) if frames else bars[:0]), sides
