"""
Processes are killed in mid-run: each run ends in the right state, and Retry or the next run completes it with nothing
lost or doubled. All real: server, worker, flow process, PostgreSQL.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(900)]

BODY = "    def parts(self, bars: Panel) -> Parts:\n"
HOLD = BODY + (
    "        import os, time\n"
    "        if os.path.exists({flag!r}):\n"
    "            open({flag!r} + '.reached', 'w').write(str(os.getpid()))\n"
    "            while os.path.exists({flag!r}):\n"
    "                time.sleep(0.1)\n"
)


class Held:
    """A pipeline run that pauses in the middle of pillar momentum, after trend is scored and written."""

    days = itertools.count()

    def __init__(self, checkout) -> None:
        as_of = datetime(2025, 3, 3, 23, tzinfo=UTC) + timedelta(days=next(self.days))  # a new day: else all is done
        self.checkout, self.flag = checkout, checkout.folder / "hold"
        momentum = checkout.folder / "pillars" / "momentum.py"
        if "hold" not in momentum.read_text():
            assert BODY in momentum.read_text()
            momentum.write_text(momentum.read_text().replace(BODY, HOLD.format(flag=str(self.flag))))
        self.reached = Path(f"{self.flag}.reached")
        self.reached.unlink(missing_ok=True)
        self.flag.touch()
        self.id = checkout.trigger("pipeline", as_of=as_of.isoformat())
        checkout.eventually(lambda: self.reached.exists() and self.reached.read_text(), bool)
        self.pid = int(self.reached.read_text())

    def release(self) -> None:
        self.flag.unlink(missing_ok=True)

    @property
    def worker(self) -> int:
        """The worker is the parent of the flow's process."""
        return int(Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[1])

    def state(self) -> dict:
        return self.checkout.ask(f"/flow_runs/{self.id}")["state"]

    def ends(self, *kinds: str, seconds: float = 240) -> dict:
        state = self.checkout.ended(self.id, seconds)["state"]
        assert state["type"] in kinds, f"{state['name']}: {state['message']}"
        return state

    def retry_completes(self) -> None:
        self.checkout.retry(self.id)
        self.completes()

    def completes(self) -> None:
        """The run completes, with every row written once."""
        self.release()
        self.ends("COMPLETED")
        assert nothing_twice(self.checkout) == [(0,)]
        once = self.checkout.sql(
            "SELECT step, count(*) FROM ops.receipt JOIN ops.run USING (run_id) WHERE step = 'pillar trend 0'"
            " GROUP BY run_id, step"
        )
        assert all(n == 1 for _, n in once), "what was done before the crash was not done again"


@pytest.fixture(scope="module")
def more_environ(inbox):
    return {"ALPHAPIVOT_ALERT_URLS": inbox.url}


def nothing_twice(checkout) -> list[tuple]:
    """Intents of one symbol and instant beyond the first; entry orders of one intent beyond the first."""
    return checkout.sql(
        "SELECT (SELECT count(*) - count(DISTINCT (book, strategy, symbol, as_of, action)) FROM trading.intent)"
        " + (SELECT count(*) - count(DISTINCT (trade_id, leg, version)) FROM trading.orders)"
    )


@pytest.fixture
def run(checkout):
    held = Held(checkout)
    yield held
    held.release()
    if checkout.ui.poll() is not None:
        checkout.serve()
    held.checkout.eventually(held.state, lambda s: s["type"] not in ("RUNNING", "PENDING"))


def test_sigkill_of_the_flow(run):
    os.kill(run.pid, signal.SIGKILL)
    run.ends("CRASHED")
    hub_says = "SELECT state FROM ops.run WHERE state = 'failed' AND message LIKE 'Crashed:%'"
    run.checkout.eventually(lambda: run.checkout.sql(hub_says), bool)  # the alert flow's pass does it
    run.retry_completes()


def test_sigterm_of_the_worker_lets_the_run_finish(run):
    os.kill(run.worker, signal.SIGTERM)
    time.sleep(2)
    assert run.state()["type"] == "RUNNING", "it is given time"
    run.completes()


def test_a_second_sigterm_of_the_worker_ends_the_run_which_then_says_crashed(run):
    worker = run.worker
    os.kill(worker, signal.SIGTERM)
    time.sleep(1)
    os.kill(worker, signal.SIGTERM)
    run.ends("CRASHED")
    run.retry_completes()  # on another worker: `alphapivot ui` has started one


def test_sigkill_of_the_worker_and_its_flow(run, inbox):
    """No process is left to report it: the heartbeat automation marks the run, and another one sends the alert."""
    worker, flow = run.worker, run.pid
    os.kill(worker, signal.SIGKILL)
    os.kill(flow, signal.SIGKILL)
    state = run.ends("CRASHED")
    assert "no heartbeat for 90 s" in state["message"]
    alert = f"run crashed: {run.checkout.ask(f'/flow_runs/{run.id}')['name']}"
    run.checkout.eventually(inbox.titles, lambda titles: alert in titles)
    run.retry_completes()


def test_sigkill_of_the_worker_alone_leaves_the_flow_to_finish(run):
    os.kill(run.worker, signal.SIGKILL)
    run.completes()


def test_sigkill_of_the_server(run):
    (server,) = [
        int(p.name)
        for p in Path("/proc").iterdir()
        if p.name.isdigit()
        and str(run.checkout.ui.pid) == parent(p)
        and b"flows.server.app" in (p / "cmdline").read_bytes()
    ]
    os.kill(server, signal.SIGKILL)
    time.sleep(3)
    run.release()
    run.checkout.eventually(lambda: run.checkout.ask("/health"), bool)
    run.completes()


def parent(process: Path) -> str:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return ""


def test_sigkill_of_postgresql(run, server):
    os.kill(server.pid, signal.SIGKILL)
    run.release()
    run.release()
    run.checkout.eventually(lambda: run.checkout.sql("SELECT count(*) FROM ops.run"), bool)
    state = run.ends("COMPLETED", "FAILED", "CRASHED")
    if state["type"] != "COMPLETED":
        run.retry_completes()
    run.completes()


def test_sigkill_of_alphapivot_ui_itself_leaves_nothing_behind_that_the_next_one_does_not_take_over(run):
    worker = run.worker
    run.checkout.ui.kill()
    run.checkout.ui.wait()
    run.completes()
    run.checkout.eventually(lambda: not Path(f"/proc/{worker}").exists(), bool)
    run.checkout.serve()
    assert run.checkout.ask("/health")
