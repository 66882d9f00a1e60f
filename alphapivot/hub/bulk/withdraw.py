"""Withdraws wrong rows: they move from their table to its revisions, where reads as of an earlier known_at see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from alphapivot.hub.bulk import merge, packed, write

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    from sqlalchemy import Connection

    from alphapivot.frames import Frame

STATEMENT = """
    WITH gone AS (DELETE FROM {table} AS t USING unnest({types}) AS k ({keys}) WHERE {same} RETURNING t.*)
    INSERT INTO {revision} ({all}, superseded_at, superseded_by)
    SELECT {all}, greatest({instant}, ingested_at + interval '1 microsecond'), {batch} FROM gone
"""


def withdraw(conn: Connection, frame: type[Frame], rows: pd.DataFrame, batch_id: int) -> int:
    """
    Withdraws a dated frame's rows with the keys of ``rows``, in the transaction of ``conn``; returns how many existed.
    """
    if rows.empty:
        return 0
    keys = frame.keys()
    schema, name = frame.table().split(".")
    connection: psycopg.Connection = conn.connection.driver_connection  # type: ignore[assignment]
    with connection.cursor() as cursor:
        statement = sql.SQL(STATEMENT).format(
            table=sql.Identifier(schema, name),
            revision=sql.Identifier(schema, f"{name}_revision"),
            types=sql.SQL(", ").join(sql.SQL("%s::timestamptz[]" if k == "ts" else "%s::text[]") for k in keys),
            keys=merge.names(keys),
            same=sql.SQL(" AND ").join(sql.SQL("t.{0} = k.{0}").format(sql.Identifier(key)) for key in keys),
            all=merge.names(merge.columns(frame)),
            instant=sql.Literal(write.written_at(cursor, batch_id)),
            batch=sql.Literal(batch_id),
        )
        cursor.execute(statement, [rows[key].tolist() for key in keys])
        return cursor.rowcount


LIVE = "SELECT scope FROM signals.live_scope ORDER BY scope"


def withdraw_scores(conn: Connection, frame: type[Frame], symbol: str, after: datetime, batch_id: int) -> None:
    """
    Withdraws the live scores of a symbol later than ``after``, those of each [runtime] scores, in the transaction of
    ``conn``.
    """
    connection: psycopg.Connection = conn.connection.driver_connection  # type: ignore[assignment]
    with connection.cursor() as cursor:
        instant = write.written_at(cursor, batch_id)
        for (scope,) in cursor.execute(LIVE).fetchall():
            packed.Store(cursor, frame).withdraw(scope, symbol, after, instant=instant, batch_id=batch_id)
