"""
Pillar x shard tasks on a Dask cluster: a scheduler and two workers that were started elsewhere than in the checkout and
know nothing but the code and the database's address. One of them is killed in mid-run.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("prefect_dask", reason="the extra dask is not installed")

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(900)]

AS_OF = "2025-06-27T00:00:00+00:00"
BODY = "    def parts(self, bars: Panel) -> Parts:\n"
SPY = (
    BODY
    + """        import os, time
        with open({folder!r} + f"/momentum.{{os.getpid()}}", "a") as seen:
            seen.write("x")
        while os.path.exists({folder!r} + "/hold"):
            time.sleep(0.1)
"""
)


@pytest.fixture
def cluster(checkout, tmp_path):
    """The scheduler's address, and the processes of the two workers."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "ALPHAPIVOT", "PYTHON"))}
    environ = inherited | {
        "PYTHONPATH": str(checkout.folder),
        "ALPHAPIVOT_DATABASE__URL": checkout.hub.url,
        "PREFECT_API_URL": checkout.api,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3",
    }
    dask = str(Path(sys.executable).with_name("dask"))
    log = tmp_path / "dask.log"
    processes = []

    def start(*arguments: str) -> subprocess.Popen:
        with log.open("a") as out:
            made = subprocess.Popen([dask, *arguments], cwd=tmp_path, env=environ, stdout=out, stderr=out)
        processes.append(made)
        return made

    start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    found = checkout.eventually(lambda: re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text()), bool, 120)
    workers = [start("worker", found[1], "--no-nanny", "--nthreads", "1", "--no-dashboard") for _ in range(2)]
    checkout.eventually(lambda: log.read_text().count("Registered to:"), lambda n: n == 2, 120)
    yield found[1], workers
    for process in processes:
        process.kill()
        process.wait()


def test_a_run_on_two_workers_of_which_one_is_killed_is_done_once_and_completely(checkout, cluster, tmp_path):
    address, workers = cluster
    spied = tmp_path / "spied"
    spied.mkdir()
    (spied / "hold").touch()
    momentum = checkout.folder / "pillars" / "momentum.py"
    momentum.write_text(momentum.read_text().replace(BODY, SPY.format(folder=str(spied))))
    small = (checkout.folder / "tests/configs/small.ini").read_text()
    config = checkout.folder / "dask.ini"
    config.write_text(
        small.replace("shards = 1", f"shards = 2\ntask_runner = dask\ndask_address = {address}  ; the test's own")
    )
    run_id = checkout.trigger("pipeline", as_of=AS_OF, config=str(config))

    first = checkout.eventually(lambda: [int(p.suffix[1:]) for p in spied.glob("momentum.*")], bool, 200)[0]
    assert first in [w.pid for w in workers], "it runs on the cluster, not in the flow's process"
    os.kill(first, signal.SIGKILL)
    time.sleep(1)
    (spied / "hold").unlink()

    run = checkout.ended(run_id)
    assert run["state"]["type"] == "COMPLETED", run["state"]
    by = {int(p.suffix[1:]) for p in spied.glob("momentum.*")}
    assert by == {w.pid for w in workers}, "the other worker has taken over"
    done = dict(checkout.sql("SELECT step, count(*) FROM ops.batch GROUP BY step"))
    scored = {step: n for step, n in done.items() if step.startswith("pillar ")}
    assert len(scored) == 12
    assert set(scored.values()) == {1}, scored
    twice = "SELECT count(*) FROM (SELECT FROM signals.signal_revision) AS superseded"
    assert checkout.sql(twice) == [(0,)], "nothing was written twice"
    assert checkout.sql("SELECT count(*) > 0 FROM trading.intent") == [(True,)]
