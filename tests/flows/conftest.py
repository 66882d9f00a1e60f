"""
A copy of the checkout that a test may break and repair, with its own Prefect server and worker: real processes, as a
user runs them.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from alphapivot.errors import Unavailable
from alphapivot.hub import Hub

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("alphapivot", "flows", "tasks", "pillars", "sql", "tests/configs")


@dataclass
class Checkout:
    """A copied checkout and the environment in which it runs."""

    folder: Path
    environ: dict[str, str]
    hub: Hub
    api: str = ""
    ui: subprocess.Popen | None = None

    def serve(self, *options: str) -> str:
        """Starts `alphapivot ui` and waits until its worker is up; returns its output."""
        log = self.folder.parent / f"ui-{time.monotonic_ns()}.log"
        self.ui = self.background(log, "ui", "-v", *options)
        self.eventually(
            log.read_text,
            lambda output: "Prefect UI:" in output or self.ui.poll() is not None,
            seconds=200,
        )
        output = self.eventually(log.read_text, lambda output: " started" in output or self.ui.poll() is not None)
        assert "Prefect UI:" in output, f"alphapivot ui did not start: {output}"
        self.api = output.split("Prefect UI: ")[1].split()[0] + "/api"
        return output

    def stop(self) -> None:
        """Stops `alphapivot ui` as Ctrl-C does."""
        self.ui.send_signal(signal.SIGINT)
        assert self.ui.wait(120) == 0

    def background(self, log: Path, *arguments: str) -> subprocess.Popen:
        """Starts an `alphapivot` command in the background."""
        command = [sys.executable, "-m", "alphapivot.cli", *arguments]
        with log.open("w") as out:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environ, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def close(self) -> None:
        if self.ui is not None and self.ui.poll() is None:
            self.ui.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.ui.wait(120)
            self.ui.kill()
        for pid in self.processes():  # left by a failed test
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Living Prefect servers and workers of this home: pid -> command line."""
        home, commands = self.environ["ALPHAPIVOT_HOME"], {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environ = (process / "environ").read_bytes().decode()
            except (OSError, UnicodeDecodeError):
                continue
            if f"ALPHAPIVOT_HOME={home}" in environ and any(w in command for w in ("flows.server.app", "cli worker")):
                commands[int(process.name)] = command
        return commands

    def deployment(self, name: str) -> dict:
        """This config's deployment of a flow."""
        (deployment,) = [d for d in self.deployments() if d["name"].startswith(f"{name}-{self.config.stem}")]
        return deployment

    def deployments(self) -> list[dict]:
        """The deployments of this config; the session's other checkouts leave theirs on the server."""
        pools = self.ask("/work_pools/filter", {})
        (pool,) = [pool["name"] for pool in pools if pool["description"] == f"the runs of {self.config}"]
        return self.ask("/deployments/filter", {"work_pools": {"name": {"any_": [pool]}}})

    @property
    def config(self) -> Path:
        """The file that the runs of the worker read."""
        return Path(self.environ["ALPHAPIVOT_CONFIG"])

    @contextmanager
    def configured(self, change: Callable[[str], str]) -> Iterator[None]:
        """Changes the config for runs that start within the block."""
        before = self.config.read_text()
        self.config.write_text(change(before))
        try:
            yield
        finally:
            self.config.write_text(before)

    @property
    def secret(self) -> str:
        """The auth string."""
        generated = Path(self.environ["ALPHAPIVOT_HOME"]) / "prefect" / "auth"
        return self.environ.get("PREFECT_API_AUTH_STRING") or generated.read_text().strip()

    def trigger(self, deployment: str, at: datetime | None = None, **parameters) -> str:
        """Creates a run of a deployment as the UI's form or (``at``) a schedule does; returns its id."""
        body = {"parameters": parameters}
        if at is not None:
            details = {"scheduled_time": at.isoformat()}
            body["state"] = {"type": "SCHEDULED", "name": "Scheduled", "state_details": details}
        return self.ask(f"/deployments/{self.deployment(deployment)['id']}/create_flow_run", body)["id"]

    def retry(self, run_id: str) -> None:
        """Sends what the UI's Retry button sends."""
        self.ask(
            f"/flow_runs/{run_id}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
        )

    def ended(self, run_id: str, seconds: float = 240) -> dict:
        """The run in its final state."""
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        return self.eventually(
            lambda: self.ask(f"/flow_runs/{run_id}"), lambda run: run["state"]["type"] in final, seconds
        )

    def completed(self, run_id: str) -> dict:
        """The run, after it has completed."""
        run = self.ended(run_id)
        assert run["state"]["type"] == "COMPLETED", f"{run['state']['name']}: {run['state']['message']}"
        return run

    def alphapivot(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alphapivot.cli", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=timeout, check=False
        )

    def ask(self, path: str, body: dict | None = None, method: str | None = None):
        """The Prefect API's reply to a request of the UI."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        headers["Authorization"] = "Basic " + base64.b64encode(self.secret.encode()).decode()
        request = urllib.request.Request(f"{self.api}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.loads(reply.read() or b"null")

    def failed_pipelines(self) -> list[dict]:
        """The pipeline runs that failed; other tests' failed runs may be on the same server."""
        runs = self.ask("/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}})
        return [run for run in runs if run["name"].startswith("pipeline ")]

    def eventually(self, look, accept, seconds: float = 120):
        """The first value of ``look`` that ``accept`` accepts: the server records some things seconds later."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if accept(value := look()):
                    return value
            except (OSError, DBAPIError, Unavailable) as error:  # the server or its database is down
                value = error
            assert time.monotonic() < deadline, f"still {value}"
            time.sleep(0.3)

    def wait_for(self, run_id: str, *states: str) -> dict:
        return self.eventually(lambda: self.ask(f"/flow_runs/{run_id}"), lambda run: run["state"]["type"] in states)

    def wait_for_any(self, flow_runs: dict) -> list[dict]:
        """Flow runs that match the filter, as soon as there are some."""
        return self.eventually(lambda: self.ask("/flow_runs/filter", flow_runs), bool)

    def sql(self, query: str, **parameters):
        from sqlalchemy import text

        with self.hub.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), parameters)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def copy_checkout(folder: Path) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part)  # with Python's and numba's caches
    for file in ("prefect.yaml", "config.ini", "demo.ini"):
        shutil.copy(ROOT / file, folder)


class Inbox(HTTPServer):
    """A local HTTP server that records what it receives: (path, JSON)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Letter)
        self.messages: list[tuple[str, dict]] = []
        self.url = f"json://127.0.0.1:{self.server_port}"

    def titles(self) -> list[str]:
        return [message["title"].removeprefix("AlphaPivot: ") for _, message in self.messages]


class Letter(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.messages.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Silent."""


@pytest.fixture(scope="module")
def inbox():
    with Inbox() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def more_environ():
    """Further environment variables of a module's checkout."""
    return {}


@pytest.fixture(scope="module")
def checkout(home_root, server, tmp_path_factory, more_environ):
    """
    A copied checkout with `alphapivot ui` (server, deployments, worker) running in it, on the session's PostgreSQL.
    """
    folder = tmp_path_factory.mktemp("flows") / "checkout"
    folder.mkdir()
    copy_checkout(folder)
    name = f"flows_{os.getpid()}_{time.monotonic_ns()}"
    url = server.database(name)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "ALPHAPIVOT"))}
    environ = inherited | {
        "PYTHONPATH": str(folder),
        "PYTHONUNBUFFERED": "1",
        "ALPHAPIVOT_HOME": str(home_root / "home"),
        "ALPHAPIVOT_CONFIG": str(folder / "tests" / "configs" / "small.ini"),
        "ALPHAPIVOT_DATABASE__NAME": name,
        "ALPHAPIVOT_RUNTIME__PATIENCE": "0",  # minutes: no test waits for bars
        "PREFECT_SERVER_API_PORT": str(free_port()),  # another worker may be polling the usual one
    }
    environ |= {k: v.format(database=name) for k, v in more_environ.items()}
    with Hub(url) as hub:
        checkout = Checkout(folder, environ, hub)
        try:
            checkout.serve()
            yield checkout
        finally:
            checkout.close()
