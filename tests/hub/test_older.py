"""Databases of before sql/ held the shape: those at 150_trials go on with their rows, older ones are refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from rich.console import Console

from alphapivot import cli
from alphapivot.errors import ConfigError
from alphapivot.home import CHECKOUT
from alphapivot.hub import Hub
from alphapivot.hub.server import psql, reader
from alphapivot.hub.server.migrate import migrate
from alphapivot.reports.terminal import terminal
from tests.hub import catalogs

DUMP = Path(__file__).with_name("at_150.sql.gz")
CHANGES = sorted(path.stem for path in (CHECKOUT / "sql" / "changes").glob("*.sql"))


@pytest.fixture(scope="module")
def restored(server, tmp_path_factory):
    """The name of a database that the last numbered files made, with its rows."""
    file = tmp_path_factory.mktemp("dump") / "at_150.sql"
    file.write_bytes(gzip.decompress(DUMP.read_bytes()))
    url = server.database("at_150")
    assert psql.psql(url, ["--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1", f"--file={file}"]) == 0
    return "at_150"


@pytest.fixture
def url(server_url, restored):
    return server_url("older", template=restored)


@pytest.fixture
def connection(url):
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def columns(connection) -> dict[str, list[str]]:
    """Each table with its columns."""
    return dict(
        connection.execute(
            "SELECT table_schema || '.' || table_name, array_agg(column_name::text ORDER BY ordinal_position)"
            " FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)"
            " WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE' GROUP BY 1"
        ).fetchall()
    )


def rows(connection, tables) -> dict[str, tuple[int, str]]:
    """How many rows each table has, and their digest over the given columns."""
    held = {}
    for table, names in tables.items():
        row = sql.SQL("ROW({})::text").format(sql.SQL(", ").join(map(sql.Identifier, names)))
        query = sql.SQL("SELECT count(*), md5(coalesce(string_agg({row}, chr(10) ORDER BY {row}), '')) FROM {table}")
        held[table] = connection.execute(query.format(row=row, table=sql.Identifier(*table.split(".")))).fetchone()
    return held


def test_a_database_at_150_gets_the_shape_of_a_fresh_one(url, connection, hub):
    for each in (Hub(url), hub):  # with a reader from before the changes
        with each as opened:
            reader.make(opened, password=False)
    assert catalogs.shape(connection)["index trading.decision_book_strategy_symbol_as_of_batch_id_key"]
    assert migrate(connection) == CHANGES
    with psycopg.connect(hub.url) as fresh:
        assert catalogs.shape(connection) == catalogs.shape(fresh)
    assert migrate(connection) == []


LONG = """
    INSERT INTO signals.{table} ({keys}, ts, score, gate, veto, batch_id{more})
    SELECT {names}, timestamptz '2001-01-01' + n * interval '1 day',
           CASE WHEN n < 128 THEN 7.5 WHEN n < 256 THEN nullif(n % 7, 3)::real WHEN n < 384 THEN real '-0' END,
           CASE WHEN n < 300 THEN 0.5 END, CASE WHEN n < 128 OR n % 50 = 0 THEN 'illiquid' END, n / 200{values}
    FROM generate_series(0, 450) AS n
"""


def test_its_rows_are_what_they_were(connection):
    keys = {"keys": "scope, symbol, pillar, interval", "names": "'bt', 'LONG', 'trend', '1d'", "more": "", "values": ""}
    connection.execute(LONG.format(table="signal", **keys))
    keys = {
        "keys": "scope, symbol",
        "names": "'bt', 'LONG'",
        "more": ", raw, pillars_used",
        "values": ", n % 100, n / 300",
    }
    connection.execute(LONG.format(table="composite", **keys))
    tables = columns(connection)
    before = rows(connection, tables)
    numbered = connection.execute("SELECT name, checksum FROM ops.migration").fetchall()
    migrate(connection)
    after = rows(connection, tables)
    del before["ops.migration"], after["ops.migration"]
    assert after == before
    for table in ("signal", "composite"):
        constant = "count(*) FILTER (WHERE cardinality(score) = 1), count(*) FILTER (WHERE cardinality(gate) = 1)"
        packed = f"SELECT count(*), {constant} FROM signals.{table}_block JOIN signals.{table}_series USING (series_id)"
        assert connection.execute(f"{packed} WHERE symbol = 'LONG'").fetchone() == (3, 1, 2)
    assert {table for table, (count, _) in before.items() if count} > {
        *("market.bar", "signals.signal", "signals.composite", "trading.decision", "trading.trade", "trading.orders"),
        *("trading.fill", "trading.position", "paper.fill", "ops.run", "ops.receipt", "research.backtest"),
        *("research.tune_trial", "research.evaluation_score", "research.report_figure"),
    }
    assert set(numbered) < set(connection.execute("SELECT name, checksum FROM ops.migration").fetchall())


def test_commands_read_it(url, connection, monkeypatch, capsys):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", url)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CHECKOUT / "tests" / "configs" / "small.ini"))
    monkeypatch.setattr(terminal, "console", Console(width=200))
    assert cli.main(["status"]) == 0  # which migrates it
    status = " ".join(capsys.readouterr().out.split())
    assert "ALPHA SHORT OPEN 766 208.92" in status
    assert "cash 1,159,998.04" in status
    for view, count in [
        ("open_trades", 7),
        ("fills", 13),
        ("tune_trials", 2),
        ("run_history", 4),
        ("latest_scores", 4),
    ]:
        assert connection.execute(f"SELECT count(*) FROM api.{view}").fetchone() == (count,), view


def test_a_decision_without_a_composite_is_still_made_once(connection):
    migrate(connection)
    again = (
        "INSERT INTO trading.decision (book, strategy, symbol, as_of, run_id, action, reasons, gates, bars, decided_at)"
        " SELECT book, strategy, symbol, as_of, run_id, 'NONE', '{}', '{}', '{}', now() FROM trading.decision LIMIT 1"
    )
    connection.execute(again)
    with pytest.raises(psycopg.errors.UniqueViolation, match="decision_once"):
        connection.execute(again)


@pytest.mark.parametrize(
    ("change", "newest"),
    [
        ("DELETE FROM ops.migration WHERE name >= '140'", "130_running"),
        ("DELETE FROM ops.migration", "none"),
        ("DELETE FROM ops.migration WHERE name = '105_mark'", "150_trials"),
        ("UPDATE ops.migration SET checksum = 'x' WHERE name = '105_mark'", "150_trials"),
    ],
)
def test_an_older_or_another_database_is_refused_and_stays_as_it_is(connection, change, newest):
    connection.execute(change)
    before = catalogs.shape(connection)
    with pytest.raises(ConfigError, match=rf"its newest file of sql/ is {newest}, expected all") as error:
        migrate(connection)
    assert "last commit that has sql/150_trials.sql" in str(error.value)
    assert catalogs.shape(connection) == before


def test_a_database_of_a_newer_commit_is_refused(connection):
    migrate(connection)
    connection.execute("INSERT INTO ops.migration (name, checksum) VALUES ('999_later', 'x')")
    with pytest.raises(ConfigError, match=r"999_later\.sql was applied to it and is gone: this code is older"):
        migrate(connection)
