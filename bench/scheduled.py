"""
Target 11f to 11j: seconds of `alphapivot run`, of a deployment's run from due to its orders sent, and whether the runs
of a schedule of one minute pile up. All with the commands and the server that users start, on servers of their own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphapivot.home import CHECKOUT as ROOT
from bench.execution import row
from bench.prefect import _completed, _home, _seconds, _started

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

FEW, MANY = 15, 500
FIRST = datetime(2024, 3, 4, 23, tzinfo=UTC)  # a Monday evening
RUNS = 3
AHEAD = timedelta(seconds=15)  # workers look further ahead
MINUTES = 60
COMMAND = [sys.executable, "-m", "alphapivot.cli"]
MINUTELY = {
    "start = 2023-01-01\nend = 2025-06-27": "start = {since}",
    "base = 1d\nweights = 1d: 0.7, 1w: 0.3": "base = 1m\nweights = 1m: 0.7, 5m: 0.3",
    "calendar = XNYS": "calendar = 24/7",
}


def rows(scale: float) -> Iterator[dict[str, Any]]:
    with _home(FEW) as config:
        _run(config, 0)  # creates the database
        cold = _typed(config, 1)
        yield row("11f", f"alphapivot run, {FEW} symbols", cold, None, cold, "<= 6", cold <= 6, scale)
        with _ui(config) as client:
            warm = _typed(config, 1 + RUNS)
            name = f"the same, the server up: {FEW} symbols"
            yield row("11g", name, warm, None, warm, "<= 3", warm <= 3, scale)
            sent = _sent(client, 1 + 2 * RUNS)
            name = f"a deployment's run, from due to orders sent, {FEW} symbols"
            yield row("11h", name, sent, None, sent, "<= 3", sent <= 3, scale)
    many = max(int(MANY * scale), FEW)
    with _home(many) as config:
        _run(config, 0)
        with _ui(config) as client:
            sent = _sent(client, 1)
            name = f"a deployment's run, from due to orders sent, {many} symbols"
            yield row("11i", name, sent, None, sent, "<= 8", sent <= 8, scale)
    with _home(FEW) as config:
        text = config.read_text()
        for daily, minutely in MINUTELY.items():
            assert daily in text, f"{config}: no {daily!r}"
            text = text.replace(daily, minutely.format(since=f"{datetime.now(UTC) - timedelta(days=5):%Y-%m-%d}"))
        config.write_text(text)
        subprocess.run([*COMMAND, "run", "--config", str(config)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        with _ui(config) as client:
            minutes = max(int(MINUTES * scale), 3)
            slowest, late = _each_minute(client, minutes)
            name = f"{FEW} symbols each minute for {minutes} minutes: slowest run; ratio: runs that the next one met"
            yield row("11j", name, slowest, None, late, "0", late == 0, scale)


def _run(config: Path, day: int) -> None:
    as_of = f"{FIRST + timedelta(days=day):%Y-%m-%dT%H:%M:%SZ}"
    command = [*COMMAND, "run", "--config", str(config), "--as-of", as_of]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _typed(config: Path, day: int) -> float:
    return statistics.median(_seconds(lambda: _run(config, day + n)) for n in range(RUNS))  # noqa: B023


@contextmanager
def _ui(config: Path) -> Iterator[SyncPrefectClient]:
    """`alphapivot ui` and its worker; a client of the server. Commands that are typed inside find the server."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - reads the environment set by _home
    from prefect.settings import (  # noqa: PLC0415
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        temporary_settings,
    )

    from flows.server import auth, local, naming  # noqa: PLC0415

    before = dict(os.environ)
    with _started("-m", "alphapivot.cli", "ui", "--no-schedules", "--config", str(config)), local.serving():
        chosen = {PREFECT_API_URL: os.environ["PREFECT_API_URL"], PREFECT_API_AUTH_STRING: os.environ[auth.CLIENT]}
        os.environ.clear()
        os.environ.update(before)
        with temporary_settings(chosen), get_client(sync_client=True) as client:
            workers = f"/work_pools/{naming.pool()}/workers/filter"
            while not client.request("POST", workers, json={}).json():
                time.sleep(0.5)
            yield client


def _sent(client: SyncPrefectClient, day: int) -> float:
    """Median seconds from due to the end of the step that sends orders; the worker has run one before."""
    from prefect.states import Scheduled  # noqa: PLC0415

    from flows.server import naming  # noqa: PLC0415

    deployment, seconds = client.read_deployment_by_name(naming.deployment("pipeline")), []
    for n in range(RUNS + 1):
        due = Scheduled(scheduled_time=datetime.now(UTC) + AHEAD)
        parameters = {"as_of": FIRST + timedelta(days=day + n)}
        flow_run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters, state=due)
        while not (flow_run := client.read_flow_run(flow_run.id)).state.is_final():
            time.sleep(0.1)
        _completed(flow_run.state)
        seconds.append(_traded(client, flow_run))
    return statistics.median(seconds[1:])


def _traded(client: SyncPrefectClient, flow_run: FlowRun) -> float:
    """Seconds from due until orders were sent, once the server has recorded it."""
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter  # noqa: PLC0415

    mine = {
        "flow_run_filter": FlowRunFilter.model_validate({"id": {"any_": [flow_run.id]}}),
        "task_run_filter": TaskRunFilter.model_validate({"name": {"any_": ["trade"]}}),
    }
    while not (ended := [t.end_time for t in client.read_task_runs(**mine) if t.end_time]):
        time.sleep(0.5)
    return float((ended[0] - flow_run.expected_start_time).total_seconds())


def _each_minute(client: SyncPrefectClient, minutes: int) -> tuple[float, int]:
    """Seconds from due to done of the slowest run of a schedule of one minute, and how many were not done in time."""
    from prefect.client.schemas.filters import FlowRunFilter  # noqa: PLC0415
    from prefect.client.schemas.schedules import CronSchedule  # noqa: PLC0415

    from flows.server import naming  # noqa: PLC0415

    deployment = client.read_deployment_by_name(naming.deployment("pipeline"))
    client.create_deployment_schedules(deployment.id, [(CronSchedule(cron="* * * * *"), True)])
    client.resume_deployment(deployment.id)  # --no-schedules has paused it
    begun = datetime.now(UTC)
    time.sleep(60 * (minutes + 1))
    due = {"after_": begun + timedelta(seconds=20), "before_": begun + timedelta(minutes=minutes)}  # made ahead
    mine = FlowRunFilter.model_validate({"deployment_id": {"any_": [deployment.id]}, "expected_start_time": due})
    flow_runs = client.read_flow_runs(flow_run_filter=mine, limit=200)
    assert len(flow_runs) >= minutes - 1, f"{len(flow_runs)} runs were made"
    took = [(r.end_time - r.expected_start_time).total_seconds() for r in flow_runs if r.state.name == "Completed"]
    return max(took, default=float("inf")), len(flow_runs) - sum(seconds < 60 for seconds in took)
