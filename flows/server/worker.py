"""
The worker: takes runs from the pool, one process each, and ends well.

Prefect's own, told to stop, kills the runs under way and leaves them Running. This one takes no new run, gives those
under way time to finish, and what it must end then it sees to the end, so that the run reads Crashed and not Running. A
server that is away for a while does not end it.

Imports Prefect at once: import it only after ``local.join``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
import yaml
from prefect.settings import get_current_settings
from prefect.utilities.processutils import command_to_string
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from alphapivot import home
from alphapivot.errors import AlphaPivotError
from flows.server import environment, local, naming

log = logging.getLogger("prefect.alphapivot.worker")
STEP = "prefect.deployments.steps.set_working_directory"
KILL_SECONDS = 20  # for a run that was asked to end


class Configuration(ProcessJobConfiguration):
    """
    Starts a run's process at once: by default Prefect starts one more before it, which prepares a workspace.

    What a run executes is a flow of this checkout's prefect.yaml, whatever the server says: the pool's template refuses
    job variables already, and this refuses what came by another way.

    What it prints goes into a file, and not through a pipe to this worker: a run whose worker was killed would end at
    the next line that it prints.
    """

    @classmethod
    async def from_template_and_values(cls, base_job_template: Any, values: Any, client: Any = None) -> Any:
        if values:
            raise AlphaPivotError(f"job variables are not accepted: {', '.join(sorted(values))}")
        return await super().from_template_and_values(base_job_template, {}, client=client)

    def prepare_for_flow_run(self, flow_run: Any, deployment: Any = None, *args: Any, **kwargs: Any) -> None:
        check(deployment)
        if strange := sorted(name for name in self.env if not re.search(environment.GIVEN, name)):
            raise AlphaPivotError(
                f"the work pool sets {', '.join(strange)} for its runs; expected ALPHAPIVOT_* (but for HOME, CONFIG and"
                " PLUGINS__FOLDER) and APCA_*. Set it where the worker starts"
            )
        # what was checked, should the server name another entrypoint by the time that the run's process asks it
        self.env["PREFECT__FLOW_ENTRYPOINT"] = str(home.CHECKOUT / deployment.entrypoint)
        engine, out = shlex.quote(sys.executable), shlex.quote(str(local.rotated(home.prefect() / "runs.log")))
        self.command = command_to_string(["/bin/sh", "-c", f"exec {engine} -m prefect.engine >>{out} 2>&1"])
        self.working_dir, self.stream_output = home.CHECKOUT, False
        super().prepare_for_flow_run(flow_run, deployment, *args, **kwargs)


def check(deployment: Any) -> None:
    """Raises AlphaPivotError for a deployment that would execute something other than a flow of this checkout."""
    if deployment is None:
        raise AlphaPivotError("a run without a deployment is not accepted")
    ours = {
        entry["entrypoint"] for entry in yaml.safe_load((home.CHECKOUT / "prefect.yaml").read_text())["deployments"]
    }
    if deployment.entrypoint not in ours:
        raise AlphaPivotError(f"entrypoint {deployment.entrypoint} is not one of this checkout's prefect.yaml")
    steps = deployment.pull_steps or []
    if any(step != {STEP: {"directory": str(home.CHECKOUT)}} for step in steps) or not steps:
        raise AlphaPivotError(
            f"deployment {deployment.name} loads its code by {steps or deployment.path}; expected the checkout"
            f" {home.CHECKOUT}: run `alphapivot deploy` there"
        )


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it takes the place of Prefect's own is meant

    class Worker(ProcessWorker):
        """Prefect's process worker that also knows the process of each run under way."""

        job_configuration = Configuration

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.under_way: dict[UUID, int] = {}  # flow run -> process

        async def run(self, flow_run: Any, configuration: Any, task_status: Any = None) -> Any:
            def begun(pid: int) -> None:
                self.under_way[flow_run.id] = pid
                log.info("run %s: process %d", flow_run.id, pid)

            status = _Noted(task_status, begun)
            try:
                ended = await super().run(flow_run, configuration, status)
                log.info("run %s: ended with exit code %d", flow_run.id, ended.status_code)
                # a bad end has been told; the caller would tell it again, and undo a Retry that was quick
                return ProcessWorkerResult(status_code=0, identifier=ended.identifier)
            finally:
                self.under_way.pop(flow_run.id, None)


class _Noted:
    """A task status that also tells somebody else what has started."""

    def __init__(self, inner: Any, note: Callable[[int], None]) -> None:
        self._inner, self._note = inner, note

    def started(self, value: int) -> None:
        self._note(value)
        if self._inner is not None:
            self._inner.started(value)


async def work(drain: float, parent: int | None = None) -> None:
    """
    Works until SIGTERM or SIGINT, or until ``parent`` is no more its parent; then gives the runs under way ``drain``
    seconds to finish (a second signal: none) and ends them.
    """
    asked: list[float] = []
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: asked.append(time.monotonic()))

    def stopping() -> bool:
        if parent is not None and os.getppid() != parent and not asked:
            asked.append(time.monotonic())
        return bool(asked)

    worker = Worker(work_pool_name=naming.pool(), name=f"{os.uname().nodename}-{os.getpid()}")
    async with worker:
        log.info("worker %s started", worker.name)
        await _poll(worker, stopping)
        if worker.under_way:
            log.warning("waiting up to %.0f s for %d runs; a second signal ends them", drain, len(worker.under_way))
        await _until(lambda: not worker.under_way or len(asked) > 1, asked[0] + drain)
        for number, seconds in ((signal.SIGTERM, KILL_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            for pid in list(worker.under_way.values()):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            await _until(lambda: not worker.under_way, time.monotonic() + seconds)
    log.info("worker %s stopped", worker.name)


async def _poll(worker: Worker, stopping: Callable[[], bool]) -> None:
    settings = get_current_settings().worker
    beaten = float("-inf")
    while not stopping():
        now = time.monotonic()
        try:
            if now - beaten >= settings.heartbeat_seconds:
                await worker.sync_with_backend()
                beaten = now
            await worker.get_and_submit_flow_runs()
        except httpx.HTTPError as error:  # the server is away: it will be back
            log.warning("the Prefect server does not answer (%s); trying again", error)
        await _until(stopping, now + settings.query_seconds)


async def _until(over: Callable[[], bool], deadline: float) -> None:
    while not over() and time.monotonic() < deadline:  # noqa: ASYNC110 - no event tells that a parent or a process died
        await asyncio.sleep(0.1)
