"""
`alphapivot ui`: database, Prefect server, deployments and worker by one command, kept alive until it is told to stop.

What dies meanwhile is started again. Several may be up at once: they share the server, and the last one stops it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from alphapivot import home
from alphapivot.errors import AlphaPivotError, Unavailable
from alphapivot.hub.server import embedded
from flows.server import auth, local

LOOK_SECONDS = 1.0
RESTARTS, WITHIN_SECONDS = 5, 120  # more often than that is no accident


PAUSED = (
    "the schedules are paused: start runs by hand in the UI. To start the schedules: [runtime] schedules = yes, or"
    " alphapivot ui --schedules"
)
OPEN = (
    "--no-auth: any program and any user of this machine can read your trades, start runs and execute code as you;"
    " web pages are still refused"
)


def serve(say: Callable[[str], None], drain: float, *, scheduled: bool = True, authenticated: bool = True) -> None:
    """
    Serves until SIGINT or SIGTERM. Runs under way then get ``drain`` seconds to finish; a second signal ends them.
    ``scheduled``: whether the schedules of this config run.

    Raises Unavailable when the server does not come up, AlphaPivotError when something keeps dying.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as cleanly as Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it otherwise
    server, worker = local.join(authenticated=authenticated), None
    try:
        server.wait()
        for line in [*_deployed(server, scheduled=scheduled), *_access(server, authenticated=authenticated)]:
            say(line)
        worker = start_worker()
        database = embedded.status() if server.log is not None else None  # else somebody else runs both
        port = database.port if database else None
        restarts: list[float] = []
        while True:
            time.sleep(LOOK_SECONDS)
            died = []
            if port is not None:
                port = _database(server, port, died)
            if server.revive():
                died.append("the Prefect server")
            if worker.poll() is not None:
                died.append("the worker")
                worker = start_worker()
            for what in died:
                say(f"{what} had ended and was started again")
                restarts = [t for t in restarts if time.monotonic() - t < WITHIN_SECONDS] + [time.monotonic()]
            if len(restarts) > RESTARTS:
                raise AlphaPivotError(
                    f"{died[-1]} keeps ending ({len(restarts)} times in {WITHIN_SECONDS} s); see {server.log}"
                )
    except KeyboardInterrupt:
        say("stopping; runs under way may finish, Ctrl-C once more ends them ...")
    finally:
        if worker is not None:
            _end(worker, drain)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server's own end is not to be interrupted
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.stop()


def link() -> str:
    """Another login link for the server that is up. Raises Unavailable where none is."""
    if (up := local.address()) is None:
        raise Unavailable("the Prefect server is not running: alphapivot ui starts it and prints a link")
    ui, authenticated = up
    if not authenticated:
        raise Unavailable(f"the Prefect server asks for no login: open {ui}")
    return auth.link(ui)


def _deployed(server: local.PrefectServer, *, scheduled: bool) -> list[str]:
    """Makes the server ready; returns where it is, and whether it schedules."""
    from flows.server import deploy  # noqa: PLC0415 - it needs what join() has set

    deploy.deploy()
    deploy.schedule(on=scheduled)
    where = f"Prefect UI: {server.ui}   (deployments: {server.ui}/deployments; Ctrl-C stops)"
    return [where] if scheduled else [where, PAUSED]


def _access(server: local.PrefectServer, *, authenticated: bool) -> list[str]:
    """How to log in, or what the lack of it risks."""
    if server.log is None:
        return []
    if server.authenticated:
        lines = [
            f"log your browser in: {auth.link(server.ui)}",
            "    (works once, within an hour; another: alphapivot ui --link)",
        ]
        stays = "--no-auth has no effect: the server is up and keeps its authentication; stop what uses it first"
        return lines if authenticated else [*lines, stays]
    stays = "the server is up without authentication and stays so; stop what uses it first"
    return [OPEN] if not authenticated else [OPEN, stays]


def _database(server: local.PrefectServer, port: int, died: list[str]) -> int:
    """The embedded database's port; starts it again if it has ended, and the server with it if the port has changed."""
    if (database := embedded.status()) is None:
        database = embedded.start()
        died.append("the database")
    if database.port != port:  # its own was taken meanwhile
        server.restart()
    return database.port


def start_worker() -> subprocess.Popen[bytes]:
    """A worker that ends when this process does, however this one ends."""
    command = [sys.executable, "-m", "alphapivot.cli", "worker", "--parent", str(os.getpid())]
    verbose = os.environ.get(local.CONSOLE_LEVEL) == "INFO"
    own = os.environ | {local.CONSOLE_LEVEL: "INFO" if verbose else "WARNING"}
    return subprocess.Popen(command, cwd=home.CHECKOUT, env=own, start_new_session=True)  # noqa: S603


def _end(worker: subprocess.Popen[bytes], drain: float) -> None:
    """Each signal that comes meanwhile is handed on; a worker that does not end at all is killed."""
    worker.terminate()
    deadline = time.monotonic() + drain + 60
    while worker.poll() is None:
        try:
            worker.wait(max(deadline - time.monotonic(), 0.1))
        except KeyboardInterrupt:
            worker.terminate()
        except subprocess.TimeoutExpired:
            worker.kill()
