"""A database that a test used is lent to the next one as if it were new."""

from __future__ import annotations

import psycopg
import pytest

from tests.databases import Databases

DONE = "INSERT INTO ops.maintenance (what, before, rows) VALUES ('bars', now(), 1) RETURNING maintenance_id"


@pytest.fixture
def databases(server, template):
    own = "lender_of_copies"  # another test may have granted something on the template itself, which no copy has
    server.database(own, template=template)
    lender = Databases(server, own)
    yield lender
    for name in [*lender.free, own]:
        server.drop(name)


def execute(url: str, *statements: str) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            result = connection.execute(statement)
        return result.fetchall() if result.description else []


def test_rows_and_numbers_of_the_test_before_are_gone_and_so_is_its_name(databases):
    with databases.lent() as before:
        refused = psycopg.connect(before, autocommit=True)
        with pytest.raises(psycopg.Error):  # takes a number and leaves no row
            refused.execute("INSERT INTO trading.control (book) VALUES (NULL)")
        (number,) = execute(before, DONE)
        oid = execute(before, "SELECT oid FROM pg_database WHERE datname = current_database()")
        counts = "SELECT count(*) FROM ops.migration"
        applied = execute(before, counts)
    with pytest.raises(psycopg.OperationalError):  # a connection that the test left open
        refused.execute("SELECT 1")
    with databases.lent() as after:
        assert execute(after, "SELECT oid FROM pg_database WHERE datname = current_database()") == oid
        assert after != before
        assert execute(after, "SELECT count(*) FROM ops.maintenance") == [(0,)]
        assert execute(after, counts) == applied
        assert execute(after, DONE) == [number] == [(1,)]
        assert execute(after, "SELECT last_value FROM trading.control_control_id_seq WHERE is_called") == []


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE more (x int)",
        "ALTER TABLE ops.maintenance ADD COLUMN more int",
        "ALTER TABLE trading.trade DISABLE TRIGGER never_emptied",
        "CREATE OR REPLACE FUNCTION trading.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "GRANT SELECT ON ops.maintenance TO pg_monitor",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 9999', current_database()); END $$",
        "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO pg_monitor', current_database()); END $$",
        "UPDATE ops.migration SET checksum = 'x' WHERE name = (SELECT max(name) FROM ops.migration)",
        "DELETE FROM ops.migration",
    ],
)
def test_what_is_more_than_rows_is_seen(databases, hub, change):
    with hub.dbapi() as connection, connection.transaction(force_rollback=True):
        connection.execute(change)
        assert not databases.emptied(connection)


def test_what_is_seen_is_not_lent_again(databases):
    with databases.lent() as url:
        execute(url, "CREATE TABLE more (x int)")
    assert databases.free == []
    name = url.rpartition("/")[2]
    assert execute(databases.server.url, f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == [(0,)]


def test_what_a_test_dropped_is_made_again(databases):
    with databases.lent() as url:
        databases.server.drop(url.rpartition("/")[2])
    with databases.lent() as url:
        assert execute(url, DONE) == [(1,)]
