"""
A copy of the checkout that a test may break and mend, with its own Prefect server and worker: real processes, as a
user runs them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

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

    def alphapivot(self, *arguments: str, timeout: float = 110) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alphapivot.cli", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=timeout, check=False
        )

    def ask(self, path: str, body: dict | None = None):
        """The Prefect API's answer, as the UI asks it."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def eventually(self, look, accept, seconds: float = 60):
        """What ``look`` finds, as soon as ``accept`` takes it: the server records some things seconds later."""
        deadline = time.monotonic() + seconds
        while not accept(found := look()):
            assert time.monotonic() < deadline, f"still {found}"
            time.sleep(0.3)
        return found

    def wait_for(self, run_id: str, *states: str) -> dict:
        return self.eventually(lambda: self.ask(f"/flow_runs/{run_id}"), lambda run: run["state"]["type"] in states)

    def wait_for_any(self, flow_runs: dict) -> list[dict]:
        """Flow runs that match the filter, as soon as there are some."""
        return self.eventually(lambda: self.ask("/flow_runs/filter", flow_runs), bool)

    def sql(self, query: str, **parameters):
        from sqlalchemy import text

        with self.hub.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), parameters)]


def copy_checkout(folder: Path) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("prefect.yaml", "config.ini", "demo.ini"):
        shutil.copy(ROOT / file, folder)


@pytest.fixture(scope="module")
def checkout(home_root, server, tmp_path_factory):
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
        "ALPHAPIVOT_DATABASE__NAME": name,
    }
    log = (folder.parent / "ui.log").open("w+")
    command = [sys.executable, "-m", "alphapivot.cli", "ui"]
    ui = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 100
        while "Prefect UI:" not in (said := (folder.parent / "ui.log").read_text()):
            if ui.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"alphapivot ui did not come up: {said}")
            time.sleep(0.2)
        with Hub(url) as hub:
            api = said.split("Prefect UI: ")[1].split()[0] + "/api"
            yield Checkout(folder, environ, hub, api)
    finally:
        ui.send_signal(signal.SIGINT)
        try:
            ui.wait(30)
        except subprocess.TimeoutExpired:
            ui.kill()
            raise
        finally:
            log.close()
