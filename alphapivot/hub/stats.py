"""What the hub holds: rows, size, span and gaps of each series, and what retention takes away."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pandas as pd
from psycopg import sql
from sqlalchemy import text

from alphapivot import calendars
from alphapivot.hub import Hub

if TYPE_CHECKING:
    from alphapivot.settings import Retention, Settings

SLICE = timedelta(days=30)  # of what one transaction deletes
COLUMNS = ["symbol", "market", "interval", "source", "contracts", "rows", "size", "first", "newest", "missing"]


def series(hub: Hub, settings: Settings) -> pd.DataFrame:
    """
    One row per series: contracts, rows, share of the table's bytes, first and newest bar, and ``missing``: bars that
    its calendar has between the two and the series has not (-1: its instrument is not in the config).
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
        found = pd.DataFrame(connection.execute(query).mappings().all())
        total = int(connection.execute(size).scalar_one())
    if found.empty:
        return pd.DataFrame(columns=COLUMNS)
    found["size"] = (found["rows"] / found["rows"].sum() * total).astype(int)
    found["missing"] = [
        len(calendars.bar_ends(settings.instruments[s].hours, i, first - timedelta(microseconds=1), newest)) - instants
        if s in settings.instruments
        else -1
        for s, i, first, newest, instants in found[["symbol", "interval", "first", "newest", "instants"]].itertuples(
            index=False, name=None
        )
    ]
    return found[COLUMNS]


def maintain(hub: Hub, retention: Retention) -> dict[str, int]:
    """
    Deletes what [retention] lets go, a month's rows at a time, and returns how many rows of each kind went.

    With superseded versions goes the power to make runs of their time again; scope ``live`` keeps all its scores.
    """
    gone = {}
    for interval, days in retention.bars.items():
        where = sql.SQL("interval = {} AND ts < now() - {}").format(interval, timedelta(days=days))
        gone[f"bars of {interval}"] = _delete(hub, "market.bar", "ts", where)
        gone[f"revisions of {interval}"] = _delete(hub, "market.bar_revision", "ts", where)
    if retention.revisions is not None:
        where = sql.SQL("superseded_at < now() - {}").format(timedelta(days=retention.revisions))
        for table in ("market.bar", "market.roll", "signals.signal", "signals.composite"):
            gone[f"revisions in {table}"] = _delete(hub, f"{table}_revision", "superseded_at", where)
    if retention.replays is not None:
        old = sql.SQL(
            "scope <> 'live' AND scope IN"
            " (SELECT scope FROM ops.run GROUP BY scope HAVING max(started_at) < now() - {})"
        ).format(timedelta(days=retention.replays))
        for table in ("signals.signal", "signals.composite"):
            gone[f"replays in {table}"] = _delete(hub, table, "ts", old)
    return gone


def _delete(hub: Hub, table: str, column: str, where: sql.Composable) -> int:
    name = sql.Identifier(*table.split("."))
    total = 0
    with hub.errors(), hub.dbapi(autocommit=True) as connection:
        statement = sql.SQL("SELECT min({c}), max({c}) FROM {t} WHERE {w}").format(
            c=sql.Identifier(column), t=name, w=where
        )
        first, last = connection.execute(statement).fetchone() or (None, None)
        while first is not None and first <= last:
            until = first + SLICE
            part = sql.SQL("DELETE FROM {t} WHERE {w} AND {c} >= {a} AND {c} < {b}").format(
                t=name, w=where, c=sql.Identifier(column), a=first, b=until
            )
            total += connection.execute(part).rowcount
            first = until
    return total
