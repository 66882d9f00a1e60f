"""A process's hub: found automatically, reconnecting, and silent about its password."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

import alphapivot.hub
from alphapivot.errors import AlphaPivotError, Unavailable
from alphapivot.frames import FRAMES, Bars
from alphapivot.hub import Hub
from alphapivot.hub.tables import ops


def kill_connections(hub):
    """Does what a restart of the server or a firewall does."""
    with psycopg.connect(hub.url, autocommit=True) as other:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        other.execute(f"SELECT pg_terminate_backend(pid) {others}")
        while other.execute(f"SELECT count(*) {others}").fetchone() != (0,):
            time.sleep(0.01)


@pytest.mark.parametrize("frame", FRAMES)
def test_an_empty_table_reads_as_the_empty_frame(hub, frame):
    df = hub.read(frame)
    assert df.dtypes.to_dict() == frame.empty().dtypes.to_dict()
    assert frame.validate(df) is not None


def test_a_connection_that_was_lost_is_replaced_at_the_next_read(hub):
    hub.read(Bars)
    with hub.engine.connect() as conn:
        conn.execute(text("SELECT 1"))
    kill_connections(hub)
    assert hub.read(Bars).empty
    with hub.engine.connect() as conn:
        assert conn.execute(text("SELECT 1")).scalar_one() == 1


def test_a_bad_query_is_not_taken_for_a_lost_connection(hub):
    with pytest.raises(Exception, match="division by zero") as error:
        hub.readers().fetch("SELECT 1/0")
    assert not isinstance(error.value, AlphaPivotError)
    assert hub.readers().fetch("SELECT 1 AS x").num_rows == 1


def test_threads_read_at_the_same_time_and_few_connections_are_kept(hub):
    tables = []
    threads = [
        threading.Thread(target=lambda: tables.append(hub.readers().fetch("SELECT pg_sleep(0.5)::text")))
        for _ in range(8)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables) == 8
    assert time.monotonic() - began < 3
    with hub.engine.connect() as conn:
        open_now = conn.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).scalar_one()
    assert open_now <= 4


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda hub: hub.engine.connect(), id="engine"),
        pytest.param(lambda hub: hub.read(Bars), id="read"),
        pytest.param(lambda hub: hub.migrate(), id="migrate"),
        pytest.param(lambda hub: hub.dbapi(), id="dbapi"),
        pytest.param(lambda hub: ops.load_run(hub, "r"), id="load_run"),
    ],
)
def test_a_database_that_is_down_is_unavailable_with_what_to_do_and_without_the_password(hub, server, use):
    gone = Hub(hub.url.replace(f":{server.port}/", ":9/"))
    with pytest.raises(Unavailable, match=r"at 127\.0\.0\.1:9 does not answer: .*refused.*alphapivot db url") as error:
        use(gone)
    assert server.password not in str(error.value)


def test_a_database_lost_in_the_middle_of_a_statement_is_unavailable(hub):
    with pytest.raises(Unavailable), hub.engine.connect() as conn:
        conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with hub.engine.connect() as conn:
        assert conn.execute(text("SELECT 1")).scalar_one() == 1


def test_a_statement_that_takes_too_long_is_ended_and_unavailable(hub):
    slow = text("SET LOCAL statement_timeout = '50ms'; SELECT pg_sleep(10)")
    with pytest.raises(Unavailable, match="statement timeout"), hub.engine.connect() as conn:
        conn.execute(slow)
    with hub.engine.connect() as conn:
        assert conn.execute(text("SHOW statement_timeout")).scalar_one() == "10min"
        assert conn.execute(text("SHOW timezone")).scalar_one() == "UTC"


def test_nothing_that_is_printed_holds_the_password(hub, server):
    assert server.password in hub.url
    assert server.password not in repr(hub) + str(hub) + repr(hub.engine) + str(hub.engine.url) + repr(vars(hub.engine))


def test_connect_gives_one_migrated_hub_for_an_address(server_url, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("connected"))
    hub = alphapivot.hub.connect()
    assert alphapivot.hub.connect() is hub
    assert hub.read(Bars).empty
    hub.close()


def test_connect_starts_the_embedded_server_where_no_url_is_configured(home_root):
    """In its own process, since a hub is cached for a process's life."""
    checkout = Path(__file__).parents[2]
    home = home_root / "connects"
    code = (
        "from alphapivot import hub; from alphapivot.hub.server import embedded; from alphapivot.frames import Bars;"
        "print(len(hub.connect().read(Bars)), embedded.status().data); embedded.stop()"
    )
    env = {"ALPHAPIVOT_HOME": str(home), "PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == f"0 {home / 'postgres' / 'data'}\n", done.stderr
