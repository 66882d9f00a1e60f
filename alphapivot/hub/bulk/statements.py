"""The statements of the store of scores, and the names of its tables and columns; see sql/signals.sql."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from alphapivot.frames import Composites, Frame, Signals

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKED: tuple[type[Frame], ...] = (Signals, Composites)
PARTS = ("series", "row", "block")  # the tables NAME_series ... of a frame's store

KNOWN = "SELECT count(*) FROM unnest({types}) AS k ({texts}) JOIN {series} AS s USING ({texts})"
MISSING = """
    INSERT INTO {series} ({texts}) SELECT DISTINCT {texts} FROM unnest({types}) AS k ({texts}) ORDER BY {texts}
    ON CONFLICT DO NOTHING
"""
LOCK = """
    SELECT k.place, s.series_id FROM unnest({types}) WITH ORDINALITY AS k ({texts}, place)
    JOIN {series} AS s USING ({texts}) ORDER BY s.series_id FOR NO KEY UPDATE OF s
"""
# of each series the blocks that reach into its span, and the rows in it as one more; OFFSET 0 has a series' blocks read
# by index, where the planner would rather read those of all series
OVERLAP = """
    WITH g AS (SELECT * FROM unnest(%s::integer[], %s::timestamptz[], %s::timestamptz[]) AS g (series_id, first, last))
    SELECT g.series_id, true, b.ts, {values} FROM g CROSS JOIN LATERAL (
        SELECT * FROM {block} AS b
        WHERE b.series_id = g.series_id AND b.last_ts >= g.first AND b.first_ts <= g.last OFFSET 0
    ) AS b
    UNION ALL
    SELECT g.series_id, false, r.* FROM g CROSS JOIN LATERAL (
        SELECT array_agg(r.ts), {aggregates} FROM {row} AS r
        WHERE r.series_id = g.series_id AND r.ts BETWEEN g.first AND g.last
    ) AS r (ts, {values}) WHERE r.ts IS NOT NULL
"""
REMOVE_BLOCKS = """
    DELETE FROM {block} AS b USING unnest(%s::integer[], %s::timestamptz[]) AS g (series_id, last_ts)
    WHERE b.series_id = g.series_id AND b.last_ts = g.last_ts
"""
REMOVE_ROWS = """
    DELETE FROM {row} AS r
    USING unnest(%s::integer[], %s::timestamptz[], %s::timestamptz[]) AS g (series_id, first, last)
    WHERE r.series_id = g.series_id AND r.ts BETWEEN g.first AND g.last
"""
SERIES = "SELECT {texts} FROM {series} WHERE scope = %s AND symbol = %s"
LONG = "SELECT series_id FROM {row} GROUP BY series_id HAVING count(*) >= %s ORDER BY series_id"
FREE = "SELECT series_id FROM {series} WHERE series_id = ANY(%s) FOR NO KEY UPDATE SKIP LOCKED"
# the span of the oldest rows that fill whole blocks
WHOLE = """
    SELECT series_id, min(ts), max(ts) FROM (
        SELECT series_id, ts, row_number() OVER (PARTITION BY series_id ORDER BY ts) AS number,
               count(*) OVER (PARTITION BY series_id) AS rows
        FROM {row} WHERE series_id = ANY(%s)
    ) AS r WHERE number <= rows / %s * %s GROUP BY series_id
"""
# a writer may have come between the two: only the second sees its scores
EMPTY = """
    SELECT s.series_id FROM {series} AS s WHERE NOT EXISTS (SELECT FROM {row} AS r WHERE r.series_id = s.series_id)
    AND NOT EXISTS (SELECT FROM {block} AS b WHERE b.series_id = s.series_id) FOR UPDATE OF s SKIP LOCKED
"""
FORGET = """
    DELETE FROM {series} AS s WHERE s.series_id = ANY(%s)
    AND NOT EXISTS (SELECT FROM {row} AS r WHERE r.series_id = s.series_id)
    AND NOT EXISTS (SELECT FROM {block} AS b WHERE b.series_id = s.series_id)
"""
READ = """
    SELECT {keys} b.ts {arrays} FROM {series} AS s CROSS JOIN LATERAL (
        SELECT * FROM {block} AS b
        WHERE b.series_id = s.series_id AND b.last_ts > {after} AND b.first_ts <= {until} OFFSET 0
    ) AS b WHERE {where}
    UNION ALL
    SELECT {keys} r.* FROM {series} AS s CROSS JOIN LATERAL (
        SELECT array_agg(r.ts) {aggregates} FROM {row} AS r
        WHERE r.series_id = s.series_id AND r.ts > {after} AND r.ts <= {until}
    ) AS r (ts {arrays}) WHERE {where} AND r.ts IS NOT NULL
"""


def texts(frame: type[Frame]) -> list[str]:
    """The columns that name a series."""
    return [name for name in frame.keys() if name != "ts"]  # noqa: SIM118 - a frame is no dict


def values(frame: type[Frame]) -> list[str]:
    """The columns of a series but for ts."""
    return [name for name in frame.columns() if name not in frame.keys()]  # noqa: SIM118 - as above


def tables(frame: type[Frame]) -> dict[str, sql.Identifier]:
    """Part of the store -> its table."""
    schema, table = frame.table().split(".")
    return {part: sql.Identifier(schema, f"{table}_{part}") for part in (*PARTS, "revision")}


def names(frame: type[Frame]) -> dict[str, sql.Composable]:
    """What a writer's statements name."""
    named = texts(frame)
    return {
        **tables(frame),
        "texts": listed(named),
        "types": sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in named),
        "values": listed(values(frame)),
        "aggregates": aggregates(values(frame)),
    }


def listed(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def aggregates(columns: Sequence[str]) -> sql.Composed:
    """The columns of rows as arrays."""
    return sql.SQL(", ").join(sql.SQL("array_agg(r.{})").format(sql.Identifier(name)) for name in columns)
