"""Migrations: applied once each, in order, and never rewritten."""

from __future__ import annotations

import threading

import psycopg
import pytest

from alphapivot.errors import ConfigError
from alphapivot.hub.server.migrate import migrate


@pytest.fixture
def connection(server_url):
    with psycopg.connect(server_url(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "001_first.sql").write_text("CREATE TABLE a (x int);\nINSERT INTO a VALUES (1);\n")
    (tmp_path / "002_second.sql").write_text("ALTER TABLE a ADD y int DEFAULT 2;\n")
    return tmp_path


def test_files_are_applied_in_order_and_once_each(connection, folder):
    assert migrate(connection, folder) == ["001_first", "002_second"]
    assert migrate(connection, folder) == []
    assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, 2)]


def test_a_new_file_is_applied_to_a_database_that_has_the_others(connection, folder):
    migrate(connection, folder)
    (folder / "003_third.sql").write_text("INSERT INTO a VALUES (5, 6)")
    assert migrate(connection, folder) == ["003_third"]


def test_a_changed_old_file_is_an_error_that_names_it(connection, folder):
    migrate(connection, folder)
    (folder / "001_first.sql").write_text("CREATE TABLE a (x bigint)")
    with pytest.raises(ConfigError, match=r"001_first\.sql has changed since it was applied"):
        migrate(connection, folder)


def test_line_ends_are_no_change(connection, folder):
    migrate(connection, folder)
    (folder / "001_first.sql").write_bytes((folder / "001_first.sql").read_bytes().replace(b"\n", b"\r\n"))
    assert migrate(connection, folder) == []


def test_a_database_newer_than_the_code_is_an_error(connection, folder):
    migrate(connection, folder)
    (folder / "002_second.sql").unlink()
    with pytest.raises(ConfigError, match="code is older than the database"):
        migrate(connection, folder)


def test_a_new_file_before_an_applied_one_is_an_error(connection, folder):
    (folder / "003_third.sql").write_text("SELECT 1")
    migrate(connection, folder)
    (folder / "002_zwei.sql").write_text("SELECT 1")
    with pytest.raises(ConfigError, match="comes before 003_third") as error:
        migrate(connection, folder)
    assert "several files have the number 002" in str(error.value)


def test_a_failing_file_leaves_nothing_behind_and_its_line_is_named(connection, folder):
    (folder / "002_second.sql").write_text("CREATE TABLE b (x int);\n\nALTER TABLE nowhere ADD y int;\n")
    with pytest.raises(ConfigError, match=r'002_second\.sql.*"nowhere" does not exist'):
        migrate(connection, folder)
    assert connection.execute("SELECT to_regclass('a'), to_regclass('b')").fetchone() == ("a", None)
    assert connection.execute("SELECT name FROM ops.migration").fetchall() == [("001_first",)]
    (folder / "002_second.sql").write_text("CREATE TABLE b (x int);\n")
    assert migrate(connection, folder) == ["002_second"]


def test_two_processes_that_migrate_at_once_apply_each_file_once(server_url, folder):
    url = server_url()
    (folder / "001_first.sql").write_text("CREATE TABLE a (x int); SELECT pg_sleep(0.3)")
    done = []

    def run():
        with psycopg.connect(url, autocommit=True) as connection:
            done.append(migrate(connection, folder))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [[], [], ["001_first", "002_second"]]


def test_without_timescaledb_in_the_preload_the_tables_stay_ordinary_and_the_connection_lives(hub):
    with hub.engine.connect() as connection:
        extensions = connection.exec_driver_sql("SELECT extname FROM pg_extension").scalars().all()
    assert "timescaledb" not in extensions
    assert hub.migrate() == []


def test_every_table_of_the_hub_says_what_it_is(hub):
    with hub.engine.connect() as connection:
        silent = connection.exec_driver_sql(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace::regnamespace::text IN ('market', 'signals', 'ops')"
            " AND obj_description(oid, 'pg_class') IS NULL",
        ).scalars()
        assert list(silent) == []
