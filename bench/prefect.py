"""
Target 11: the time that Prefect adds to a pipeline run on a warm server; the time from Retry to done, the server's
memory after many runs, and pillars on a Dask cluster against threads.

Ours is the flow, run in this process; the yardstick is the same steps as plain functions (tasks/local/replay.py) for
the same days on a copy of the same database. Everything runs on its own embedded server, deleted afterwards.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphapivot.config.settings import Settings
from alphapivot.home import CHECKOUT as ROOT
from alphapivot.hub.server import embedded
from bench.execution import row

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

SYMBOLS = 500
FIRST = datetime(2024, 3, 4, 23, tzinfo=UTC)  # a Monday evening
RUNS = 3
DAYS = 300  # of the simulated market before FIRST
MANY_RUNS = 200
INSTRUMENT = """
[instrument.S{n:03d}]
spot = simulated
signal_market = spot
trade_market = spot
currency = USD
quote_unit = 1
multiplier = 1
tick = 0.01
lot = 1
margin = 1
tradable = yes
calendar = XNYS
"""


def rows(scale: float) -> Iterator[dict[str, Any]]:
    symbols = max(int(SYMBOLS * scale), 2)
    with _home(symbols) as config:
        from flows.server import deploy, local  # noqa: PLC0415 - Prefect reads the environment set by _home

        with local.serving():
            deploy.deploy()
            with_prefect, plain = _runs(config)
            share = with_prefect - plain
            name = f"a pipeline run of one new day, {symbols} symbols: as a flow / as plain functions; seconds more"
            yield row("11", name, with_prefect, plain, share, "<= 2", share <= 2, scale)
            tasks = _tasks()
            yield row("11b", "tasks of a run; ratio: their number", None, None, tasks, "<= 50", tasks <= 50, scale)
            seconds = _retry(config)
            name = "from pressing Retry to done, an idle worker, all steps found done"
            yield row("11c", name, seconds, None, seconds, "reported", met=True, scale=scale)
            ours, threads = _dask(config)
            name = f"all pillars over {DAYS} days of {symbols} symbols: Dask with 2 workers / threads"
            yield row("11d", name, ours, threads, ours / threads, "reported", met=True, scale=scale)
            runs = max(int(MANY_RUNS * scale), 2)
            before, after = _memory(runs, tasks)
            name = f"the server's memory after {runs} runs of {tasks} tasks more; ratio: MB, {before:.0f} before"
            yield row("11e", name, None, None, after, "reported", met=True, scale=scale)


@contextmanager
def _home(symbols: int) -> Iterator[Path]:
    """A config of ``symbols`` simulated stocks in its own home."""
    folder = Path(tempfile.mkdtemp(prefix="alphapivot-bench-"))
    folder.chmod(0o711)
    small = (ROOT / "tests" / "configs" / "small.ini").read_text()
    parts = [part for part in re.split(r"(?m)^(?=\[)", small) if not part.startswith("[instrument.")]
    config = folder / "bench.ini"
    config.write_text("".join([*parts, *(INSTRUMENT.format(n=n) for n in range(symbols))]))
    before = dict(os.environ)
    for name in [n for n in before if n.startswith(("PREFECT", "ALPHAPIVOT"))]:
        del os.environ[name]
    os.environ |= {"ALPHAPIVOT_HOME": str(folder / "home"), "ALPHAPIVOT_CONFIG": str(config)}
    try:
        yield config
    finally:
        embedded.stop(folder / "home" / "postgres")
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def _runs(config: Path) -> tuple[float, float]:
    """Median seconds of a run for one new day: as a flow, and as plain functions, in turn on two databases."""
    from alphapivot import process  # noqa: PLC0415
    from flows.server import local  # noqa: PLC0415
    from tasks.local import replay  # noqa: PLC0415

    def on(database: str) -> Settings:
        os.environ["ALPHAPIVOT_DATABASE__NAME"] = database
        return process.configure(config)

    for database in ("plain", "flow"):
        replay.session(on(database), FIRST)
    pairs = []
    for day in range(1, RUNS + 2):
        as_of = FIRST + timedelta(days=day)
        settings = on("plain")
        plain = _seconds(lambda: replay.session(settings, as_of))  # noqa: B023 - called at once
        on("flow")
        pairs.append((_seconds(lambda: _completed(local.run("pipeline", {"as_of": as_of}))), plain))  # noqa: B023
    with_prefect, plain = (statistics.median(times) for times in zip(*pairs[1:], strict=True))  # the first warms up
    return with_prefect, plain


def _completed(state: Any) -> None:
    assert state.is_completed(), state.message


def _last() -> FlowRun:
    """The last completed run."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()
    from prefect.client.schemas.filters import FlowRunFilter  # noqa: PLC0415
    from prefect.client.schemas.sorting import FlowRunSort  # noqa: PLC0415

    done = FlowRunFilter.model_validate({"state": {"type": {"any_": ["COMPLETED"]}}})
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=done, limit=1, sort=FlowRunSort.END_TIME_DESC)[0]


