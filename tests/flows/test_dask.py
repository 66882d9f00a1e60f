"""
Pillar x shard tasks on a Dask cluster: a scheduler and two workers, started outside the checkout, that know only the
code and the database's address. One of them is killed in mid-run.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pillars import PILLARS

pytest.importorskip("prefect_dask", reason="the extra dask is not installed")

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(900)]

AS_OF, NEXT = "2025-06-26T00:00:00+00:00", "2025-06-27T00:00:00+00:00"
SCORED = PILLARS.keys() - {"relative", "reversion"}  # they are not in the config
BODY = "    def parts(self, bars: Panel) -> Parts:\n"
SPY = (
    BODY
    + """        import os, time
        with open({folder!r} + f"/momentum.{{os.getpid()}}", "a") as seen:
            seen.write("x")
        if os.path.exists({folder!r} + "/fail"):
            raise RuntimeError("injected by the test")
        while os.path.exists({folder!r} + "/hold"):
            time.sleep(0.1)
"""
)


@pytest.fixture(scope="module")
def spied(checkout, tmp_path_factory):
    """The folder where pillar momentum records its process, and looks for orders to fail or to pause."""
    folder = tmp_path_factory.mktemp("spied")
    momentum = checkout.folder / "pillars" / "momentum.py"
    momentum.write_text(momentum.read_text().replace(BODY, SPY.format(folder=str(folder))))
    return folder


@pytest.fixture(scope="module")
def cluster(checkout, tmp_path_factory):
    """The scheduler's address, and the processes of the two workers."""
    folder = tmp_path_factory.mktemp("elsewhere")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "ALPHAPIVOT", "PYTHON"))}
    environ = inherited | {
        "PYTHONPATH": str(checkout.folder),
        "ALPHAPIVOT_DATABASE__URL": checkout.hub.url,
        "PREFECT_API_URL": checkout.api,
        "PREFECT_HOME": str(folder / "prefect"),
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "5m",  # the machine may be busy
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5m",
    }
    dask = str(Path(sys.executable).with_name("dask"))
    log = folder / "dask.log"
    processes = []

    def start(*arguments: str) -> subprocess.Popen:
        with log.open("a") as out:
            made = subprocess.Popen([dask, *arguments], cwd=folder, env=environ, stdout=out, stderr=out)
        processes.append(made)
        return made

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        scheduler = checkout.eventually(lambda: re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text()), bool)[1]
        workers = [start("worker", scheduler, "--no-nanny", "--nthreads", "1", "--no-dashboard") for _ in range(2)]
        checkout.eventually(lambda: log.read_text().count("Registered to:"), lambda n: n == 2)
        yield scheduler, workers
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def config(checkout, cluster):
    dask = f"shards = 2\ntask_runner = dask\ndask_address = {cluster[0]}  ; the test's cluster"
    with checkout.configured(lambda text: text.replace("shards = 1", dask)):
        yield


def batches(checkout, as_of: str) -> dict[str, int]:
    query = "SELECT step, count(*) FROM ops.batch JOIN ops.run USING (run_id) WHERE as_of = :as_of GROUP BY step"
    return dict(checkout.sql(query, as_of=as_of))


def processes(spied: Path) -> set[int]:
    return {int(p.suffix[1:]) for p in spied.glob("momentum.*")}


def test_retry_executes_only_what_failed_on_the_cluster_too(checkout, cluster, config, spied):
    (spied / "fail").touch()
    run_id = checkout.trigger("pipeline", as_of=AS_OF)
    run = checkout.ended(run_id)
    (spied / "fail").unlink()
    assert run["state"]["type"] == "FAILED", run["state"]
    assert "pillar momentum 0" in run["state"]["message"]
    assert processes(spied) <= {w.pid for w in cluster[1]}, "it runs on the cluster, not in the flow's process"
    done = batches(checkout, AS_OF)
    assert {f"pillar {name} {k}" for name in SCORED if name != "momentum" for k in (0, 1)} < set(done)

    checkout.retry(run_id)
    checkout.eventually(lambda: checkout.ask(f"/flow_runs/{run_id}")["run_count"], lambda n: n == 2)
    checkout.completed(run_id)
    again = {"pillar momentum 0": 1, "pillar momentum 1": 1, "composite": 2, "trade": 2}
    assert batches(checkout, AS_OF) == done | again


def test_a_run_on_two_workers_of_which_one_is_killed_is_done_once_and_completely(checkout, cluster, config, spied):
    workers = {w.pid for w in cluster[1]}
    for seen in spied.glob("momentum.*"):
        seen.unlink()
    (spied / "hold").touch()
    run_id = checkout.trigger("pipeline", as_of=NEXT)
    checkout.eventually(lambda: processes(spied), bool, 300)
    first = processes(spied).pop()
    assert first in workers
    os.kill(first, signal.SIGKILL)
    checkout.eventually(lambda: processes(spied), lambda seen: seen == workers, 300)  # the other one has taken over
    (spied / "hold").unlink()

    checkout.completed(run_id)
    scored = {step: n for step, n in batches(checkout, NEXT).items() if step.startswith("pillar ")}
    assert scored == {f"pillar {name} {k}": 1 for name in SCORED for k in (0, 1)}
    twice = "SELECT count(*) FROM (SELECT FROM signals.signal_revision) AS superseded"
    assert checkout.sql(twice) == [(0,)], "nothing was written twice"
    assert checkout.sql("SELECT count(*) > 0 FROM trading.intent") == [(True,)]
