"""
Target 11: what Prefect adds to a pipeline run, its server warm; the time from pressing Retry to done.

Ours is the flow, run in this process; the yardstick the same steps as plain functions (flows/replay.py) for the same
days on a copy of the same database. All on an embedded server of its own, which is thrown away.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alphapivot.home import CHECKOUT as ROOT
from alphapivot.hub import embedded
from alphapivot.settings import Settings
from bench.execution import row

SYMBOLS = 500
FIRST = datetime(2024, 3, 4, 23, tzinfo=UTC)  # a Monday evening
RUNS = 3
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
        from flows import deploy, operate  # noqa: PLC0415 - Prefect reads the environment of the home just made

        with operate.serving():
            deploy.deploy()
            with_prefect, plain = _runs(config)
            share = with_prefect - plain
            name = f"a pipeline run of one new day, {symbols} symbols: as a flow / as plain functions; seconds more"
            yield row("11", name, with_prefect, plain, share, "<= 2", share <= 2, scale)
            seconds = _retry(config)
            name = "from pressing Retry to done, an idle worker, all steps found done"
            yield row("11b", name, seconds, None, seconds, "reported", met=True, scale=scale)


@contextmanager
def _home(symbols: int) -> Iterator[Path]:
    """A config of so many simulated stocks in a home of its own."""
    folder = Path(tempfile.mkdtemp(prefix="alphapivot-bench-"))
    folder.chmod(0o711)
    small = (ROOT / "tests" / "configs" / "small.ini").read_text()
    parts = [part for part in re.split(r"(?m)^(?=\[)", small) if not part.startswith("[instrument.")]
    config = folder / "bench.ini"
    config.write_text("".join([*parts, *(INSTRUMENT.format(n=n) for n in range(symbols))]))
    before = dict(os.environ)
    for name in [n for n in before if n.startswith(("PREFECT", "ALPHAPIVOT"))]:
        del os.environ[name]
    os.environ["ALPHAPIVOT_HOME"] = str(folder / "home")
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
    from flows import operate, replay  # noqa: PLC0415

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
        run = {"as_of": as_of, "config": str(config)}
        pairs.append((_seconds(lambda: _completed(operate.run("pipeline/pipeline", run))), plain))  # noqa: B023
    with_prefect, plain = (statistics.median(times) for times in zip(*pairs[1:], strict=True))  # the first warms up
    return with_prefect, plain


def _completed(state: Any) -> None:
    assert state.is_completed(), state.message


def _retry(config: Path) -> float:
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()
    from prefect.client.schemas.sorting import FlowRunSort  # noqa: PLC0415
    from prefect.states import AwaitingRetry  # noqa: PLC0415

    worker = subprocess.Popen(
        [sys.executable, "-m", "alphapivot.cli", "worker", "--config", str(config)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with get_client(sync_client=True) as client:
            (last,) = client.read_flow_runs(limit=1, sort=FlowRunSort.START_TIME_DESC)
            times = []
            for count in range(last.run_count + 1, last.run_count + 4):  # the first waits for the worker's own start
                started = time.perf_counter()
                client.set_flow_run_state(last.id, AwaitingRetry(), force=True)
                while not ((run := client.read_flow_run(last.id)).run_count == count and run.state.is_final()):
                    time.sleep(0.05)
                times.append(time.perf_counter() - started)
            return statistics.median(times[1:])
    finally:
        worker.terminate()
        worker.wait()


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
