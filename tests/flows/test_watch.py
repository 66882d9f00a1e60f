"""A worker hangs: the run that was due is told by another process, with a real Prefect server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(600)]
LOOK = """
from alphapivot import process
from flows.server import local

process.configure()
server = local.join()
server.wait()
from flows.server import watch

watch.look()
server.stop()
"""


@pytest.fixture(scope="module")
def more_environ(inbox):
    return {"ALPHAPIVOT_ALERT_URLS": inbox.url}


def test_a_run_that_no_worker_takes_is_told_by_whoever_lives(checkout, inbox):
    workers = [pid for pid, command in checkout.processes().items() if "cli worker" in command]
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # it hangs: `alphapivot ui` does not restart it
    try:
        late = checkout.trigger("report", at=datetime.now(UTC) - timedelta(minutes=7))
        soon = checkout.trigger("evaluate", at=datetime.now(UTC) - timedelta(minutes=2))
        names = {run: checkout.ask(f"/flow_runs/{run}")["name"] for run in (late, soon)}
        done = subprocess.run(
            [sys.executable, "-c", LOOK],
            cwd=checkout.folder,
            env=checkout.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        missed = [title for title in inbox.titles() if title.startswith("run missed")]
        assert missed == [f"run missed: {names[late]}"]
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    checkout.completed(late)
