"""A year of five-minute schedules in the Prefect server's tables: old runs and their logs go, the others stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from flows.server import environment

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(900)]
COPY = """
    INSERT INTO {table}
    SELECT (jsonb_populate_record(NULL::{table}, to_jsonb(original) || jsonb_build_object(
        {keys}, 'created', at, 'updated', at))).*
    FROM (SELECT * FROM {table} {where} LIMIT 1) original,
         generate_series('{now}'::timestamptz - interval '365 days', '{now}', interval '5 minutes') at
"""
RUN = (
    "'id', md5('run' || at)::uuid, 'idempotency_key', 'year' || at, 'state_id', NULL, 'start_time', at, 'end_time', at"
)
LOG = "'id', md5('log' || at)::uuid, 'flow_run_id', md5('run' || at)::uuid, 'task_run_id', NULL, 'timestamp', at"


@pytest.fixture(scope="module")
def more_environ():
    return {"PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "5"}


def test_runs_and_logs_of_a_year_are_vacuumed_and_runs_go_on(checkout, server):
    checkout.completed(checkout.trigger("maintenance"))
    with psycopg.connect(server.database("prefect"), autocommit=True) as prefect:

        def count(table: str, when: str) -> int:
            return prefect.execute(f"SELECT count(*) FROM {table} WHERE {when}").fetchone()[0]

        checkout.eventually(lambda: count("log", "flow_run_id IS NOT NULL"), bool)  # logs arrive in batches
        now = datetime.now(UTC).isoformat()  # a run and its log share their instant
        prefect.execute(COPY.format(now=now, table="log", keys=LOG, where="WHERE flow_run_id IS NOT NULL"))
        prefect.execute(
            COPY.format(now=now, table="flow_run", keys=RUN, where="WHERE state_type = 'COMPLETED'")
        )  # after their logs: a run is vacuumed at once
        cut = datetime.now(UTC) - timedelta(days=environment.RUN_DAYS + 1)
        old = f"created < '{cut.isoformat()}'"
        checkout.eventually(lambda: (count("flow_run", old), count("log", old)), lambda left: left == (0, 0), 600)
        young = environment.RUN_DAYS * 288 - 288
        assert count("flow_run", "TRUE") > young
        assert count("log", "TRUE") > young
    checkout.completed(checkout.trigger("maintenance"))
