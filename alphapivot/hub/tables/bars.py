"""Bars, rolls and actions as a run may see them: a window of time, as known at an instant."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from psycopg import sql

from alphapivot.frames import Actions, Bars, Rolls, ordered
from alphapivot.hub.bulk import read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

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
    columns: Sequence[str] = tuple(Bars.columns()),
) -> pd.DataFrame:
    """
    The bars complete after ``after`` (None: from the first) and up to ``until``, as the hub knew them at ``known_at``
    (None: now), sorted by (symbol, contract, ts): a frame of Bars, or these ``columns`` of it.
    """
    where = [
        sql.SQL("symbol = ANY({})").format(sql.Literal(list(symbols))),
        sql.SQL("market = {}").format(sql.Literal(market)),
        sql.SQL("interval = {}").format(sql.Literal(interval)),
        sql.SQL("ts <= {}").format(sql.Literal(until)),
    ]
    if after is not None:
        where.append(sql.SQL("ts > {}").format(sql.Literal(after)))
    # constant columns are not sent over the wire: a text column costs as much as two of numbers
    constants = {"market": market, "interval": interval} | ({} if market == "futures" else {"contract": ""})
    selected = [name for name in columns if name not in constants]
    statement = known(Bars, sql.SQL(" AND ").join(where), known_at, selected)

    def fetch() -> pd.DataFrame:
        bars = hub.query(statement)
        rows = np.zeros(len(bars), np.int64)
        bars = bars.assign(**{name: pd.array([text], dtype="str").take(rows) for name, text in constants.items()})
        order = ("contract",) if market == "futures" and "contract" in columns else ()
        return ordered(bars[list(columns)], "symbol", *order)

    # bars as known at an instant never change: pillars that read at the same time share one frame
    return fetch() if known_at is None else hub.shared.get((statement.as_string(None), *columns), fetch)


def sizes(hub: Hub, symbols: Sequence[str], interval: str, until: datetime) -> dict[str, int]:
    """symbol -> how many bars of all its markets and contracts are stored; symbols without bars are left out."""
    rows = hub.query(
        sql.SQL(
            "SELECT symbol, count(*) FROM market.bar"
            " WHERE symbol = ANY({}) AND interval = {} AND ts <= {} GROUP BY symbol"
        ).format(list(symbols), interval, until)
    )
    return dict(zip(rows["symbol"], rows["count"], strict=True))


def first(hub: Hub, symbols: Sequence[str], interval: str) -> datetime | None:
    """The instant just before the oldest stored bar of any of ``symbols`` was complete; None without bars."""
    # not through the pool: steps that hold one of its connections may wait for this
    oldest = hub.query(
        sql.SQL("SELECT min(ts) AS ts FROM market.bar WHERE symbol = ANY({}) AND interval = {}").format(
            list(symbols), interval
        )
    )["ts"].iloc[0]
    return None if pd.isna(oldest) else oldest.to_pydatetime() - timedelta(microseconds=1)


def rolls(hub: Hub, symbols: Sequence[str], *, until: datetime, known_at: datetime | None) -> pd.DataFrame:
    """The rolls up to ``until`` as known at ``known_at``, sorted by (symbol, ts): a frame of Rolls."""
    where = sql.SQL("symbol = ANY({}) AND ts <= {}").format(sql.Literal(list(symbols)), sql.Literal(until))
    return ordered(hub.query(known(Rolls, where, known_at)), "symbol")


def actions(
    hub: Hub,
    symbols: Sequence[str],
    *,
    since: datetime | None = None,
    until: datetime,
    known_at: datetime | None,
) -> pd.DataFrame:
    """
    The splits and dividends from ``since`` (None: all) up to ``until``, as known at ``known_at``: a frame of Actions.
    """
    where = sql.SQL("symbol = ANY({}) AND ts <= {}").format(sql.Literal(list(symbols)), sql.Literal(until))
    if since is not None:
        where = sql.SQL("{} AND ts >= {}").format(where, sql.Literal(since))
    return ordered(hub.query(known(Actions, where, known_at)), "symbol", "kind")


def known(
    frame: type[Frame], where: sql.Composable, known_at: datetime | None, columns: Sequence[str] | None = None
) -> sql.Composed:
    """
    SELECT a dated frame's rows (or ``columns`` of them) as the hub knew them at ``known_at``: the current rows ingested
    by then, and the versions superseded only later.
    """
    if known_at is None:
        return read.select(frame, where, columns)
    instant = sql.Literal(known_at)
    current = sql.SQL("{} AND ingested_at <= {}").format(where, instant)
    former = sql.SQL("{} AND ingested_at <= {} AND superseded_at > {}").format(where, instant, instant)
    return sql.SQL("{} UNION ALL {}").format(
        read.select(frame, current, columns),
        read.select(frame, former, columns, table=f"{frame.table()}_revision"),
    )
