"""
The worker: takes runs from the pool, one process each, and shuts down cleanly.

Prefect's own worker kills its active runs on shutdown and leaves them Running. This one takes no new runs, gives active
ones time to finish, and waits for those it must kill, so that they become Crashed. It survives a server that is down
for a while.

Imports Prefect at the top: import it only after ``local.join``.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any
from uuid import UUID

import anyio
import httpx
import yaml
from prefect.runner import _starter_engine
from prefect.settings import get_current_settings
from prefect.utilities.processutils import command_to_string, run_process
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from alphapivot import home
from alphapivot.errors import AlphaPivotError
from flows.server import environment, local, naming, warm, watch

log = logging.getLogger("prefect.alphapivot.worker")
STEP = "prefect.deployments.steps.set_working_directory"
KILL_SECONDS = 20  # for a run to end after a signal


class Configuration(ProcessJobConfiguration):
    """
    Starts a run's process directly; Prefect by default starts another one first to prepare a workspace.

    A run executes a flow of this checkout's prefect.yaml, whatever the server says: the pool's template already rejects
    job variables, and this rejects any that came another way.

    Output goes to a file, not through a pipe to this worker: otherwise a run whose worker was killed would die at its
    next line of output.
    """

    @classmethod
    async def from_template_and_values(cls, base_job_template: Any, values: Any, client: Any = None) -> Any:
        if values:
            raise AlphaPivotError(f"job variables are not accepted: {', '.join(sorted(values))}")
        return await super().from_template_and_values(base_job_template, {}, client=client)

    def prepare_for_flow_run(self, flow_run: Any, deployment: Any = None, *args: Any, **kwargs: Any) -> None:
        check(deployment)
        if refused := sorted(name for name in self.env if not re.search(environment.GIVEN, name)):
            raise AlphaPivotError(
                f"the work pool sets {', '.join(refused)} for its runs; expected ALPHAPIVOT_* (except HOME, CONFIG and"
                f" PLUGINS__FOLDER), {', '.join(f'{name}_*' for name in environment.KEYS)}. Set it where the worker"
                " starts"
            )
        # pins the checked entrypoint: the server could name another one by the time the run's process starts
        self.env["PREFECT__FLOW_ENTRYPOINT"] = str(home.CHECKOUT / deployment.entrypoint)
        engine, out = shlex.quote(sys.executable), shlex.quote(str(local.rotated(home.prefect() / "runs.log")))
        self.command = command_to_string(["/bin/sh", "-c", f"exec {engine} -m prefect.engine >>{out} 2>&1"])
        self.working_dir, self.stream_output = home.CHECKOUT, False
        super().prepare_for_flow_run(flow_run, deployment, *args, **kwargs)


def check(deployment: Any) -> None:
    """Raises AlphaPivotError unless the deployment executes a flow of this checkout."""
    if deployment is None:
        raise AlphaPivotError("a run without a deployment is not accepted")
    ours = {entry["entrypoint"] for entry in yaml.safe_load(home.shipped("prefect.yaml").read_text())["deployments"]}
    if deployment.entrypoint not in ours:
        raise AlphaPivotError(f"entrypoint {deployment.entrypoint} is not one of this checkout's prefect.yaml")
    steps = deployment.pull_steps or []
    if any(step != {STEP: {"directory": str(home.CHECKOUT)}} for step in steps) or not steps:
        raise AlphaPivotError(
            f"deployment {deployment.name} loads its code by {steps or deployment.path}; expected the checkout"
            f" {home.CHECKOUT}: run `alphapivot deploy` there"
        )


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it replaces Prefect's own worker on purpose

    class Worker(ProcessWorker):
        """Prefect's process worker, which also records the process of each active run."""

        job_configuration = Configuration

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.active: dict[UUID, int] = {}  # flow run -> process

        async def run(self, flow_run: Any, configuration: Any, task_status: Any = None) -> Any:
            def started(pid: int) -> None:
                self.active[flow_run.id] = pid
                log.info("run %s: process %d", flow_run.id, pid)

            status = _ObservedStatus(task_status, started)
            try:
                ended = await super().run(flow_run, configuration, status)
                log.info("run %s: ended with exit code %d", flow_run.id, ended.status_code)
                # a failure is already reported; the caller would report it again, and undo a quick Retry
                return ProcessWorkerResult(status_code=0, identifier=ended.identifier)
            finally:
                self.active.pop(flow_run.id, None)


