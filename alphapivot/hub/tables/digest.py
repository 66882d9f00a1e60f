"""Row counts and digests of the pipeline's tables: they show, and test, whether anything has changed."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from alphapivot.hub import Hub
from alphapivot.hub.bulk import statements

SCHEMAS = ("market", "signals", "trading", "paper")
STORED = [frame.table() for frame in statements.PACKED]  # views; how their rows are stored is no result
PROGRESS = (
    "signals.watermark",
    "trading.lease",
    "market.series",
    "trading.risk_part",  # what a report of a run says
)  # a run's progress, not its results


# When and by which run a row was written differs between databases and is not a result. `at` is wall-clock time in
# these tables, event_id follows the order of rows on disk; a decision's bars hold their known_at.
WRITTEN = ("ingested_at", "superseded_at", "batch_id", "run_id", "found_at", "known_at")
WRITTEN_IN = {
    "trading.book_cash": ["cash_id", "recorded_at"],
    "trading.journal": ["at"],
    "trading.mark": ["at"],
    "trading.order_event": ["at", "event_id"],
}
SHOWN = {("trading.decision", "bars"): sql.SQL("(bars - 'known_at')")}


@dataclass(frozen=True)
class TableDigest:
    """``digest`` covers the results: equal market and config give the same on any machine; ``whole`` covers all."""

    rows: int
    digest: str
    whole: str


def tables(hub: Hub) -> dict[str, TableDigest]:
    """Table -> its TableDigest, whatever the order of rows. ``ops`` and PROGRESS are left out: they log every run."""
    with hub.errors(), hub.dbapi() as connection:
        columns_of = connection.execute(
            "SELECT n.nspname || '.' || c.relname, array_agg(a.attname::text ORDER BY a.attnum)"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE n.nspname = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped"
            " AND (c.relkind = 'r' OR c.oid = ANY(%s::regclass[])) AND c.oid <> ALL(%s::regclass[]) GROUP BY 1",
            [list(SCHEMAS), STORED, [f"{name}_{part}" for name in STORED for part in statements.PARTS]],
        ).fetchall()
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}, count(*), {}, {} FROM {} AS t").format(
                sql.Literal(name),
                _digest(sql.SQL("ROW({})::text").format(sql.SQL(", ").join(_results(name, columns)))),
                _digest(sql.SQL("t::text")),
                sql.Identifier(*name.split(".")),
            )
            for name, columns in columns_of
            if name not in PROGRESS
        )
        return {name: TableDigest(*row) for name, *row in sorted(connection.execute(query).fetchall())}


def _results(table: str, columns: list[str]) -> list[sql.Composable]:
    left_out = {*WRITTEN, *WRITTEN_IN.get(table, [])}
    return [SHOWN.get((table, name), sql.Identifier(name)) for name in columns if name not in left_out]


def _digest(text: sql.Composable) -> sql.Composed:
    return sql.SQL("to_hex((coalesce(sum(hashtextextended({}, 0)), 0) % 9223372036854775807)::bigint)").format(text)