def _tasks() -> int:
    """The number of tasks of the last run, once the server's count is stable."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()
    from prefect.client.schemas.filters import FlowRunFilter  # noqa: PLC0415

    mine = FlowRunFilter.model_validate({"id": {"any_": [_last().id]}})
    seen = [-1]
    with get_client(sync_client=True) as client:
        while seen[-1] != (count := len(client.read_task_runs(flow_run_filter=mine))) or not count:
            seen.append(count)
            time.sleep(5)
    return count


def _retry(config: Path) -> float:
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()
    from prefect.states import AwaitingRetry  # noqa: PLC0415

    with _started("-m", "alphapivot.cli", "worker", "--config", str(config)), get_client(sync_client=True) as client:
        last, times = _last(), []
        for count in range(last.run_count + 1, last.run_count + 4):  # the first includes the worker's start
            started = time.perf_counter()
            client.set_flow_run_state(last.id, AwaitingRetry(), force=True)
            while not ((run := client.read_flow_run(last.id)).run_count == count and run.state.is_final()):
                time.sleep(0.05)
            _completed(run.state)
            times.append(time.perf_counter() - started)
        return statistics.median(times[1:])


def _dask(config: Path) -> tuple[float, float]:
    """Seconds of the flow `signals` over the full history: on a cluster of two workers, and in threads."""
    from alphapivot import process  # noqa: PLC0415
    from flows.server import deploy, local  # noqa: PLC0415

    scheduler = config.with_name("scheduler.json")
    cluster = ["--no-dashboard", "--scheduler-file", str(scheduler)]
    seconds = {}
    for runner in ("dask", "threads"):
        variant = config.with_name(f"{runner}.ini")
        address = "\ndask_address = tcp://127.0.0.1:8786"
        variant.write_text(config.read_text().replace("shards = 1", f"shards = 2\ntask_runner = {runner}{address}"))
        os.environ["ALPHAPIVOT_DATABASE__NAME"] = f"on_{runner}"
        process.configure(variant)
        deploy.deploy()  # under the names of this config
        _completed(local.run("ingest", {"as_of": FIRST}))
        with ExitStack() as stack:
            if runner == "dask":
                stack.enter_context(_started("-m", "dask", "scheduler", "--host", "127.0.0.1", *cluster))
                for _ in range(2):
                    worker = ["-m", "dask", "worker", "--no-nanny", "--nthreads", "1", *cluster]
                    stack.enter_context(_started(*worker))
                variant.write_text(variant.read_text().replace("tcp://127.0.0.1:8786", _address(scheduler)))
            seconds[runner] = _seconds(lambda: _completed(local.run("signals", {"as_of": FIRST})))
    return seconds["dask"], seconds["threads"]


def _address(scheduler: Path) -> str:
    """The scheduler's address, once both workers have joined, so that their start is not measured."""
    from distributed import Client  # noqa: PLC0415

    while not scheduler.exists():
        time.sleep(0.1)
    with Client(scheduler_file=str(scheduler)) as client:
        client.wait_for_workers(2)
        for module in ("tasks.pillars", "pillars"):
            client.run(importlib.import_module, module)
        return str(client.scheduler.address)


def _memory(runs: int, tasks: int) -> tuple[float, float]:
    """Megabytes of the server's process before and after ``runs`` runs."""
    from prefect import flow, task  # noqa: PLC0415 - after join()

    from flows.server import local  # noqa: PLC0415

    @task
    def nothing(_: int) -> None: ...

    @flow
    def empty() -> None:
        for number in range(tasks):
            nothing(number)

    pid = local._address()["pid"]  # noqa: SLF001 - there is no public way
    before = _resident(pid)
    for _ in range(runs):
        empty()
    return before, _resident(pid)


def _resident(pid: int) -> float:
    kilobytes = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True).stdout  # noqa: S607
    return int(kilobytes) / 1024


@contextmanager
def _started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
