"""
The local Prefect server on the hub's PostgreSQL, shared by the processes that need it, and runs in this process.

A process joins the server: the first one starts it, the last one to leave stops it. File locks record who uses it and
whether it is alive; the kernel frees them however their holder dies.

Prefect reads its settings at import, so this module imports it only inside functions, after ``join``.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from alphapivot import home, waiting
from alphapivot.errors import Unavailable
from alphapivot.hub.server import embedded
from flows.server import auth, environment, naming

CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
USUAL_PORT = 4200
typed: ContextVar[bool] = ContextVar("typed", default=False)  # this process executes a run that someone typed
START_SECONDS = 90
STOP_SECONDS = 20
LOG_BYTES = 10_000_000


@dataclass
class PrefectServer:
    """A Prefect server that is up or starting. Without a ``log`` it is external, and we neither start nor stop it."""

    api: str
    log: Path | None = None
    authenticated: bool = True
    _users: IO[str] | None = field(default=None, repr=False)  # its shared lock marks this process as a user
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def ui(self) -> str:
        return self.api.removesuffix("/api")

    def wait(self) -> None:
        """Waits until the server answers. Raises Unavailable, with the end of its log, if it does not."""
        log = f"; its log: {self.log}" if self.log else ""
        with waiting.reported(f"waiting up to {START_SECONDS} s for the Prefect server at {self.api}{log}"):
            self._await_health()
        if _refuses(self.api):
            raise Unavailable(
                f"the Prefect server at {self.api} refuses the auth string of this process: {auth.CLIENT}"
                f" {'of the environment is wrong' if auth.CLIENT in os.environ else 'is not set'}"
            )

    def _await_health(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(self.api):
            gone = self.log is not None and not _alive()
            if gone or time.monotonic() > deadline:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) if self.log else ""
                raise Unavailable(
                    f"the Prefect server at {self.api} {'ended' if gone else 'does not answer'}; see {self.log}\n{tail}"
                )
            time.sleep(0.1)

    def revive(self) -> bool:
        """Restarts a server of ours that has died, at the same address. False if it is alive or external."""
        if self.log is None or _alive():
            return False
        with locked("server.lock"):
            if _alive():  # another process has restarted it
                return False
            self._reap()
            self._process = _start(self.api, self.log)
        return True

    def restart(self) -> None:
        """Stops a server of ours, so that ``revive`` starts it on the current database."""
        if self.log is not None and _alive():
            _end(int(_address()["pid"]))

    def shared(self) -> bool:
        """True if the server stays up when this process leaves."""
        if self._users is None:
            return True
        with locked("server.lock"), (home.prefect() / "server.users").open("a") as probe:
            fcntl.flock(self._users, fcntl.LOCK_UN)
            try:
                fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                fcntl.flock(probe, fcntl.LOCK_UN)
                fcntl.flock(self._users, fcntl.LOCK_SH)
            return False

    def stop(self) -> None:
        """Leaves the server, and stops it if no other process uses it."""
        if self._users is None:
            return
        with locked("server.lock"), self._users:
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if _alive():
                _end(int(_address()["pid"]))
            self._reap()

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()


def join(*, authenticated: bool = True) -> PrefectServer:
    """
    The Prefect server at PREFECT_API_URL, or ours: the running one, else a new one, started in the background. A
    running server keeps its authentication, or the lack of it.

    Sets this process's environment: call it before prefect is imported. ``stop`` leaves the server.
    """
    os.environ.update(environment.settings())
    if os.environ.get(CONSOLE_LEVEL, "WARNING") == "WARNING":  # not set by -v or the environment
        os.environ[CONSOLE_LEVEL] = "CRITICAL"  # the terminal shows our own messages; the UI has the logs
    if api := os.environ.get("PREFECT_API_URL"):
        return PrefectServer(api)
    server = PrefectServer("", home.prefect() / "server.log")
    with locked("server.lock"):
        server._users = (home.prefect() / "server.users").open("a")  # noqa: SLF001 - created here
        fcntl.flock(server._users, fcntl.LOCK_SH)  # noqa: SLF001
        up = _alive()
        if up and "authenticated" not in _address():
            raise Unavailable(
                f"the Prefect server at {_address()['api']} was started by an earlier AlphaPivot and accepts requests"
                " from any web page: stop the `alphapivot ui` that started it, then try again"
            )
        server.api = _address()["api"] if up else f"http://127.0.0.1:{_free_port()}/api"
        if _address()["authenticated"] if up else authenticated:
            os.environ.update(auth.environment())
        server.authenticated = auth.SERVER in os.environ
        if not up:
            server._process = _start(server.api, server.log)  # noqa: SLF001
    os.environ["PREFECT_API_URL"] = server.api
    return server


def address() -> tuple[str, bool] | None:
    """The URL of our server's UI, and whether it requires a login; None while it is down."""
    if not home.prefect().exists() or not _alive():
        return None
    return str(_address()["api"]).removesuffix("/api"), bool(_address().get("authenticated"))


