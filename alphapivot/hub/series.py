"""What ingestion asks of the stored bars: how far each series goes, where it came from, and its tail to build upon."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from psycopg import sql
from sqlalchemy import text

from alphapivot.frames import Bars
from alphapivot.hub import Hub


def newest(hub: Hub, symbols: list[str]) -> dict[tuple[str, str, str], datetime]:
    """
    (symbol, market, interval) -> ts of the newest bar that a feed brought; of a futures market over all its
    contracts.
    """
    query = text(
        "SELECT symbol, market, interval, max(ts) FROM market.bar"
        " WHERE symbol = ANY(:symbols) AND source <> 'resampled' GROUP BY symbol, market, interval"
    )
    with hub.engine.connect() as connection:
        return {
            (symbol, market, interval): ts
            for symbol, market, interval, ts in connection.execute(query, {"symbols": symbols})
        }


def sources(hub: Hub, symbols: list[str]) -> dict[str, str]:
    """symbol -> the feed that brought its stored bars; only symbols that have some."""
    query = text(
        "SELECT wanted.symbol, bar.source FROM unnest(CAST(:symbols AS text[])) AS wanted (symbol), LATERAL"
        " (SELECT b.source FROM market.bar AS b"
        " WHERE b.symbol = wanted.symbol AND b.source <> 'resampled' LIMIT 1) AS bar"
    )
    with hub.engine.connect() as connection:
        return dict(connection.execute(query, {"symbols": symbols}).tuples().all())


def overlaid(hub: Hub, new: pd.DataFrame, starts: pd.Series) -> pd.DataFrame:
    """
    The stored bars of the feeds (not the resampled ones) of each symbol after its start, with ``new`` laid over them.

    ``starts``: symbol -> aware instant, or NaT for all. One query for all symbols.
    """
    where = sql.SQL("source <> 'resampled' AND symbol = ANY({})").format(list(starts.index))
    if not starts.isna().any():
        where += sql.SQL(" AND ts > {}").format(starts.min().to_pydatetime())
    old = hub.read(Bars, where)
    old = old[~(old["ts"] <= old["symbol"].map(starts))]  # a comparison with NaT is false
    both = pd.concat([old, new[Bars.columns()]], ignore_index=True)
    return both.drop_duplicates(Bars.keys(), keep="last").sort_values(Bars.keys(), ignore_index=True)
