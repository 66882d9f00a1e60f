"""Statistics of the stored series: rows, size, span and gaps."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pandas as pd
from sqlalchemy import text

from alphapivot.calendar import bar_ends
from alphapivot.hub import Hub

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings

COLUMNS = ["symbol", "market", "interval", "source", "contracts", "rows", "size", "first", "newest", "missing"]


def series(hub: Hub, settings: Settings) -> pd.DataFrame:
    """
    One row per series: contracts, rows, size (share of the table's bytes), first and newest bar, and ``missing``: bars
    that its calendar has between the two and the series lacks (-1: its instrument is not in the config).
    """
    query = text(
        "SELECT symbol, market, interval, min(source) AS source, count(DISTINCT contract) AS contracts,"
        " count(*) AS rows, count(DISTINCT ts) AS instants, min(ts) AS first, max(ts) AS newest FROM market.bar"
        " GROUP BY symbol, market, interval ORDER BY symbol, market, interval"
    )
    # a hypertable's own table is empty: its chunks hold the rows
    size = text("SELECT pg_total_relation_size('market.bar') + coalesce((SELECT sum(pg_total_relation_size(inhrelid))"
                " FROM pg_inherits WHERE inhparent = 'market.bar'::regclass), 0)")  # fmt: skip
    with hub.engine.connect() as connection:
        table = pd.DataFrame(connection.execute(query).mappings().all())
        total = int(connection.execute(size).scalar_one())
    if table.empty:
        return pd.DataFrame(columns=COLUMNS)
    table["size"] = (table["rows"] / table["rows"].sum() * total).astype(int)
    table["missing"] = [
        len(bar_ends.bar_ends(settings.instruments[s].hours_of(m), i, first - timedelta(microseconds=1), newest))
        - instants
        if s in settings.instruments
        else -1
        for s, m, i, first, newest, instants in table[
            ["symbol", "market", "interval", "first", "newest", "instants"]
        ].itertuples(index=False, name=None)
    ]
    return table[COLUMNS]
