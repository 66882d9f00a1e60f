"""
The merge of an upsert: rows that were copied into a temporary table go into the table, and what they replace is kept.

Not one INSERT ... ON CONFLICT DO UPDATE: that replaces whatever row is there when it comes to it, also one that another
writer put there a moment ago and that no earlier statement could have kept; and it locks, hence rewrites, unchanged rows.
Instead: look; lock and keep what will be replaced; replace it; insert what is new. When another writer came in between,
the numbers of rows do not agree or a key is there twice, and the merge is done again on what is there now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from alphapivot.errors import Unavailable
from alphapivot.frames import VERSIONED, Frame

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

ATTEMPTS = 5

LOOK = "SELECT count(*), count(*) FILTER (WHERE {differ}) FROM {incoming} AS i JOIN {table} AS t ON {same} AND {place}"
KEEP = """
    INSERT INTO {revision} ({all}, superseded_at, superseded_by)
    SELECT {old}, {moment}, {batch} FROM {incoming} AS i JOIN {table} AS t ON {same} AND {place} WHERE {differ}
    ORDER BY {old_keys} FOR UPDATE OF t
"""  # in the order of the keys, so that two writers wait for each other rather than deadlock
REPLACE = "UPDATE {table} AS t SET {new} FROM {incoming} AS i WHERE {same} AND {place} AND ({differ})"
INSERT = """
    INSERT INTO {table} ({all}) SELECT {all} FROM {incoming} AS i
    WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {same} AND {place})
"""


class _Overtaken(Exception):  # noqa: N818 - it is no error: the merge is done again
    """Another writer changed the same rows between two statements."""


def incoming(cursor: psycopg.Cursor, frame: type[Frame], table: sql.Identifier, *, dated: bool) -> sql.Identifier:
    """Makes the temporary table for the rows of an upsert."""
    name = sql.Identifier("incoming")
    cursor.execute(sql.SQL("DROP TABLE IF EXISTS pg_temp.incoming"))
    cursor.execute(
        sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            name,
            _list(_columns(frame, dated=dated)),
            table,
        ),
    )
    return name


def run(
    cursor: psycopg.Cursor,
    frame: type[Frame],
    table: sql.Identifier,
    incoming: sql.Identifier,
    place: tuple[datetime, datetime],
    instant: datetime,
    batch_id: int,
    *,
    dated: bool,
) -> tuple[int, int, int]:
    """
    Merges ``incoming``, whose rows lie between the instants of ``place``; returns how many were new, changed, unchanged.

    ``dated``: the rows carry ingested_at; a version always begins after the one that it supersedes, even when its writer
    took ``instant`` earlier than the other and committed later.
    """
    columns, keys = _columns(frame, dated=dated), frame.keys()
    values = [name for name in frame.columns() if name not in {*keys, "batch_id"}]
    moment = (
        sql.SQL("greatest(i.ingested_at, t.ingested_at + interval '1 microsecond')") if dated else sql.Literal(instant)
    )
    new = [sql.SQL("{0} = i.{0}").format(sql.Identifier(name)) for name in frame.columns() if name not in keys]
    if dated:
        new.append(sql.SQL("ingested_at = {}").format(moment))
    schema, name = frame.table().split(".")
    parts = {
        "table": table,
        "incoming": incoming,
        "revision": sql.Identifier(schema, f"{name}_revision"),
        "same": sql.SQL(" AND ").join(sql.SQL("t.{0} = i.{0}").format(sql.Identifier(key)) for key in keys),
        # the join alone would not tell the planner (nor TimescaleDB, which chunks) where to look
        "place": sql.SQL("t.ts BETWEEN {} AND {}").format(*map(sql.Literal, place)),
        "differ": sql.SQL(" OR ").join(
            sql.SQL("t.{0} IS DISTINCT FROM i.{0}").format(sql.Identifier(v)) for v in values
        ),
        "all": _list(columns),
        "old": _list(columns, "t"),
        "old_keys": _list(keys, "t"),
        "new": sql.SQL(", ").join(new),
        "moment": moment,
        "batch": sql.Literal(batch_id),
    }

    def execute(statement: str) -> int:
        cursor.execute(sql.SQL(statement).format(**parts))  # type: ignore[arg-type]
        return cursor.rowcount

    cursor.execute(sql.SQL("ANALYZE {}").format(incoming))
    cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(incoming))
    rows = _row(cursor)[0]
    for _ in range(ATTEMPTS):
        try:
            with cursor.connection.transaction():
                execute(LOOK)
                found, changed = _row(cursor)
                if changed and frame in VERSIONED and execute(KEEP) != changed:
                    raise _Overtaken
                if changed and execute(REPLACE) != changed:
                    raise _Overtaken
                if found < rows and execute(INSERT) != rows - found:
                    raise _Overtaken
        except (_Overtaken, psycopg.errors.UniqueViolation):
            continue
        return rows - found, changed, found - changed
    raise Unavailable(f"other writers keep changing the same rows of {frame.table()}; try again")


def _columns(frame: type[Frame], *, dated: bool) -> list[str]:
    return [*frame.columns(), *(["ingested_at"] if dated else [])]


def _list(names: Iterable[str], alias: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, name) if alias else sql.Identifier(name) for name in names)


def _row(cursor: psycopg.Cursor) -> tuple[int, ...]:
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate has a row
    return row
