"""
Keeping the hub in shape: what [retention] lets go goes, and PostgreSQL learns anew what is there.

``sql/hub.sql`` says what goes and what stays whatever its age. With superseded versions goes the power to
make runs of their time again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from alphapivot.hub import Hub

if TYPE_CHECKING:
    from alphapivot.config.sections.runtime import Retention

TABLES = ("market.bar", "market.bar_revision", "signals.signal", "signals.composite")
HYPERTABLES = ("market.bar", "signals.signal", "signals.composite")
COLUMNSTORE = 365  # days, where [retention] names none; as in sql/timescale.sql


def maintain(hub: Hub, retention: Retention, progress: Callable[[str], None] = lambda _: None) -> dict[str, int]:
    """
    Deletes what [retention] lets go, a month's rows at a time, vacuums, and gives TimescaleDB, where it is, the
    policies. Returns how many rows of each kind went; ``progress`` is told each month. Done again it goes on.
    """
    terms = retention.model_dump(mode="json", include={"bars", "revisions", "replays"}, exclude_none=True)
    with hub.errors(), hub.dbapi(autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.add_notice_handler(lambda notice: progress(notice.message_primary or ""))
        (before,) = connection.execute("SELECT coalesce(max(maintenance_id), 0) FROM ops.maintenance").fetchone() or (
            0,
        )
        connection.execute("CALL ops.retain(0, %s)", [Jsonb(terms)])
        query = "SELECT what, rows FROM ops.maintenance WHERE maintenance_id > %s ORDER BY maintenance_id"
        gone: dict[str, int] = dict(connection.execute(query, [before]).fetchall())
        for table in TABLES:
            progress(f"vacuum of {table}")
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(*table.split("."))))
        for line in _policies(connection, retention, terms):
            progress(line)
    return gone


def _policies(connection: Connection, retention: Retention, terms: dict[str, object]) -> list[str]:
    """TimescaleDB's own jobs, as [retention] says: when chunks become columns, and the daily call of ops.retain."""
    licence = connection.execute(
        "SELECT current_setting('timescaledb.license', true) FROM pg_extension WHERE extname = 'timescaledb'"
    ).fetchone()
    if licence != ("timescale",):
        return []
    days = retention.columnstore or COLUMNSTORE
    for table in HYPERTABLES:
        connection.execute(f"CALL remove_columnstore_policy('{table}', if_exists => true)")
        connection.execute(f"CALL add_columnstore_policy('{table}', after => interval '{days} days')")
    jobs = "SELECT job_id FROM timescaledb_information.jobs WHERE (proc_schema, proc_name) = ('ops', 'retain')"
    job = connection.execute(jobs).fetchone()
    if job is not None:
        connection.execute("SELECT delete_job(%s)", job)
    done = [f"TimescaleDB turns what is {days} days old into columns"]
    if any(terms.values()):
        connection.execute("SELECT add_job('ops.retain', '1 day', config => %s)", [Jsonb(terms)])
        done.append("TimescaleDB deletes each day what [retention] lets go")
    return done
