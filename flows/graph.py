"""
The steps of the graph ingest -> signals -> trade, as tasks of the one flow run that calls them: a Retry of a subflow
would repeat all of its tasks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prefect import Task, runtime
from prefect.concurrency.sync import concurrency
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed, State
from prefect.utilities.callables import get_call_parameters
from prefect.utilities.engine import collect_task_run_inputs_sync

from alphapivot import hub, process, waiting
from alphapivot.brokers import registry
from alphapivot.config.sections.instrument import LEGS
from alphapivot.config.settings import Settings
from alphapivot.execution.run import engine
from alphapivot.hub.tables import ops
from alphapivot.runs import RunRef
from flows import schedule
from flows.server import deploy, local
from tasks import composite, execution, ingest, pillars, reports, runs, server
from tasks import rerun as again
from tasks.step import open_run

Futures = dict[str, PrefectFuture[Any]]
States = dict[str, State[Any]]
Submit = Callable[..., PrefectFuture[Any]]

log = logging.getLogger("alphapivot.graph")
LOST = "the task was lost; check the Dask cluster"
WAIT_SECONDS = 600  # for another run to release a limit of one


def run_name() -> str:
    """Flow and instant, such as ``pipeline 2026-11-20 21:30Z``."""
    as_of = runtime.flow_run.parameters.get("as_of") or runtime.flow_run.scheduled_start_time
    at = datetime.fromisoformat(as_of) if isinstance(as_of, str) else as_of
    return f"{runtime.flow_run.flow_name} {at.astimezone(UTC):%Y-%m-%d %H:%M}Z"


def begin(kind: str, as_of: datetime | None, feed: str | None, *, wait: bool = True) -> RunRef | State[Any]:
    """
    Our run for this flow run, keyed by the flow run's id and decided for its scheduled start; both survive a Retry. At
    the first attempt it may be the state Skipped with the reason instead. ``wait``: for bars that are about to be
    published.
    """
    if as_of is not None and as_of.tzinfo is None:
        raise ValueError(f"as_of {as_of} has no time zone; expected an instant such as 2026-11-20T21:00:00Z")
    if as_of is not None and as_of > datetime.now(UTC):
        raise ValueError(f"as_of {as_of.isoformat()} has not come: nothing that late is known")
    settings = process.configure(feed=feed)
    if kind in ("pipeline", "trade", "manage"):
        registry.check(settings)
    reports.label(settings)
    runs.close_lost(hub.connect())
    scheduled = runtime.flow_run.scheduled_start_time
    at = as_of or schedule.newest_due(scheduled)
    run = runs.begin(kind, settings, key=str(runtime.flow_run.id), as_of=at)
    if kind in ("pipeline", "trade"):  # manage goes on: what is open stays protected
        registry.refuse(hub.connect(), settings)
    if not schedule.first_attempt():
        return run
    if at != scheduled and as_of is None:
        _rename(f"{kind} {at.astimezone(UTC):%Y-%m-%d %H:%M}Z")
    reason = schedule.overtaken(hub.connect(), run, kind) if as_of is None else ""
    if not reason and kind in ("pipeline", "ingest"):
        reason = schedule.too_early(settings, at, wait=wait)
    return skipped(run, reason) if reason else run


def skipped(run: RunRef, reason: str) -> State[Any]:
    """Ends a run that has nothing to do; returns the state Skipped with ``reason``."""
    ops.finish_run(hub.connect(), run.run_id, "skipped", reason)
    reports.tell(run)  # missing bars are worth an alert
    return Completed(name="Skipped", message=reason)


def _rename(name: str) -> None:
    server.ask(lambda client: client.update_flow_run(runtime.flow_run.id, name=name))


def ingestion(run: RunRef, *, wait: bool) -> tuple[Futures, str]:
    """
    One task per feed and shard; one failure does not stop the others. ``wait``: polls the feeds, for up to [runtime]
    patience, while an exchange has delivered none of its due bars.

    Returns the tasks, and the reason to skip the run if no exchange has delivered any; else an empty string.
    """
    settings, database = open_run(run)
    patience = timedelta(minutes=settings.runtime.patience)
    until, done = datetime.now(UTC) + patience, []
    due, reported = f"for {run.as_of:%Y-%m-%d %H:%M} UTC yet", None
    while True:
        futures: Futures = {}
        for spreads in (False, True):  # whose bars are made of those of the others
            pairs = [(feed, k) for feed, k in ingest.batches(run) if (feed == LEGS) == spreads]
            done = [*done, *_done(futures.values())]
            steps = {f"ingest {feed} {k}": ingest.ingest.submit(run, feed, k, after=done) for feed, k in pairs}
            futures |= _wait(steps)
        done = _done(futures.values())
        if len(done) < len(futures):
            return futures, ""
        missing, exchanges = schedule.absent(database, settings, run.as_of)
        if not missing:
            return futures, ""
        names = ", ".join(missing)
        if not wait:
            waiting.say(f"no bars of {names} {due}: not waiting, using earlier bars")
            return futures, ""
        if datetime.now(UTC) >= until:
            minutes = patience / timedelta(minutes=1)
            after = f"after {minutes:g} minutes of waiting; earlier bars that came are stored"
            none = f"no bars for {run.as_of:%Y-%m-%d %H:%M} UTC {after}"
            return futures, none if len(missing) == exchanges else ""
        if names != reported:
            every = f"polling every {schedule.POLL_SECONDS:g} s until {until:%H:%M:%S} UTC ([runtime] patience)"
            waiting.say(f"no bars of {names} {due}: {every}; {schedule.NO_WAIT}")
            reported = names
        time.sleep(min(schedule.POLL_SECONDS, max((until - datetime.now(UTC)).total_seconds(), 0.1)))


def signals(run: RunRef, ingested: Futures) -> tuple[RunRef, Futures]:
    """All pillars over all shards in parallel, then the composite of those that completed."""
    with alone(deploy.SCORING_LIMIT):
        freeze = ingest.freeze.submit(run, after=_done(ingested.values()))
        run = ingest.frozen(run, freeze.result())
        settings, _ = open_run(run)
        with submitting(settings) as submit:
            scored = _wait(
                {
                    f"pillar {name} {k}": submit(pillars.score_pillar, run, name, k, after=[freeze])
                    for name in settings.pillars
                    for k in range(settings.runtime.shards)
                }
            )
            blended = _wait({"composite": composite.compose.submit(run, after=_done(scored.values()))})
    return run, {"known-at": freeze} | scored | blended


def rerun(run: RunRef, pillar: str, symbols: list[str]) -> Futures:
    """Scores one pillar again, then the composite."""
    again.check(open_run(run)[0], pillar, symbols)
    with alone(deploy.SCORING_LIMIT):
        freeze = ingest.freeze.submit(run)
        run = ingest.frozen(run, freeze.result())
        scored = _wait({f"rerun {pillar}": again.rerun.submit(run, pillar, symbols, after=[freeze])})
        blended = _wait({"composite": composite.compose.submit(run, after=_done(scored.values()))})
    return {"known-at": freeze} | scored | blended


@contextmanager
def submitting(settings: Settings) -> Iterator[Submit]:
    """
    Yields the function that submits a task of pillar x shard: to this flow's threads, or to the Dask cluster of
    [runtime]. A task opens its run from the hub, so that only names and receipts are sent.
    """
    if settings.runtime.task_runner == "threads":
        yield lambda task, *args, **kwargs: task.submit(*args, **kwargs)
        return
    import dask  # noqa: PLC0415 - both are an optional extra
    from prefect_dask import DaskTaskRunner  # noqa: PLC0415

    timeouts = {f"distributed.comm.timeouts.{name}": "5m" for name in ("connect", "tcp")}  # the scheduler may be busy
    with dask.config.set(timeouts), DaskTaskRunner(address=settings.runtime.dask_address) as runner:

        def submit(task: Task[..., Any], *args: Any, after: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
            parameters = get_call_parameters(task.fn, args, {"after": [future.result() for future in after]})
            return runner.submit(task, parameters, dependencies={"after": collect_task_run_inputs_sync(after)})

        yield submit


@contextmanager
def alone(limit: str) -> Iterator[None]:
    """
    Holds a limit of one across all deployments. Waits for the current holder; the lease of a killed one ends after a
    minute.
    """

    def acquire() -> AbstractContextManager[None]:
        slot = concurrency(
            limit,
            strict=True,  # otherwise a limit that does not exist limits nothing
            timeout_seconds=WAIT_SECONDS,
            lease_duration=60,
            raise_on_lease_renewal_failure=False,  # the database's locks are the guard; this limit only queues runs
        )
        slot.__enter__()
        return slot

    until = f"for up to {WAIT_SECONDS / 60:g} minutes"
    with waiting.reported(
        f"another run holds the limit {limit!r} (one run at a time): waiting {until}; Ctrl-C gives up"
    ):
        slot = server.patiently(acquire)
    try:
        yield
    finally:
        try:
            slot.__exit__(None, None, None)
        except httpx.HTTPError as error:  # the work is done: not worth a failure
            log.warning("limit %s was not released (%s): its lease ends within a minute", limit, error)


@contextmanager
def broker(run: RunRef) -> Iterator[None]:
    """
    Admits one run at a time to the broker. Runs of workers queue at Prefect's limit; a typed command does not, since
    the limit stays taken for a minute after its holder was killed. The guard is the book's lock in the database, which
    ends with its holder: everybody waits for that.
    """
    with nullcontext() if local.typed.get() else alone(deploy.BROKER_LIMIT):
        settings, database = open_run(run)
        book, deadline = settings.execution.book, time.monotonic() + WAIT_SECONDS
        until = f"for up to {WAIT_SECONDS / 60:g} minutes"
        with waiting.reported(f"another run trades book {book!r}: waiting {until}; Ctrl-C gives up"):
            while engine.busy(database, book) and time.monotonic() < deadline:
                time.sleep(0.5)
        yield


def trading(run: RunRef, as_of: datetime | None, composed: PrefectFuture[Any] | None) -> States:
    """Reconcile, decide, send, protect: one step in the flow's own process; then the artifacts."""
    after = _done([composed] if composed else [])
    with broker(run):
        traded = execution.trade(run, simulated=as_of is not None, after=after, return_state=True)
    return {"trade": traded} | published(run)


