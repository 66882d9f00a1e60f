"""SQL of missing bars: which are known, how often they were requested, and when they came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from alphapivot.hub import Hub

COLUMNS = ["symbol", "market", "interval", "after", "before", "missing", "found_at", "asked", "asked_at"]
OPEN = f"SELECT {', '.join(COLUMNS)} FROM market.hole WHERE ended_at IS NULL"


def known(hub: Hub, symbols: list[str]) -> list[dict[str, Any]]:
    """The holes of these symbols that are still open, oldest first."""
    query = text(f"{OPEN} AND symbol = ANY(:symbols) ORDER BY after")
    with hub.engine.connect() as connection:
        return [dict(row) for row in connection.execute(query, {"symbols": symbols}).mappings()]


def show(hub: Hub, symbol: str | None = None) -> pd.DataFrame:
    """All open holes, newest first."""
    query = text(f"{OPEN} AND (symbol = :symbol OR CAST(:symbol AS text) IS NULL) ORDER BY after DESC, symbol, market")
    with hub.engine.connect() as connection:
        return pd.DataFrame(connection.execute(query, {"symbol": symbol}).mappings().all(), columns=COLUMNS)


def record(
    conn: Connection,
    found: Iterable[Any],
    gone: Iterable[Any],
    asked: Iterable[Any],
    now: datetime,
) -> None:
    """Adds the holes ``found``, ends those ``gone``, and counts a request of those ``asked``."""
    same = "(symbol, market, interval, after) = (:symbol, :market, :interval, :after)"
    insert = (
        "INSERT INTO market.hole AS h (symbol, market, interval, after, before, missing, found_at)"
        " VALUES (:symbol, :market, :interval, :after, :before, :missing, :found_at)"
        " ON CONFLICT (symbol, market, interval, after) DO UPDATE SET before = excluded.before,"
        " missing = excluded.missing, ended_at = NULL"
    )
    end = f"UPDATE market.hole SET ended_at = clock_timestamp() WHERE {same} AND ended_at IS NULL"
    count = f"UPDATE market.hole SET asked = asked + 1, asked_at = :now WHERE {same}"
    for holes, statement in ((found, insert), (gone, end), (asked, count)):
        if rows := [asdict(hole) | {"now": now} for hole in holes]:
            conn.execute(text(statement), rows)
