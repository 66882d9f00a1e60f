"""
The TimescaleDB branch, on a server that preloads it: ALPHAPIVOT_TEST_TIMESCALE names its maintenance database, as in
``postgresql://postgres@127.0.0.1:5432/postgres``. Skips elsewhere, since no package registry has TimescaleDB.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil

import pandas as pd
import psycopg
import pytest
from psycopg.types.json import Jsonb

from alphapivot.config.sections.runtime import Retention
from alphapivot.frames import Bars
from alphapivot.home import CHECKOUT
from alphapivot.hub import Hub
from alphapivot.hub.server import migrate, retention
from alphapivot.hub.tables import bars, ops

SERVER = os.environ.get("ALPHAPIVOT_TEST_TIMESCALE")
pytestmark = [
    pytest.mark.timescale,
    pytest.mark.skipif(not SERVER, reason="ALPHAPIVOT_TEST_TIMESCALE names no server that preloads TimescaleDB"),
]
UNTIL = pd.Timestamp("2030-01-01", tz="UTC").to_pydatetime()
numbers = itertools.count()
OFF = dict.fromkeys(("revisions", "replays", "runs", "alerts"), "off")


@pytest.fixture
def url():
    name = f"timescale_{os.getpid()}_{next(numbers)}"
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield re.sub(r"/[^/]*$", f"/{name}", SERVER)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def hypertables(connection) -> set[str]:
    query = "SELECT format('%I.%I', hypertable_schema, hypertable_name) FROM timescaledb_information.hypertables"
    return {name for (name,) in connection.execute(query)}


def some_bars(count: int, close: float = 100.0, start: str = "2015-01-02 21:00") -> pd.DataFrame:
    ts = pd.date_range(start, periods=count, freq="D", tz="UTC").as_unit("us")
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    key = {"symbol": "SP500", "market": "spot", "contract": "", "interval": "1d"}
    rest = {"volume": 1.0, "open_interest": float("nan"), "source": "files"}
    return pd.DataFrame({**key, "ts": ts, **prices, **rest}).astype(Bars.empty().dtypes)


def write(hub, run, df):
    with ops.batch(hub, run, "step", f"inputs {next(numbers)}", {}) as batch:
        return batch.write(Bars, df)


def begin(hub, run_id):
    stored = {"config": {}, "config_hash": "c", "code_version": "v"}
    return ops.begin_run(hub, run_id, kind="test", scope="live", as_of=UNTIL, **stored)


def test_the_bulk_tables_become_hypertables_once(url):
    with psycopg.connect(url, autocommit=True) as connection:
        assert migrate.migrate(connection)
        assert hypertables(connection) == {"market.bar"}
        assert migrate.migrate(connection) == []


def test_bars_move_into_the_hypertable_when_the_extension_comes_later(url, tmp_path):
    plain = tmp_path / "sql"
    shutil.copytree(CHECKOUT / "sql", plain, ignore=shutil.ignore_patterns("timescale.sql"))
    with psycopg.connect(url, autocommit=True) as connection:
        migrate.migrate(connection, plain)
        assert connection.execute("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'").fetchone() == (0,)
    with Hub(url) as hub:
        write(hub, begin(hub, "before"), some_bars(400))
        hub.migrate()
        with hub.dbapi() as connection:
            assert "market.bar" in hypertables(connection)
            assert connection.execute("SELECT count(*) FROM ONLY market.bar").fetchone() == (0,), (
                "all rows are in chunks"
            )
        found = bars.window(hub, ["SP500"], "spot", "1d", after=None, until=UNTIL, known_at=None)
        pd.testing.assert_frame_equal(found, some_bars(400))


def test_restated_bars_keep_their_old_version_also_in_a_compressed_chunk(url):
    with Hub(url) as hub:
        hub.migrate()
        run = begin(hub, "first")
        write(hub, run, some_bars(400))
        known = ops.freeze_known_at(hub, run).known_at
        with hub.dbapi(autocommit=True) as connection:
            compressed = connection.execute(
                "SELECT count(compress_chunk(c)) FROM show_chunks('market.bar') AS c"
            ).fetchone()
            assert compressed[0] >= 4
        again = begin(hub, "second")
        restated = pd.concat([some_bars(3, 101.0), some_bars(400).iloc[3:], some_bars(2, start="2016-06-01 21:00")])
        written = write(hub, again, restated.reset_index(drop=True))
        assert (written.new, written.changed, written.unchanged) == (2, 3, 397)
        then = bars.window(hub, ["SP500"], "spot", "1d", after=None, until=UNTIL, known_at=known)
        pd.testing.assert_frame_equal(then, some_bars(400))
        now = bars.window(hub, ["SP500"], "spot", "1d", after=None, until=UNTIL, known_at=None)
        assert now["close"].tolist() == [101.0] * 3 + [100.0] * 399


def jobs(hub):
    query = "SELECT proc_name, hypertable_name, config FROM timescaledb_information.jobs WHERE job_id >= 1000"
    with hub.dbapi() as connection:
        return connection.execute(query).fetchall()


def test_policies_are_those_of_the_config_and_retention_leaves_what_plain_postgresql_leaves(url):
    with Hub(url) as hub:
        hub.migrate()
        write(hub, begin(hub, "first"), some_bars(800))
        with hub.dbapi(autocommit=True) as connection:
            connection.execute("SELECT compress_chunk(c) FROM show_chunks('market.bar') AS c")
        days = (pd.Timestamp.now("UTC") - pd.Timestamp("2016-01-01", tz="UTC")).days
        deleted = retention.maintain(hub, Retention(bars={"1d": days}, columnstore=200, **OFF))
        left = bars.window(hub, ["SP500"], "spot", "1d", after=None, until=UNTIL, known_at=None)
        assert deleted["bars of 1d"] == 800 - len(left) > 300
        assert abs(left["ts"].min() - pd.Timestamp("2016-01-01", tz="UTC")) < pd.Timedelta(days=2)
        retain, *columns = sorted(jobs(hub), key=lambda job: job[0] != "retain")
        assert (retain[0], retain[2]) == ("retain", {"bars": {"1d": days}})
        assert {(name, config["compress_after"]) for _, name, config in columns} == {("bar", "200 days")}
        # the scheduler's call does the same
        with hub.dbapi(autocommit=True) as connection:
            config = Jsonb({"bars": {"1d": days - 100}})
            (job,) = connection.execute(
                "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'retain'"
            ).fetchone()
            connection.execute("SELECT alter_job(%s, config => %s)", [job, config])
            connection.execute(f"CALL run_job({job})")
        later = bars.window(hub, ["SP500"], "spot", "1d", after=None, until=UNTIL, known_at=None)
        assert later["ts"].min() - left["ts"].min() == pd.Timedelta(days=100)
        # a policy removed from the config is removed from the scheduler
        retention.maintain(hub, Retention(**OFF))
        assert {name for name, *_ in jobs(hub)} == {"policy_compression"}
