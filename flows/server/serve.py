"""
``alphapivot ui``: database, Prefect server, deployments and worker in one command, kept alive until it is stopped.

A process that dies is restarted. Several may be up at once: they share the server, and the last one stops it.
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
from flows.server import auth, local, watch

POLL_SECONDS = 1.0
RESTARTS, WITHIN_SECONDS = 5, 120  # gives up above this rate


PAUSED = (
    "the schedules are paused: start runs by hand in the UI. To start the schedules: [runtime] schedules = yes, or"
    " alphapivot ui --schedules"
)
OPEN = (
    "--no-auth: any program and any user of this machine can read your trades, start runs and execute code as you;"
    " other web pages are still refused"
)


def serve(say: Callable[[str], None], drain: float, *, scheduled: bool = True, authenticated: bool = True) -> None:
    """
    Serves until SIGINT or SIGTERM. Active runs then get ``drain`` seconds to finish; a second signal ends them.
    ``scheduled``: whether the schedules of this config run.

    Raises Unavailable if the server does not start, AlphaPivotError if a process keeps dying.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as clean a stop as Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells make background jobs ignore it
    server, worker = local.join(authenticated=authenticated), None
    try:
        server.wait()
        for line in [*_deployed(server, scheduled=scheduled), *_access(server, authenticated=authenticated)]:
            say(line)
        worker = start_worker()
        watch.begin()
        database = embedded.status() if server.log is not None else None  # else both are external
        port = database.port if database else None
        restarts: list[float] = []
        while True:
            time.sleep(POLL_SECONDS)
            died = []
            if port is not None:
                port = _database(server, port, died)
            if server.revive():
                died.append("the Prefect server")
            if worker.poll() is not None:
                died.append("the worker")
                worker = start_worker()
            for name in died:
                say(f"{name} died and was restarted")
                restarts = [t for t in restarts if time.monotonic() - t < WITHIN_SECONDS] + [time.monotonic()]
            if len(restarts) > RESTARTS:
                raise AlphaPivotError(
                    f"{died[-1]} keeps dying ({len(restarts)} times in {WITHIN_SECONDS} s); see {server.log}"
                )
    except KeyboardInterrupt:
        say("stopping; waiting for active runs to finish, Ctrl-C again ends them ...")
    finally:
        if worker is not None:
            _end(worker, drain)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server must stop cleanly
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.stop()


def link() -> str:
    """A new login link for the running server. Raises Unavailable if there is none."""
    if (address := local.address()) is None:
        raise Unavailable("the Prefect server is not running: alphapivot ui starts it and prints a link")
    ui, authenticated = address
    if not authenticated:
        raise Unavailable(f"the Prefect server requires no login: open {ui}")
    return auth.link(ui)


def _deployed(server: local.PrefectServer, *, scheduled: bool) -> list[str]:
    """Deploys and sets the schedules; returns the lines to print."""
    from flows.server import deploy  # noqa: PLC0415 - needs the environment from join()

    deploy.deploy()
    deploy.schedule(on=scheduled)
    where = f"Prefect UI: {server.ui}   (deployments: {server.ui}/deployments; Ctrl-C stops)"
    return [where] if scheduled else [where, PAUSED]


def _access(server: local.PrefectServer, *, authenticated: bool) -> list[str]:
    """The lines that say how to log in, or what the risk is without a login."""
    if server.log is None:
        return []
    if server.authenticated:
        lines = [
            f"log your browser in: {auth.link(server.ui)}",
            "    (works once, within an hour; another: alphapivot ui --link)",
        ]
        stays = (
            "--no-auth has no effect: the running server keeps its authentication; stop everything that uses it first"
        )
        return lines if authenticated else [*lines, stays]
    stays = "the running server has no authentication and stays so; stop everything that uses it first"
    return [OPEN] if not authenticated else [OPEN, stays]


def _database(server: local.PrefectServer, port: int, died: list[str]) -> int:
    """The embedded database's port. Restarts a database that has died, and the server too if the port has changed."""
    if (database := embedded.status()) is None:
        database = embedded.start()
        died.append("the database")
    if database.port != port:  # another process has taken the old one
        server.restart()
    return database.port


def start_worker() -> subprocess.Popen[bytes]:
    """A worker that ends with this process, however this one dies."""
    command = [sys.executable, "-m", "alphapivot.cli", "worker", "--parent", str(os.getpid())]
    verbose = os.environ.get(local.CONSOLE_LEVEL) == "INFO"
    variables = os.environ | {local.CONSOLE_LEVEL: "INFO" if verbose else "WARNING"}
    return subprocess.Popen(command, cwd=home.CHECKOUT, env=variables, start_new_session=True)  # noqa: S603


def _end(worker: subprocess.Popen[bytes], drain: float) -> None:
    """Stops the worker: passes further signals on to it, and kills it if it does not end in time."""
    worker.terminate()
    deadline = time.monotonic() + drain + 60
    while worker.poll() is None:
        try:
            worker.wait(max(deadline - time.monotonic(), 0.1))
        except KeyboardInterrupt:
            worker.terminate()
        except subprocess.TimeoutExpired:
            worker.kill()
