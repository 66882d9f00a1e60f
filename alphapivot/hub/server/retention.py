"""
Maintenance of the hub: deletes the rows that [retention] no longer keeps, and refreshes PostgreSQL's statistics.

The procedure ops.retain in ``sql/hub.sql`` says what goes, and what stays at any age. Without superseded versions, runs
of their time cannot be reproduced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from alphapivot.hub import Hub
from alphapivot.hub.bulk import packed, statements

if TYPE_CHECKING:
    from alphapivot.config.sections.runtime import Retention

STORES = [f"{frame.table()}_{part}" for frame in statements.PACKED for part in statements.PARTS]
TABLES = ("market.bar", "market.bar_revision", *STORES)
HYPERTABLE = "market.bar"
COLUMNSTORE = 365  # days, unless [retention] sets it; as in sql/timescale.sql


def maintain(hub: Hub, retention: Retention, progress: Callable[[str], None] = lambda _: None) -> dict[str, int]:
    """
    Deletes expired rows by [retention], one month at a time, packs scores, vacuums, and sets TimescaleDB's policies
    where it is installed. Returns kind -> rows deleted; ``progress`` gets a line per month. A second call resumes.
    """
    policy = retention.model_dump(mode="json", exclude={"columnstore"}, exclude_none=True)
    with hub.errors(), hub.dbapi(autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.add_notice_handler(lambda notice: progress(notice.message_primary or ""))
        (before,) = connection.execute("SELECT coalesce(max(maintenance_id), 0) FROM ops.maintenance").fetchone() or (
            0,
        )
        connection.execute("CALL ops.retain(0, %s)", [Jsonb(policy)])
        query = "SELECT what, rows FROM ops.maintenance WHERE maintenance_id > %s ORDER BY maintenance_id"
        deleted: dict[str, int] = dict(connection.execute(query, [before]).fetchall())
        for frame in statements.PACKED:
            progress(f"packing of {frame.table()}")
            packed.maintain(connection, frame)
        for table in TABLES:
            progress(f"vacuum of {table}")
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(*table.split("."))))
        for line in _policies(connection, retention, policy):
            progress(line)
    return deleted


def _policies(connection: Connection, retention: Retention, policy: dict[str, object]) -> list[str]:
    """Sets TimescaleDB's jobs by [retention], returns a line each: the columnstore policy, the daily ops.retain."""
    licence = connection.execute(
        "SELECT current_setting('timescaledb.license', true) FROM pg_extension WHERE extname = 'timescaledb'"
    ).fetchone()
    if licence != ("timescale",):
        return []
    days = retention.columnstore or COLUMNSTORE
    connection.execute(f"CALL remove_columnstore_policy('{HYPERTABLE}', if_exists => true)")
    connection.execute(f"CALL add_columnstore_policy('{HYPERTABLE}', after => interval '{days} days')")
    jobs = "SELECT job_id FROM timescaledb_information.jobs WHERE (proc_schema, proc_name) = ('ops', 'retain')"
    job = connection.execute(jobs).fetchone()
    if job is not None:
        connection.execute("SELECT delete_job(%s)", job)
    lines = [f"TimescaleDB moves chunks older than {days} days into its columnstore"]
    if any(policy.values()):
        connection.execute("SELECT add_job('ops.retain', '1 day', config => %s)", [Jsonb(policy)])
        lines.append("TimescaleDB deletes expired rows daily, as [retention] says")
    return lines
