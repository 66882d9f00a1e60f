"""The shape and its changes: a fresh database has the shape, an existing one gets each change once, in order."""

from __future__ import annotations

import shutil
import threading

import psycopg
import pytest

from alphapivot.errors import ConfigError
from alphapivot.home import CHECKOUT
from alphapivot.hub.server.migrate import SHAPE, migrate


@pytest.fixture
def connection(hub_url):
    """To a database that has the shape and every change."""
    with psycopg.connect(hub_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def empty(server_url):
    """To a database that holds nothing."""
    with psycopg.connect(server_url(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def folder(tmp_path):
    """sql/ with two changes more."""
    folder = shutil.copytree(CHECKOUT / "sql", tmp_path / "sql")
    (folder / "changes" / "901_first.sql").write_text("CREATE TABLE a (x int);\nINSERT INTO a VALUES (1);\n")
    (folder / "changes" / "902_second.sql").write_text("ALTER TABLE a ADD y int DEFAULT 2;\n")
    return folder


def recorded(connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM ops.migration ORDER BY name")]


def test_a_fresh_database_is_made_from_the_shape_and_records_every_change_as_applied(empty, folder):
    assert migrate(empty, folder) == list(SHAPE)
    assert recorded(empty) == sorted(path.stem for path in folder.glob("changes/*.sql"))
    assert empty.execute("SELECT to_regclass('a')").fetchone() == (None,)  # no change was run
    assert migrate(empty, folder) == []


def test_every_file_of_sql_is_applied():
    files = {path.relative_to(CHECKOUT / "sql").as_posix() for path in (CHECKOUT / "sql").rglob("*.*")}
    assert {name for name in files if not name.startswith("changes/")} == {f"{name}.sql" for name in SHAPE} | {
        "timescale.sql"
    }


def test_changes_are_applied_in_order_and_once_each(connection, folder):
    assert migrate(connection, folder) == ["901_first", "902_second"]
    assert migrate(connection, folder) == []
    assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, 2)]


def test_a_new_change_is_applied_to_a_database_that_has_the_others(connection, folder):
    migrate(connection, folder)
    (folder / "changes" / "903_third.sql").write_text("INSERT INTO a VALUES (5, 6)")
    assert migrate(connection, folder) == ["903_third"]


def test_a_changed_old_change_is_an_error_that_names_it(connection, folder):
    migrate(connection, folder)
    (folder / "changes" / "901_first.sql").write_text("CREATE TABLE a (x bigint)")
    with pytest.raises(ConfigError, match=r"changes/901_first\.sql has changed since it was applied"):
        migrate(connection, folder)


def test_line_ends_are_no_change(connection, folder):
    migrate(connection, folder)
    first = folder / "changes" / "901_first.sql"
    first.write_bytes(first.read_bytes().replace(b"\n", b"\r\n"))
    assert migrate(connection, folder) == []


def test_a_database_newer_than_the_code_is_an_error(connection, folder):
    migrate(connection, folder)
    with pytest.raises(ConfigError, match=r"902_second\.sql was applied.*code is older than the database"):
        migrate(connection)


def test_a_new_change_before_an_applied_one_is_an_error(connection, folder):
    (folder / "changes" / "903_third.sql").write_text("SELECT 1")
    migrate(connection, folder)
    (folder / "changes" / "902_zwei.sql").write_text("SELECT 1")
    with pytest.raises(ConfigError, match="comes before 903_third") as error:
        migrate(connection, folder)
    assert "several changes have the number 902" in str(error.value)


@pytest.mark.parametrize("name", ["150_before", "91_short", "unnumbered"])
def test_a_change_without_a_number_of_its_kind_is_an_error(connection, folder, name):
    (folder / "changes" / f"{name}.sql").write_text("SELECT 1")
    with pytest.raises(ConfigError, match=rf"changes/{name}\.sql: name it NNN_name\.sql with a number from 151 on"):
        migrate(connection, folder)


def test_a_failing_change_leaves_nothing_behind_and_its_line_is_named(connection, folder):
    before = recorded(connection)
    second = folder / "changes" / "902_second.sql"
    second.write_text("CREATE TABLE b (x int);\n\nSELECT 1 FROM nowhere;\n")
    with pytest.raises(ConfigError, match=r'902_second\.sql, line 3: .*"nowhere" does not exist'):
        migrate(connection, folder)
    assert connection.execute("SELECT to_regclass('a'), to_regclass('b')").fetchone() == ("a", None)
    assert recorded(connection) == [*before, "901_first"]
    second.write_text("CREATE TABLE b (x int);\n")
    assert migrate(connection, folder) == ["902_second"]


def test_a_shape_that_fails_leaves_the_database_empty(empty, folder):
    api = folder / "api.sql"
    whole = api.read_text()
    api.write_text(whole + "SELECT 1 FROM nowhere;\n")
    with pytest.raises(ConfigError, match=r'api\.sql, line \d+: .*"nowhere" does not exist'):
        migrate(empty, folder)
    assert empty.execute("SELECT to_regnamespace('ops'), to_regnamespace('trading')").fetchone() == (None, None)
    api.write_text(whole)
    assert migrate(empty, folder) == list(SHAPE)


def at_once(url, folder) -> list[list[str]]:
    """What three processes that migrate at once have each applied."""
    done = []

    def run():
        with psycopg.connect(url, autocommit=True) as connection:
            done.append(migrate(connection, folder))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(done)


def test_two_processes_that_migrate_at_once_make_one_shape_and_apply_each_change_once(server_url, folder):
    url = server_url()
    assert at_once(url, CHECKOUT / "sql") == [[], [], list(SHAPE)]
    (folder / "changes" / "901_first.sql").write_text("CREATE TABLE a (x int); SELECT pg_sleep(0.3)")
    assert at_once(url, folder) == [[], [], ["901_first", "902_second"]]


def test_without_timescaledb_in_the_preload_the_tables_stay_ordinary_and_the_connection_lives(hub):
    with hub.engine.connect() as connection:
        extensions = connection.exec_driver_sql("SELECT extname FROM pg_extension").scalars().all()
    assert "timescaledb" not in extensions
    assert hub.migrate() == []


def test_every_table_and_view_is_explained(hub):
    with hub.engine.connect() as connection:
        silent = connection.exec_driver_sql(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind IN ('r', 'v') AND nspname !~ '^pg_' AND nspname <> 'information_schema'"
            " AND obj_description(c.oid, 'pg_class') IS NULL",
        ).scalars()
        assert list(silent) == []