def _start(api: str, log: Path | None) -> subprocess.Popen[bytes]:
    """Starts a server process at this address. It holds the lock on server.alive while it lives."""
    url = embedded.start().database("prefect", extensions=("pg_trgm",))
    variables = {
        # not in the arguments: other users can list those
        "PREFECT_API_DATABASE_CONNECTION_URL": url.replace("postgresql://", "postgresql+asyncpg://"),
        **os.environ,
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_UI_API_URL": api,
    }
    port = api.removesuffix("/api").rpartition(":")[2]
    command = [sys.executable, "-m", "flows.server.app", "--port", port]
    output, lock = rotated(log) if log else Path(os.devnull), home.prefect() / "server.alive"
    with output.open("ab") as out, lock.open("a") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command,
            env=variables,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=home.CHECKOUT,
            start_new_session=True,
            pass_fds=[alive.fileno()],
        )
    fresh = home.prefect() / "server.json.new"
    fresh.write_text(json.dumps({"api": api, "pid": process.pid, "authenticated": auth.SERVER in os.environ}))
    fresh.replace(home.prefect() / "server.json")
    return process


def rotated(log: Path) -> Path:
    """``log``, after a file above LOG_BYTES has been moved to ``.log.1``."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    return log


def run(name: str, parameters: dict[str, Any]) -> Any:
    """
    Creates a run of this config's deployment of a flow and executes it in this process; returns its final state.

    As a deployment's run it can be retried in the UI; a worker executes the retry.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()
    from prefect.flow_engine import run_flow  # noqa: PLC0415
    from prefect.flows import load_flow_from_entrypoint  # noqa: PLC0415
    from prefect.logging.handlers import APILogWorker  # noqa: PLC0415
    from prefect.states import Pending  # noqa: PLC0415

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(naming.deployment(name))
        # Pending: workers take only Scheduled runs
        flow_run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters, state=Pending())
    flow = load_flow_from_entrypoint(str(home.CHECKOUT / str(deployment.entrypoint)), use_placeholder_flow=False)
    typed.set(True)
    state = run_flow(flow, flow_run=flow_run, parameters=flow.validate_parameters(parameters), return_type="state")
    APILogWorker.drain_all()  # the server may be stopped next
    return state


@contextlib.contextmanager
def serving(meanwhile: Callable[[], None] = lambda: None) -> Iterator[PrefectServer]:
    """
    A running server for the duration of the block; it stays up if another process uses it. ``meanwhile`` is called
    while a new one starts.
    """
    server = join()
    try:
        meanwhile()
        server.wait()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Admits one process at a time."""
    with (home.private(home.prefect()) / name).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _alive() -> bool:
    """True if the server's process lives. It holds a lock, because its pid may be reused after its death."""
    with (home.prefect() / "server.alive").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _address() -> dict[str, Any]:
    address: dict[str, Any] = json.loads((home.prefect() / "server.json").read_text())
    return address


def _end(pid: int) -> None:
    """Terminates the server's process; kills it after STOP_SECONDS."""
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while _alive():
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _healthy(api: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=2) as response:  # noqa: S310 - our own loopback address
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _refuses(api: str) -> bool:
    """True if the server answers our auth string with 401. Always False for Prefect Cloud, which uses a key."""
    if os.environ.get("PREFECT_API_KEY"):
        return False
    string = base64.b64encode(os.environ.get(auth.CLIENT, "").encode()).decode()
    request = urllib.request.Request(f"{api}/admin/version", headers={"Authorization": f"Basic {string}"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - the server's own address
            return False
    except OSError as error:
        return isinstance(error, urllib.error.HTTPError) and error.code == 401


def _free_port() -> int:
    """The last port, so that bookmarks stay valid; else PREFECT_SERVER_API_PORT or USUAL_PORT; else any free one."""
    last = 0
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        last = int(_address()["api"].removesuffix("/api").rpartition(":")[2])
    usual = int(os.environ.get("PREFECT_SERVER_API_PORT", USUAL_PORT))
    for port in (last or usual, usual, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Unavailable("no free TCP port on 127.0.0.1 for the Prefect server")