class Forked:
    """The process of a run that the template has forked: what Prefect reads of an ``anyio.abc.Process``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    async def wait(self) -> None:
        """Waits for its end; ends it if this task is cancelled."""
        exited = os.pidfd_open(self.pid)
        try:
            await anyio.wait_readable(exited)
        except BaseException:
            os.kill(self.pid, signal.SIGKILL)
            raise
        finally:
            os.close(exited)
            _, status = os.waitpid(self.pid, 0)  # noqa: ASYNC222 - it has ended
            self.returncode = os.waitstatus_to_exitcode(status)


def forking(template: warm.Template) -> Callable[..., Any]:
    """Prefect's ``run_process``, but with processes that ``template`` forks; it starts those that cannot be forked."""

    async def run(
        command: list[str], *, task_status: Any, task_status_handler: Any, env: dict[str, str], **options: Any
    ) -> Any:
        pid = await asyncio.to_thread(template.fork, env)
        if pid is None:
            log.warning("run %s: starts without the template; see runs.log", env["PREFECT__FLOW_RUN_ID"])
            given = {"task_status": task_status, "task_status_handler": task_status_handler, "env": env}
            return await run_process(command, **given, **options)
        process = Forked(pid)
        task_status.started(task_status_handler(process))
        await process.wait()
        return process

    return run


class _ObservedStatus:
    """A task status that also calls ``observer`` with the process that has started."""

    def __init__(self, inner: Any, observer: Callable[[int], None]) -> None:
        self._inner, self._observer = inner, observer

    def started(self, value: int) -> None:
        self._observer(value)
        if self._inner is not None:
            self._inner.started(value)


async def work(drain: float, parent: int | None = None) -> None:
    """
    Works until SIGTERM or SIGINT, or until ``parent`` is no longer its parent; then gives active runs ``drain`` seconds
    to finish (none after a second signal) and ends them.
    """
    stops: list[float] = []
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stops.append(time.monotonic()))

    def stopping() -> bool:
        if parent is not None and os.getppid() != parent and not stops:
            stops.append(time.monotonic())
        return bool(stops)

    worker = Worker(work_pool_name=naming.pool(), name=f"{os.uname().nodename}-{os.getpid()}")
    if parent is None:  # else `alphapivot ui` watches
        watch.begin()
    with _warmed() if warm.SUPPORTED else nullcontext():
        async with worker:
            await _serve(worker, stops, stopping, drain)
    log.info("worker %s stopped", worker.name)


@contextmanager
def _warmed() -> Iterator[None]:
    """Has Prefect start runs by forking a template, which imports in the background."""
    template = warm.Template({**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)})
    template.start()
    _starter_engine.run_process = forking(template)  # its docstring: "patch the module to override"
    try:
        yield
    finally:
        template.stop()
        _starter_engine.run_process = run_process


async def _serve(worker: Worker, stops: list[float], stopping: Callable[[], bool], drain: float) -> None:
    log.info("worker %s started", worker.name)
    await _poll(worker, stopping)
    if worker.active:
        log.warning("waiting up to %.0f s for %d runs; a second signal ends them", drain, len(worker.active))
    await _until(lambda: not worker.active or len(stops) > 1, stops[0] + drain)
    for number, seconds in ((signal.SIGTERM, KILL_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        for pid in list(worker.active.values()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        await _until(lambda: not worker.active, time.monotonic() + seconds)


async def _poll(worker: Worker, stopping: Callable[[], bool]) -> None:
    settings = get_current_settings().worker
    last_heartbeat = float("-inf")
    while not stopping():
        now = time.monotonic()
        try:
            if now - last_heartbeat >= settings.heartbeat_seconds:
                await worker.sync_with_backend()
                last_heartbeat = now
            await worker.get_and_submit_flow_runs()
        except httpx.HTTPError as error:  # the server may be restarting
            log.warning("the Prefect server does not answer (%s); trying again", error)
        await _until(stopping, now + settings.query_seconds)


async def _until(over: Callable[[], bool], deadline: float) -> None:
    while not over() and time.monotonic() < deadline:  # noqa: ASYNC110 - there is no event for the death of a parent or a process
        await asyncio.sleep(0.1)
