"""
The merge of an upsert: rows that were copied into a temporary table go into the table, and what they replace is kept.

Not one INSERT ... ON CONFLICT DO UPDATE: that replaces whatever row is there when it comes to it, also one that
another writer put there a moment ago and that no earlier statement could have kept; and it locks, hence rewrites,
unchanged rows. Instead: look; lock and keep what will be replaced; replace it; insert what is new. When another writer
came in between, the numbers of rows do not agree or a key is there twice, and the merge is done again on what is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from alphapivot.errors import Unavailable
from alphapivot.frames import VERSIONED, Actions, Bars, Frame, Rolls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

DATED: frozenset[type[Frame]] = frozenset({Bars, Rolls, Actions})  # the hub adds ingested_at to their rows
ATTEMPTS = 5
MANY = 10_000  # rows

LOOK = """
    SELECT count(*), count(*) FILTER (WHERE {differ}),
        min(t.ts) FILTER (WHERE {differ}), max(t.ts) FILTER (WHERE {differ})
    FROM {incoming} AS i JOIN {table} AS t ON {same} AND {place}
"""
NARROW = """
    DROP TABLE IF EXISTS pg_temp.differing;
    CREATE TEMP TABLE differing ON COMMIT DROP AS
    SELECT i.* FROM {incoming} AS i JOIN {table} AS t ON {same} AND {place} WHERE {differ};
    ANALYZE differing
"""
KEEP = """
    INSERT INTO {revision} ({all}, superseded_at, superseded_by)
    SELECT {old}, {moment}, {batch} FROM {changes} AS i JOIN {table} AS t ON {same} AND {changed_place} WHERE {differ}
    ORDER BY {old_keys} FOR UPDATE OF t
"""  # in the order of the keys, so that two writers wait for each other rather than deadlock
REPLACE = "UPDATE {table} AS t SET {new} FROM {changes} AS i WHERE {same} AND {changed_place} AND ({differ})"
INSERT = """
    INSERT INTO {table} ({all}) SELECT {all} FROM {incoming} AS i
    WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {same} AND {place})
"""
# TimescaleDB locks no row of a chunk in its columnstore: it becomes rows again, until the policy converts it once more
IN_COLUMNS = """
    SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
    WHERE format('%I.%I', hypertable_schema, hypertable_name)::regclass = {name}::regclass
      AND is_compressed AND range_start <= {last} AND range_end > {first}
"""


class _Overtaken(Exception):  # noqa: N818 - it is no error: the merge is done again
    """Another writer changed the same rows between two statements."""


def incoming(cursor: psycopg.Cursor, frame: type[Frame]) -> sql.Identifier:
    """Makes an empty temporary table for the rows of an upsert."""
    cursor.execute("DROP TABLE IF EXISTS pg_temp.incoming")
    create = sql.SQL("CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA")
    cursor.execute(create.format(names(columns(frame)), sql.Identifier(*frame.table().split("."))))
    return sql.Identifier("incoming")


def run(
    cursor: psycopg.Cursor,
    frame: type[Frame],
    *,
    rows: int,
    place: tuple[datetime, datetime],
    instant: datetime,
    batch_id: int,
) -> tuple[int, int, int]:
    """
    Merges the ``rows`` rows of ``incoming``, which lie between the instants of ``place`` and were written at
    ``instant``; returns how many were new, changed and unchanged.

    A dated row begins after the one that it supersedes, even when its writer took the instant earlier than the other.
    """
    dated, keys = frame in DATED, frame.keys()
    values = [name for name in frame.columns() if name not in {*keys, "batch_id"}]
    moment = (
        sql.SQL("greatest(i.ingested_at, t.ingested_at + interval '1 microsecond')") if dated else sql.Literal(instant)
    )
    new = [sql.SQL("{0} = i.{0}").format(sql.Identifier(name)) for name in frame.columns() if name not in keys]
    if dated:
        new.append(sql.SQL("ingested_at = {}").format(moment))
    schema, name = frame.table().split(".")
    parts: dict[str, sql.Composable] = {
        "name": sql.Literal(frame.table()),
        "table": sql.Identifier(schema, name),
        "incoming": sql.Identifier("incoming"),
        "revision": sql.Identifier(schema, f"{name}_revision"),
        "same": sql.SQL(" AND ").join(sql.SQL("t.{0} = i.{0}").format(sql.Identifier(key)) for key in keys),
        # the join alone would not tell the planner (nor TimescaleDB, which chunks) where to look
        "place": _between(*map(sql.Literal, place)),
        "changed_place": _between(*map(sql.Literal, place)),
        "differ": sql.SQL(" OR ").join(
            sql.SQL("t.{0} IS DISTINCT FROM i.{0}").format(sql.Identifier(v)) for v in values
        ),
        "all": names(columns(frame)),
        "old": names(columns(frame), "t"),
        "old_keys": names(keys, "t"),
        "new": sql.SQL(", ").join(new),
        "moment": moment,
        "batch": sql.Literal(batch_id),
    }

    def execute(statement: str) -> int:
        cursor.execute(sql.SQL(statement).format(**parts))
        return cursor.rowcount

    cursor.execute(sql.SQL("ANALYZE incoming ({})").format(names(keys)))  # without it the planner guesses wildly
    for _ in range(ATTEMPTS):
        try:
            with cursor.connection.transaction():
                execute(LOOK)
                found, changed, *ends = _row(cursor)
                if changed:
                    _replace(execute, parts, frame, rows, changed)
                if found < rows:
                    _check(execute(INSERT) == rows - found)
        except (_Overtaken, psycopg.errors.UniqueViolation):
            continue
        except psycopg.errors.FeatureNotSupported:
            first, last = map(sql.Literal, ends)
            parts |= {"first": first, "last": last, "changed_place": _between(first, last)}
            execute(IN_COLUMNS)
            for (chunk,) in cursor.fetchall():
                cursor.execute("SELECT decompress_chunk(%s::regclass)", [chunk])
            continue
        return rows - found, changed, found - changed
    raise Unavailable(f"other writers keep changing the same rows of {frame.table()}; try again")


def _replace(
    execute: Callable[[str], int], parts: dict[str, sql.Composable], frame: type[Frame], rows: int, changed: int
) -> None:
    """Keeps and replaces the rows that differ; a table of them alone is cheaper than to join all twice more."""
    few = rows > MANY and changed < rows / 4
    if few:
        execute(NARROW)
    parts["changes"] = sql.Identifier("differing" if few else "incoming")
    if frame in VERSIONED:
        _check(execute(KEEP) == changed)
    _check(execute(REPLACE) == changed)


def _check(alone: bool) -> None:
    if not alone:
        raise _Overtaken


def _between(first: sql.Literal, last: sql.Literal) -> sql.Composed:
    return sql.SQL("t.ts BETWEEN {} AND {}").format(first, last)


def columns(frame: type[Frame]) -> list[str]:
    """The columns of a frame's table."""
    return [*frame.columns(), *(["ingested_at"] if frame in DATED else [])]


def names(columns: Iterable[str], alias: str | None = None) -> sql.Composed:
    """``a, b, c``, or ``t.a, t.b, t.c``."""
    return sql.SQL(", ").join(sql.Identifier(alias, name) if alias else sql.Identifier(name) for name in columns)


def _row(cursor: psycopg.Cursor) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate has a row
    return row
