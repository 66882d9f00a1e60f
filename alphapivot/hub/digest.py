"""Has anything changed? Row counts and digests of all that the pipeline makes, for the eye and for tests."""

from __future__ import annotations

from psycopg import sql

from alphapivot.hub import Hub

SCHEMAS = ("market", "signals", "trading", "paper")


def tables(hub: Hub) -> dict[str, tuple[int, str]]:
    """
    Table -> (rows, digest of all their values). The order of rows does not matter; ``ops`` is left out, for it logs every run.
    """
    with hub.engine.connect() as connection:
        driver = connection.connection.driver_connection
        names = driver.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s)"
            " AND (schemaname, tablename) <> ('trading', 'lease') ORDER BY 1, 2",  # its fence is raised by every run
            [list(SCHEMAS)],
        ).fetchall()
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}, count(*), to_hex((coalesce(sum(hashtextextended(t::text, 0)), 0) % 9223372036854775807)::bigint) FROM {} AS t").format(
                sql.Literal(f"{schema}.{table}"), sql.Identifier(schema, table)
            )
            for schema, table in names
        )
        return {name: (rows, found) for name, rows, found in driver.execute(query).fetchall()}
