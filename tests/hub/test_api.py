"""What dashboards read: every view answers and is explained, and its reader can do nothing else."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from alphapivot.hub.server import migrate, reader, restrain

ROOT = Path(__file__).resolve().parents[2]
VIEWS = sorted(set(re.findall(r"CREATE VIEW api\.(\w+)", "".join(p.read_text() for p in ROOT.glob("sql/*.sql")))))


def test_each_view_and_each_of_its_columns_is_explained(hub):
    with hub.dbapi() as connection:
        bare = connection.execute(
            "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0"
            " OR a.attrelid = c.oid AND a.attname = 'tableoid'"
            " WHERE c.relnamespace = 'api'::regnamespace AND NOT a.attisdropped"
            " AND coalesce(col_description(c.oid, a.attnum), '') = ''"
        ).fetchall()
        untold = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'api'::regnamespace"
            " AND obj_description(oid, 'pg_class') IS NULL"
        ).fetchall()
        there = connection.execute("SELECT viewname FROM pg_views WHERE schemaname = 'api' ORDER BY 1").fetchall()
    assert (bare, untold) == ([], [])
    assert [name for (name,) in there] == VIEWS


@pytest.mark.parametrize("view", VIEWS)
def test_the_reader_reads_every_view(as_reader, view):
    as_reader.execute(f"SELECT * FROM {view}")  # its search_path is api


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM ops.run",
        "SELECT * FROM trading.trade",
        "SELECT * FROM signals.composite",
        "INSERT INTO trading.control (scope, state, reason, by) VALUES ('*', 'ACTIVE', 'x', 'x')",
        "SET default_transaction_read_only = off; CREATE TABLE api.mine (x int)",
        "SET default_transaction_read_only = off; CREATE TABLE public.mine (x int)",
        "SELECT passwd FROM pg_shadow",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SET default_transaction_read_only = off; CREATE TEMPORARY TABLE mine (x int)",
        "SET default_transaction_read_only = off; SELECT lo_from_bytea(0, 'x')",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1, 2)",
        "SET temp_file_limit = -1",
        "SET ROLE alphapivot",
        "SET default_transaction_read_only = off; GRANT alphapivot TO alphapivot_reader",
    ],
)
def test_the_reader_can_do_nothing_else(as_reader, statement):
    *before, last = statement.split(";")  # in transactions of their own
    for each in before:
        as_reader.execute(each)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_reader.execute(last)


@pytest.mark.parametrize("other", ["postgres", "template1"])
def test_the_reader_enters_no_other_database_of_our_server(hub, other):
    url = reader.make(hub, password=True)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(psycopg.conninfo.make_conninfo(url, dbname=other))


def stored_password(hub):
    with hub.dbapi() as connection:
        query = "SELECT rolpassword FROM pg_authid WHERE rolname = %s"
        return connection.execute(query, [restrain.ROLE]).fetchone()[0]


def test_the_readers_password_is_sent_as_a_hash_and_stays_unless_a_new_one_is_wanted(hub, monkeypatch):
    monkeypatch.setenv(reader.PASSWORD, "chosen-by-me")
    url = reader.make(hub, password=True)
    assert ":chosen-by-me@" in url
    stored = stored_password(hub)
    assert stored.startswith("SCRAM-SHA-256$")
    monkeypatch.setenv(reader.PASSWORD, "another")
    assert reader.make(hub, password=False) == url.replace(":chosen-by-me", "")
    assert stored_password(hub) == stored
    with psycopg.connect(url) as connection:
        assert connection.execute("SHOW transaction_read_only").fetchone() == ("on",)
    monkeypatch.delenv(reader.PASSWORD)
    made = {reader.make(hub, password=True) for _ in range(2)}
    assert len(made) == 2
    assert stored_password(hub) != stored


def alive(connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def test_a_long_transaction_of_the_reader_ends_with_our_next_command_and_a_short_one_does_not(hub, as_its_reader):
    as_its_reader.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
    as_its_reader.execute("BEGIN")
    hub.migrate()
    assert alive(as_its_reader)
    with hub.dbapi(autocommit=True) as ours, pytest.MonkeyPatch.context() as patch:
        patch.setattr(restrain, "LONGEST", "0 seconds")
        assert restrain.restrain(ours) == 1
    assert not alive(as_its_reader)


def test_a_lock_of_the_reader_holds_up_no_migration(hub):
    url = reader.make(hub, password=True)
    with hub.dbapi(autocommit=True) as ours:  # as on a server where we are no superuser
        ours.execute("GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [migrate.LOCK])
        hub.migrate()
        assert not alive(connection)


def test_latest_scores_and_freshness_show_the_newest_of_each_key_alone(hub):
    with hub.dbapi(autocommit=True) as connection:
        connection.execute(
            "WITH t (scope, symbol, ts, score) AS (VALUES"
            " ('live', 'A', timestamptz '2026-01-01', 10), ('live', 'A', '2026-01-02', 20),"
            " ('live', 'B', '2026-01-01', 30), ('backtest', 'A', '2026-01-03', 99),"
            " ('backtest', 'C', '2026-01-03', 99)"
            "), s AS (INSERT INTO signals.composite_series (scope, symbol)"
            " SELECT DISTINCT scope, symbol FROM t RETURNING *)"
            " INSERT INTO signals.composite_row"
            " SELECT series_id, ts, score, score, 1, NULL, 'trend', 1 FROM t JOIN s USING (scope, symbol)"
        )
        connection.execute(
            "INSERT INTO market.bar (symbol, market, contract, interval, ts, close, source, ingested_at)"
            " SELECT symbol, market, contract, '1d', ts, close, 'x', now() FROM (VALUES"
            " ('A', 'futures', 'Z25', timestamptz '2026-01-01', 5), ('A', 'futures', 'H26', '2026-01-02', 6),"
            " ('A', 'spot', '', '2026-01-01', 7), ('B', 'spot', '', '2026-01-05', 8))"
            " AS t (symbol, market, contract, ts, close)"
        )
        assert connection.execute("SELECT symbol, score FROM api.latest_scores ORDER BY 1").fetchall() == [
            ("A", 20),
            ("B", 30),
        ]
        assert connection.execute("SELECT count(*) FROM api.scores").fetchone() == (3,)
        assert connection.execute(
            "SELECT symbol, market, contract, close FROM api.data_freshness ORDER BY 1, 2"
        ).fetchall() == [("A", "futures", "H26", 6), ("A", "spot", "", 7), ("B", "spot", "", 8)]


def test_equity_leaves_deposits_out_of_what_was_earned(hub):
    with hub.dbapi(autocommit=True) as connection:
        connection.execute(
            "INSERT INTO trading.risk_day (book, day, currency, start_equity, equity, cash) VALUES"
            " ('b', '2026-01-01', 'EUR', 1000, 1100, 1100), ('b', '2026-01-02', 'EUR', 1100, 1550, 1550),"
            " ('b', '2026-01-03', 'EUR', 1550, 1600, 1600), ('other', '2026-01-03', 'EUR', 5, 5, 5)"
        )
        connection.execute(
            "INSERT INTO trading.book_cash (book, at, amount, note, kind)"
            " VALUES ('b', '2026-01-02 10:00Z', 500, 'put in', 'deposit')"
        )
        rows = connection.execute("SELECT earned, deposits, drawdown FROM api.equity WHERE book = 'b' ORDER BY day")
        # 1,100 - 1,000; 1,550 - 1,000 - 500: 50 less than the day before; 1,600 - 1,500
        assert rows.fetchall() == [tuple(map(Decimal, r)) for r in ((100, 0, 0), (50, 500, -50), (100, 0, 0))]
        connection.execute(
            "INSERT INTO trading.risk_day (book, day, currency, start_equity, equity, cash) VALUES"
            " ('fell', '2026-01-01', 'EUR', 1000, 900, 900), ('fell', '2026-01-02', 'EUR', 900, 950, 950)"
        )
        rows = connection.execute("SELECT earned, drawdown FROM api.equity WHERE book = 'fell' ORDER BY day")
        assert rows.fetchall() == [tuple(map(Decimal, r)) for r in ((-100, -100), (-50, -50))]


def test_the_queries_in_the_docs_run(as_reader):
    queries = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "dashboards.md").read_text(), re.DOTALL)
    assert len(queries) >= 6
    for query in queries:
        as_reader.execute(query.replace("$__timeFilter(", "NULL IS NOT DISTINCT FROM ("))
