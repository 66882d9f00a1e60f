"""
The local Prefect server on the hub's own PostgreSQL, shared by all who need it, and a run in this process.

Whoever needs the server joins it: the first one starts it, the last one that leaves stops it. Who uses it, and whether
it lives, is told by file locks, which the kernel frees when their holder dies, however it dies.

Prefect reads its settings when it is imported, so that this module imports it only inside functions, after ``join``.
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from alphapivot import home, waiting
from alphapivot.errors import Unavailable
from alphapivot.hub.server import embedded
from flows.server import auth, environment, naming

CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
USUAL_PORT = 4200
START_SECONDS = 90
STOP_SECONDS = 20
LOG_BYTES = 10_000_000


@dataclass
class PrefectServer:
    """A Prefect server that is up or on its way. Without a ``log`` somebody else runs it, and it is left alone."""

    api: str
    log: Path | None = None
    authenticated: bool = True
    _users: IO[str] | None = field(default=None, repr=False)  # its shared lock says that this process needs the server
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def ui(self) -> str:
        return self.api.removesuffix("/api")

    def wait(self) -> None:
        """Until it answers us. Raises Unavailable, with the end of its log where it does not answer."""
        log = f"; its log: {self.log}" if self.log else ""
        with waiting.told(f"waiting up to {START_SECONDS} s for the Prefect server at {self.api}{log}"):
            self._answers()
        if _refuses(self.api):
            raise Unavailable(
                f"the Prefect server at {self.api} refuses the auth string of this process: {auth.CLIENT}"
                f" {'of the environment is another' if auth.CLIENT in os.environ else 'is not set'}"
            )

    def _answers(self) -> None:
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
        """Starts it again where it has died, at the same address; False where it lives, or is not ours to start."""
        if self.log is None or _alive():
            return False
        with locked("server.lock"):
            if _alive():  # another one who needs it was quicker
                return False
            self._reap()
            self._process = _start(self.api, self.log)
        return True

    def restart(self) -> None:
        """Ends it where it is ours, so that ``revive`` starts it on the database as it is now."""
        if self.log is not None and _alive():
            _end(int(_address()["pid"]))

    def shared(self) -> bool:
        """Will it go on when this process leaves it?"""
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
        """Leaves it; stops it when nobody else needs it."""
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
    The Prefect server that PREFECT_API_URL names, or ours: the one that is up, else a new one, started in the
    background. A server that is up already keeps its authentication, or the lack of it.

    Sets this process's environment for it: call before prefect is imported. ``stop`` leaves it.
    """
    os.environ.update(environment.settings())
    if os.environ.get(CONSOLE_LEVEL, "WARNING") == "WARNING":  # unless -v or the environment wants more
        os.environ[CONSOLE_LEVEL] = "CRITICAL"  # the terminal shows our own words; the UI has the logs
    if api := os.environ.get("PREFECT_API_URL"):
        return PrefectServer(api)
    server = PrefectServer("", home.prefect() / "server.log")
    with locked("server.lock"):
        server._users = (home.prefect() / "server.users").open("a")  # noqa: SLF001 - it is made here
        fcntl.flock(server._users, fcntl.LOCK_SH)  # noqa: SLF001
        up = _alive()
        if up and "authenticated" not in _address():
            raise Unavailable(
                f"the Prefect server at {_address()['api']} was started by an earlier AlphaPivot and answers every"
                " web page: stop the `alphapivot ui` that started it, then try again"
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
    """Where the UI of our server is, and whether it asks for a login; None while it is down."""
    if not home.prefect().exists() or not _alive():
        return None
    return str(_address()["api"]).removesuffix("/api"), bool(_address().get("authenticated"))


def _start(api: str, log: Path | None) -> subprocess.Popen[bytes]:
    """A server process at this address. It holds the lock on server.alive for as long as it lives."""
    url = embedded.start().database("prefect", extensions=("pg_trgm",))
    own = {
        # in the environment, never in the arguments: other users can list those
        "PREFECT_API_DATABASE_CONNECTION_URL": url.replace("postgresql://", "postgresql+asyncpg://"),
        **os.environ,
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_UI_API_URL": api,
    }
    port = api.removesuffix("/api").rpartition(":")[2]
    command = [sys.executable, "-m", "flows.server.app", "--port", port]
    said, lives = rotated(log) if log else Path(os.devnull), home.prefect() / "server.alive"
    with said.open("ab") as out, lives.open("a") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command,
            env=own,
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
    """The file to go on with; one that has grown large is put aside."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    return log


def run(name: str, parameters: dict[str, Any]) -> Any:
    """
    Makes a run of this config's deployment of a flow and executes it in this process; returns its final state.

    It is a deployment's run, so that the UI offers Retry; a worker executes the retried attempt.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()
    from prefect.flow_engine import run_flow  # noqa: PLC0415
    from prefect.flows import load_flow_from_entrypoint  # noqa: PLC0415
    from prefect.logging.handlers import APILogWorker  # noqa: PLC0415
    from prefect.states import Pending  # noqa: PLC0415

    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(naming.deployment(name))
        # Pending: a worker that polls takes only what is Scheduled
        made = client.create_flow_run_from_deployment(found.id, parameters=parameters, state=Pending())
    flow = load_flow_from_entrypoint(str(home.CHECKOUT / str(found.entrypoint)), use_placeholder_flow=False)
    state = run_flow(flow, flow_run=made, parameters=flow.validate_parameters(parameters), return_type="state")
    APILogWorker.drain_all()  # the server may be stopped next
    return state


@contextlib.contextmanager
def serving() -> Iterator[PrefectServer]:
    """A server that answers, for as long as the block lasts; it stays up where somebody else needs it too."""
    server = join()
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time."""
    with (home.private(home.prefect()) / name).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _alive() -> bool:
    """Does the server's process live? It holds a lock: no number that may by now be another's."""
    with (home.prefect() / "server.alive").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _address() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home.prefect() / "server.json").read_text())
    return found


def _end(pid: int) -> None:
    """Asks the server's process to stop, then makes it."""
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while _alive():
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _healthy(api: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=2) as answer:  # noqa: S310 - our own loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _refuses(api: str) -> bool:
    """True if the server answers our auth string by 401. Not asked of Prefect Cloud, which takes a key."""
    if os.environ.get("PREFECT_API_KEY"):
        return False
    string = base64.b64encode(os.environ.get(auth.CLIENT, "").encode()).decode()
    asked = urllib.request.Request(f"{api}/admin/version", headers={"Authorization": f"Basic {string}"})  # noqa: S310
    try:
        with urllib.request.urlopen(asked, timeout=10):  # noqa: S310 - the server's own address
            return False
    except OSError as error:
        return isinstance(error, urllib.error.HTTPError) and error.code == 401


def _free_port() -> int:
    """That of last time, so that a bookmark stays true; else PREFECT_SERVER_API_PORT or the usual one; else any."""
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
