"""
The embedded PostgreSQL: one server per data folder, shared by all processes that need it.

The server belongs to its data folder, not to a process: ``start`` starts it or joins the running one, under a file
lock. It outlives the process that started it, even one killed by SIGKILL; ``stop`` (``alphapivot db stop``) ends it.
It listens on 127.0.0.1 only, with a generated password in a file of mode 0600.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from alphapivot import home, waiting
from alphapivot.errors import Unavailable
from alphapivot.hub.server.programs import Programs

USER = "alphapivot"
START_SECONDS = 60  # crash recovery after a power cut included

# max_connections, 100 in all: 20 for the Prefect server (its pool of 5 + 10 overflow, its listeners); 16 for each of 4
# processes that run flows at once (the engine's pool of 10, at most 4 ADBC readers, the book's advisory lock, one
# spare); 13 for operators (psql, backups); 3 reserved for the superuser.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "superuser_reserved_connections": "3",
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",  # the first load of years of bars should not checkpoint every few seconds
    "wal_compression": "on",
    "checkpoint_timeout": "15min",
    "enable_parallel_hash": "off",  # it fails in containers, whose /dev/shm holds 64 MB
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_error_statement": "panic",  # statements may contain secrets: log none
}


@dataclass(frozen=True)
class Server:
    """A running server. Its repr hides the password."""

    folder: Path
    port: int
    pid: int
    password: str = field(repr=False)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        """The URL of the maintenance database; holds the password."""
        return self._url("postgres")

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def database(self, name: str, *, extensions: tuple[str, ...] = (), template: str = "template1") -> str:
        """
        The URL of a database; creates it and the extensions where missing (Prefect's server needs ``pg_trgm``).

        The URL holds the password: pass it to a process through its environment, never as an argument.
        """
        with psycopg.connect(self.url, autocommit=True) as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchall():
                create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
                # another process may be faster
                with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    connection.execute(create)
        if extensions:
            with psycopg.connect(self._url(name), autocommit=True) as connection:
                for extension in extensions:
                    connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(extension)))
        return self._url(name)

    def drop(self, name: str) -> None:
        """Drops a database with its contents, and ends the connections to it."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def start(folder: Path | None = None, *, settings: Mapping[str, str] | None = None) -> Server:
    """
    Starts the server of ``folder`` (by default ALPHAPIVOT_HOME/postgres), or joins the one running there.

    ``settings`` override SETTINGS if this call starts the server. Raises Unavailable, which says what to do.
    """
    folder = folder or home.postgres()
    _make(folder)
    with waiting.reported(f"starting the database in {folder} ..."), _lock(folder):
        if server := _running(folder):
            return server
        programs = Programs.of(folder)
        if not (folder / "data" / "PG_VERSION").exists():
            programs.initdb(USER)
        programs.check_version()
        _disown_a_reused_pid(folder)
        for attempt in range(4):  # children of a killed server may live on for seconds; a free port may be taken
            time.sleep(attempt)
            if programs.start(_port(folder), {**SETTINGS, **(settings or {})}, START_SECONDS):
                break
        server = _running(folder)
        if server is None:
            log = folder / "log"
            raise Unavailable(f"the embedded PostgreSQL does not start; the last lines of {log}:\n{_tail(log)}")
        return server


def stop(folder: Path | None = None) -> bool:
    """Stops the server for all; False if none was running. Open transactions are rolled back, committed ones stay."""
    folder = folder or home.postgres()
    if not folder.exists():
        return False
    with _lock(folder):
        if _running(folder) is None:
            return False
        done = Programs.of(folder).run(
            "pg_ctl", "stop", "-D", str(folder / "data"), "-m", "fast", "-t", str(START_SECONDS)
        )
        if done.returncode:
            raise Unavailable(f"the embedded PostgreSQL does not stop: {done.stderr.strip()}")
        return True


def status(folder: Path | None = None) -> Server | None:
    """The running server, or None. Starts nothing."""
    return _running(folder or home.postgres())


def since(folder: Path | None = None) -> int | None:
    """An id of this start of the server (nanoseconds); None while none runs. Reads the file system only."""
    folder = folder or home.postgres()
    file = folder / "data" / "postmaster.pid"
    try:
        alive = _serves(int(file.read_text().split("\n", 1)[0]), folder)
        return file.stat().st_mtime_ns if alive else None
    except (OSError, ValueError):
        return None


def _make(folder: Path) -> None:
    try:
        # root's home must let the server's user pass; its contents have their own modes
        folder.parent.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"{folder} cannot be created: {error.strerror}. Set ALPHAPIVOT_HOME to a folder that you may write to",
        ) from error


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process at a time starts or stops the server; the kernel releases the lock of a killed process."""
    try:
        file = (folder / "lock").open("a")
    except PermissionError as error:
        raise Unavailable(f"{folder} belongs to another user. Set ALPHAPIVOT_HOME to a folder of your own") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _running(folder: Path) -> Server | None:
    """
    The server of this folder, if one answers. Waits for a server that is starting or recovering.

    postmaster.pid alone proves nothing: it outlives a killed server, and its pid and port may be reused. Only a server
    that accepts our password and names our data folder is ours.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            pid, _, _, port = (folder / "data" / "postmaster.pid").read_text().split("\n")[:4]
            password = (folder / "password").read_text()
        except (FileNotFoundError, ValueError):
            return None
        except PermissionError as error:
            raise Unavailable(
                f"{folder} belongs to another user. Set ALPHAPIVOT_HOME to a folder of your own"
            ) from error
        server = Server(folder, int(port), int(pid), password)
        try:
            with psycopg.connect(server.url, connect_timeout=5) as connection:
                answer = connection.execute("SHOW data_directory").fetchone()
                return server if answer and Path(answer[0]).resolve() == server.data.resolve() else None
        except psycopg.OperationalError:
            if not _serves(int(pid), folder) or time.monotonic() > deadline:
                return None
        time.sleep(0.05)


def _serves(pid: int, folder: Path) -> bool:
    """True if process ``pid`` is alive (a zombie is not) and is the postmaster of this folder."""
    process = Path(f"/proc/{pid}")
    if process.parent.exists():
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            return state != "Z" and (process / "cwd").resolve() == (folder / "data").resolve()
        except OSError:  # it has ended, or belongs to another user
            return False
    ps = ["ps", "-o", "stat=,command=", "-p", str(pid)]
    state = subprocess.run(ps, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return str(folder / "data") in state and not state.startswith("Z")


def _disown_a_reused_pid(folder: Path) -> None:
    """
    Replaces the pid in a stale postmaster.pid, now another program's, by one that no process can have.

    Otherwise PostgreSQL takes that program for a server. The file itself must stay: its last lines tell a new server
    whether children of the dead one still use the data, in which case it refuses to start.
    """
    file = folder / "data" / "postmaster.pid"
    if file.exists():
        pid, rest = file.read_text().split("\n", 1)
        if not _serves(int(pid), folder):
            file.write_text(f"{2**31 - 2}\n{rest}")


def _port(folder: Path) -> int:
    """The previous port if it is still free, so that saved URLs stay valid; else any free one."""
    previous = (folder / "port").read_text() if (folder / "port").exists() else "0"
    for candidate in (int(previous), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable("there is no free TCP port on 127.0.0.1")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-8:]) if log.exists() else "(there is no log)"
