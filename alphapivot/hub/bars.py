"""Bars as a run may see them: a window of time, as they were known at an instant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from psycopg import sql

from alphapivot.frames import Actions, Bars, Rolls
from alphapivot.hub import read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd

    from alphapivot.frames import Frame
    from alphapivot.hub import Hub


def window(
    hub: Hub,
    symbols: Sequence[str],
    market: str,
    interval: str,
    *,
    after: datetime | None,
    until: datetime,
    known_at: datetime | None,
) -> pd.DataFrame:
    """
    The bars complete after ``after`` (None: from the first) and up to ``until``, as the hub knew them at ``known_at``
    (None: as they are now), sorted by (symbol, contract, ts): a frame of Bars.
    """
    where = [
        sql.SQL("symbol = ANY({})").format(sql.Literal(list(symbols))),
        sql.SQL("market = {}").format(sql.Literal(market)),
        sql.SQL("interval = {}").format(sql.Literal(interval)),
        sql.SQL("ts <= {}").format(sql.Literal(until)),
    ]
    if after is not None:
        where.append(sql.SQL("ts > {}").format(sql.Literal(after)))
    return _sorted(read.query(hub, known(Bars, sql.SQL(" AND ").join(where), known_at)), "contract")


def rolls(hub: Hub, symbols: Sequence[str], *, until: datetime, known_at: datetime | None) -> pd.DataFrame:
    """The rolls up to ``until``, as the hub knew them at ``known_at``, sorted by (symbol, ts): a frame of Rolls."""
    where = sql.SQL("symbol = ANY({}) AND ts <= {}").format(sql.Literal(list(symbols)), sql.Literal(until))
    return _sorted(read.query(hub, known(Rolls, where, known_at)))


def actions(
    hub: Hub,
    symbols: Sequence[str],
    *,
    since: datetime | None = None,
    until: datetime,
    known_at: datetime | None,
) -> pd.DataFrame:
    """
    The splits and dividends from ``since`` (None: all) and up to ``until``, as the hub knew them at ``known_at``: a
    frame of Actions.
    """
    where = sql.SQL("symbol = ANY({}) AND ts <= {}").format(sql.Literal(list(symbols)), sql.Literal(until))
    if since is not None:
        where = sql.SQL("{} AND ts >= {}").format(where, sql.Literal(since))
    return _sorted(read.query(hub, known(Actions, where, known_at)), "kind")


def known(frame: type[Frame], where: sql.Composable, known_at: datetime | None) -> sql.Composed:
    """
    SELECT a dated frame's rows as the hub knew them at ``known_at``: the current ones that are as old, and the versions
    that were superseded only later.
    """
    if known_at is None:
        return read.select(frame, where)
    instant = sql.Literal(known_at)
    current = sql.SQL("{} AND ingested_at <= {}").format(where, instant)
    former = sql.SQL("{} AND ingested_at <= {} AND superseded_at > {}").format(where, instant, instant)
    return sql.SQL("{} UNION ALL {}").format(
        read.select(frame, current),
        read.select(frame, former, table=f"{frame.table()}_revision"),
    )


def _sorted(df: pd.DataFrame, *texts: str) -> pd.DataFrame:
    """By symbol, the other texts, and ts. Sorted here: PostgreSQL takes several times as long for it."""
    order = np.zeros(len(df), dtype=np.int64)
    for name in ("symbol", *texts):
        words, codes = np.unique(df[name].to_numpy(dtype=object), return_inverse=True)
        order = order * len(words) + codes
    ts = df["ts"].to_numpy("datetime64[us]").astype(np.int64)
    if ((order[1:] > order[:-1]) | ((order[1:] == order[:-1]) & (ts[1:] > ts[:-1]))).all():
        return df
    return df.take(np.lexsort((ts, order))).reset_index(drop=True)
