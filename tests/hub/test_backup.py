"""A backup holds everything, a restore overwrites nothing, and both go from one major version to the next."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import psycopg
import pytest

from alphapivot.errors import DataError, Unavailable
from alphapivot.frames import Bars
from alphapivot.hub import Hub
from alphapivot.hub.server import backup
from alphapivot.hub.tables import digest, ops

OLDER = Path("/usr/lib/postgresql/15/bin")


def fill(hub: Hub) -> dict:
    """Writes bars and a restatement of them; returns the digests of all tables."""
    run = ops.begin_run(
        hub, "r", kind="test", scope="live", as_of=datetime.now(UTC), config={}, config_hash="", code_version=""
    )
    ts = pd.date_range("2024-01-01 21:00", periods=200, tz="UTC", unit="us")
    bars = pd.DataFrame(
        {"ts": ts, "symbol": "A", "market": "spot", "contract": "", "interval": "1d", "source": "files"}
    )
    bars = bars.assign(open=10.0, high=11.0, low=9.0, close=10.0, volume=100.0, open_interest=float("nan"))
    for close in (10.0, 10.5):
        with ops.batch(hub, run, "ingest", str(close), {}) as batch:
            batch.write(Bars, bars.assign(close=close)[Bars.columns()].astype(Bars.empty().dtypes))
    return digest.tables(hub)


def test_what_is_restored_is_what_was_backed_up(hub, server_url, tmp_path):
    before = fill(hub)
    assert backup.backup(hub.url, tmp_path / "hub.dump") > 0
    assert [p.name for p in tmp_path.iterdir()] == ["hub.dump"]
    url = server_url()
    backup.restore(url, tmp_path / "hub.dump")
    with Hub(url) as restored:
        assert restored.migrate() == []
        assert digest.tables(restored) == before


def test_a_restore_overwrites_nothing(hub, tmp_path):
    before = fill(hub)
    backup.backup(hub.url, tmp_path / "hub.dump")
    with pytest.raises(DataError, match="overwrites nothing"):
        backup.restore(hub.url, tmp_path / "hub.dump")
    assert digest.tables(hub) == before


def test_a_backup_that_is_cut_restores_nothing(hub, server_url, tmp_path):
    fill(hub)
    whole = tmp_path / "hub.dump"
    backup.backup(hub.url, whole)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    url = server_url()
    with pytest.raises(Unavailable, match="pg_restore failed"):
        backup.restore(url, whole)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'market'").fetchone() == (0,)


def test_a_backup_that_fails_leaves_the_last_one(hub, tmp_path):
    file = tmp_path / "hub.dump"
    file.write_text("the last one")
    with pytest.raises(Unavailable, match="no_such"):
        backup.backup(hub.url.replace("/hub", "/no_such"), file)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["the last one"]


@pytest.fixture
def older(home_root):
    """A server of an older major version, and the URL of an empty database on it."""
    if not (OLDER / "initdb").exists():
        pytest.skip(f"there is no PostgreSQL 15 in {OLDER}")
    folder = home_root / "older"
    user = next((user for user in pwd.getpwall() if user.pw_name == "postgres"), None)
    if user is None or os.geteuid() != 0:
        pytest.skip("running it as user postgres takes root and such a user")
    folder.mkdir()
    shutil.chown(folder, user.pw_uid, user.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def as_user(*command):
        subprocess.run(command, user=user.pw_uid, group=user.pw_gid, cwd=folder, check=True, capture_output=True)

    as_user(
        OLDER / "initdb", "-D", folder / "data", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    as_user(OLDER / "pg_ctl", "start", "-D", folder / "data", "-w", "-o", options, "-l", folder / "log")
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        as_user(OLDER / "pg_ctl", "stop", "-D", folder / "data", "-m", "immediate")


def test_a_hub_moves_to_the_next_major_version(older, server_url, tmp_path):
    with Hub(older) as old:
        old.migrate()
        before = fill(old)
        with old.engine.connect() as connection:
            assert connection.exec_driver_sql("SHOW server_version_num").scalar_one().startswith("15")
    backup.backup(older, tmp_path / "hub.dump")
    url = server_url()
    backup.restore(url, tmp_path / "hub.dump")
    with Hub(url) as new:
        assert new.migrate() == []
        assert digest.tables(new) == before