def managing(run: RunRef, as_of: datetime | None) -> States:
    """Reconcile, protect, trail: one step in the flow's own process; then the artifact of open trades."""
    with broker(run):
        managed = execution.manage(run, simulated=as_of is not None, return_state=True)
    return {"manage": managed} | published(run, ("open-trades", "risk"))


def published(run: RunRef, artifacts: tuple[str, ...] | None = None) -> States:
    """Publishes artifacts of a run: these names of ``tasks.reports.ARTIFACTS``, or all."""
    return {"report": reports.publish(run, artifacts, return_state=True)}


def states(futures: Futures) -> States:
    return {name: future.state for name, future in futures.items()}


def verdict(run: RunRef, steps: States) -> State[Any]:
    """The final state of a run: Failed, with causes and the next step, if any of its steps failed; else Completed."""
    failed = [name for name, state in steps.items() if not state.is_completed()]
    if failed:
        causes = "; ".join(
            f"{name} ({(steps[name].message or LOST).removeprefix('Task run encountered an exception ')})"
            for name in failed
        )
        message = f"failed: {causes}. Everything else is done and kept: fix the cause and press Retry"
    else:
        message = f"{len(steps)} steps done, {sum(s.name == 'Unchanged' for s in steps.values())} of them unchanged"
    ops.finish_run(hub.connect(), run.run_id, "failed" if failed else "completed", message)
    reports.tell(run)
    return Failed(message=message) if failed else Completed(message=message)


def _done(futures: Iterable[PrefectFuture[Any]]) -> list[PrefectFuture[Any]]:
    """Those that completed: Prefect does not start a task that waits for a failed one."""
    return [f for f in futures if f.state.is_completed()]


def _wait(futures: Futures) -> Futures:
    for future in futures.values():
        future.wait()
    return futures
