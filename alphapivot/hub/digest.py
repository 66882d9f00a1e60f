"""Has anything changed? Row counts and digests of all that the pipeline makes, for the eye and for tests."""

from __future__ import annotations

from psycopg import sql

from alphapivot.hub import Hub

SCHEMAS = ("market", "signals", "trading", "paper")
PROGRESS = (
    "signals.watermark",
    "trading.lease",
    "market.series",
)  # how far a run came and how many there were: not what they made


def tables(hub: Hub) -> dict[str, tuple[int, str]]:
    """
    Table -> (rows, digest of all their values), by name. The order of rows does not matter; ``ops`` and PROGRESS are
    left out, for they
    log every run.
    """
    with hub.errors(), hub.dbapi() as connection:
        names = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s)"
            " AND (schemaname, tablename) <> ('trading', 'lease') ORDER BY 1, 2",  # its fence is raised by every run
            [list(SCHEMAS)],
        ).fetchall()
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL(
                "SELECT {}, count(*), to_hex((coalesce(sum(hashtextextended(t::text, 0)), 0)"
                " % 9223372036854775807)::bigint) FROM {} AS t"
            ).format(sql.Literal(f"{schema}.{table}"), sql.Identifier(schema, table))
            for schema, table in names
            if f"{schema}.{table}" not in PROGRESS
        )
        return {name: (rows, found) for name, rows, found in sorted(connection.execute(query).fetchall())}
