"""Bars that come again with other prices, all of them: another ticker, or a history that its vendor rescaled. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.data.series.stand_in import LEAST, SERIES
from alphapivot.frames import Bars

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from alphapivot.data.series.stand_in import Key


def notes(
    new: pd.DataFrame, stored: pd.DataFrame, limits: Mapping[str, float], known: Collection[Key] = ()
) -> list[str]:
    """
    One sentence for each series of which all ``stored`` bars that come again close elsewhere in ``new``, by more than
    ``limits`` (symbol -> basis points, 0: any): what is stored before them does not join. ``known``: series left out.
    """
    if new.empty or stored.empty:
        return []
    both = new.merge(stored, on=Bars.keys(), suffixes=("", "_stored"))
    apart = (both["close"] / both["close_stored"] - 1).abs() * 10_000
    grouped = both.assign(apart=apart).groupby(SERIES)["apart"]
    rows = grouped.agg(bars="size", least="min", most="max").reset_index().to_dict("records")
    text = (
        "{symbol} {market} {interval}: all {bars} stored bars that came again close elsewhere, by {least:.0f} to"
        " {most:.0f} bp: if its ticker names another instrument, or its vendor rescaled the history, the bars before do"
        " not join: alphapivot data clear {symbol} --market {market} --reason '...'"
    )
    return [
        text.format_map(row)
        for row in rows
        if row["bars"] >= LEAST
        and row["least"] > limits[row["symbol"]] > 0
        and tuple(map(row.get, SERIES)) not in known
    ]
