"""Has anything changed? Row counts and digests of all that the pipeline makes, for the eye and for tests."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from alphapivot.hub import Hub

SCHEMAS = ("market", "signals", "trading", "paper")
PROGRESS = (
    "signals.watermark",
    "trading.lease",
    "market.series",
)  # how far a run came and how many there were: not what they made


# When something was written and by which run differs between fresh databases. `at` is the wall clock of these
# tables, event_id follows the order of rows on disk; a decision's bars name the instant up to which they were known.
WRITTEN = ("ingested_at", "superseded_at", "batch_id", "run_id", "found_at", "known_at")
WRITTEN_IN = {"trading.mark": ["at"], "trading.order_event": ["at", "event_id"], "trading.journal": ["at"]}
SHOWN = {("trading.decision", "bars"): sql.SQL("(bars - 'known_at')")}


@dataclass(frozen=True)
class Held:
    """``digest`` is of what was made: the same market and config give it on every machine; ``whole`` is of all."""

    rows: int
    digest: str
    whole: str


def tables(hub: Hub) -> dict[str, Held]:
    """
    Table -> what it holds, by name. The order of rows does not matter; ``ops`` and PROGRESS are left out, for they log
    every run.
    """
    with hub.errors(), hub.dbapi() as connection:
        found = connection.execute(
            "SELECT n.nspname || '.' || c.relname, array_agg(a.attname::text ORDER BY a.attnum)"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE n.nspname = ANY(%s) AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1",
            [list(SCHEMAS)],
        ).fetchall()
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}, count(*), {}, {} FROM {} AS t").format(
                sql.Literal(name),
                _digest(sql.SQL("ROW({})::text").format(sql.SQL(", ").join(_made(name, columns)))),
                _digest(sql.SQL("t::text")),
                sql.Identifier(*name.split(".")),
            )
            for name, columns in found
            if name not in PROGRESS
        )
        return {name: Held(*held) for name, *held in sorted(connection.execute(query).fetchall())}


def _made(table: str, columns: list[str]) -> list[sql.Composable]:
    left_out = {*WRITTEN, *WRITTEN_IN.get(table, [])}
    return [SHOWN.get((table, name), sql.Identifier(name)) for name in columns if name not in left_out]


def _digest(text: sql.Composable) -> sql.Composed:
    return sql.SQL("to_hex((coalesce(sum(hashtextextended({}, 0)), 0) % 9223372036854775807)::bigint)").format(text)
