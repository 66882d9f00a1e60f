"""
The merge of an upsert: moves rows from a temporary table into the table, and keeps the versions that they replace.

Not a single INSERT ... ON CONFLICT DO UPDATE: that replaces whatever row it meets, even one that another writer has
just inserted and that no earlier statement could have kept; and it locks, hence rewrites, unchanged rows. Instead:
count; lock and keep the rows to be replaced; replace them; insert the new ones. If another writer comes in between, row
counts differ or a key exists twice, and the merge starts again.
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
"""  # in key order, so that two writers wait for each other instead of deadlocking
REPLACE = "UPDATE {table} AS t SET {new} FROM {changes} AS i WHERE {same} AND {changed_place} AND ({differ})"
INSERT = """
    INSERT INTO {table} ({all}) SELECT {all} FROM {incoming} AS i
    WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {same} AND {place})
"""
# TimescaleDB cannot lock rows in its columnstore: the chunk becomes rows again until the policy converts it back
IN_COLUMNS = """
    SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
    WHERE format('%I.%I', hypertable_schema, hypertable_name)::regclass = {name}::regclass
      AND is_compressed AND range_start <= {last} AND range_end > {first}
"""


class _Overtaken(Exception):  # noqa: N818 - not an error: the merge starts again
    """Another writer changed the same rows between two statements."""


def incoming(cursor: psycopg.Cursor, frame: type[Frame]) -> sql.Identifier:
    """Creates an empty temporary table for the rows of an upsert; returns its name."""
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
    Merges the ``rows`` rows of ``incoming``, whose ts lie within ``place`` and which are dated ``instant``; returns how
    many were new, changed and unchanged.

    A dated row begins after the one it supersedes, even if its writer took its instant first.
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
        # the join alone would not tell the planner where to look, nor TimescaleDB which chunks
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
                existing, changed, *ends = _row(cursor)
                if changed:
                    _replace(execute, parts, frame, rows, changed)
                if existing < rows:
                    _check(execute(INSERT) == rows - existing)
        except (_Overtaken, psycopg.errors.UniqueViolation):
            continue
        except psycopg.errors.FeatureNotSupported:
            first, last = map(sql.Literal, ends)
            parts |= {"first": first, "last": last, "changed_place": _between(first, last)}
            execute(IN_COLUMNS)
            for (chunk,) in cursor.fetchall():
                cursor.execute("SELECT decompress_chunk(%s::regclass)", [chunk])
            continue
        return rows - existing, changed, existing - changed
    raise Unavailable(f"other writers keep changing the same rows of {frame.table()}; try again")


def _replace(
    execute: Callable[[str], int], parts: dict[str, sql.Composable], frame: type[Frame], rows: int, changed: int
) -> None:
    """Keeps and replaces the rows that differ; where few do, a table of them is cheaper than two more full joins."""
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
    assert row is not None  # noqa: S101 - an aggregate always returns a row
    return row
