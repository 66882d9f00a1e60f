"""
The pieces of the graph: ingest -> signals -> trade, as tasks of whichever ONE flow run calls them (a subflow would
run all again on Retry).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
from alphapivot.config.settings import Settings
from alphapivot.hub.tables import ops
from alphapivot.runs import RunRef
from flows import schedule
from flows.server import deploy
from tasks import composite, execution, ingest, pillars, reports, runs, server
from tasks import rerun as again
from tasks.step import open_run

Futures = dict[str, PrefectFuture[Any]]
States = dict[str, State[Any]]
Submit = Callable[..., PrefectFuture[Any]]

log = logging.getLogger("alphapivot.graph")
LOST = "it did not come back: is the Dask cluster there?"
WAIT_SECONDS = 600  # for another run to finish with what only one may do at a time


def run_name() -> str:
    """What and when, such as ``pipeline 2026-11-20 21:30Z``."""
    as_of = runtime.flow_run.parameters.get("as_of") or runtime.flow_run.scheduled_start_time
    at = datetime.fromisoformat(as_of) if isinstance(as_of, str) else as_of
    return f"{runtime.flow_run.flow_name} {at.astimezone(UTC):%Y-%m-%d %H:%M}Z"


def begin(kind: str, as_of: datetime | None, feed: str | None, *, wait: bool = True) -> RunRef | State[Any]:
    """
    The run of this flow run, named by its id and decided for its scheduled start, both the same on Retry; or, at the
    first attempt, the state Skipped and why. ``wait``: for bars that are about to be published.
    """
    if as_of is not None and as_of.tzinfo is None:
        raise ValueError(f"as_of {as_of} has no time zone; expected an instant such as 2026-11-20T21:00:00Z")
    settings = process.configure(feed=feed)
    if kind in ("pipeline", "trade", "manage"):
        registry.check(settings)
    reports.label(settings)
    runs.close_lost(hub.connect())
    own = runtime.flow_run.scheduled_start_time
    at = as_of or schedule.newest_due(own)
    run = runs.begin(kind, settings, key=str(runtime.flow_run.id), as_of=at)
    if not schedule.first_attempt():
        return run
    if at != own and as_of is None:
        _rename(f"{kind} {at.astimezone(UTC):%Y-%m-%d %H:%M}Z")
    reason = schedule.overtaken(hub.connect(), run, kind) if as_of is None else ""
    if not reason and kind in ("pipeline", "ingest"):
        reason = schedule.too_early(settings, at, wait=wait)
    return skipped(run, reason) if reason else run


def skipped(run: RunRef, reason: str) -> State[Any]:
    """There is nothing to do for this run, and this is why."""
    ops.finish_run(hub.connect(), run.run_id, "skipped", reason)
    reports.tell(run)  # bars that do not come are what a person should know of
    return Completed(name="Skipped", message=reason)


def _rename(name: str) -> None:
    server.ask(lambda client: client.update_flow_run(runtime.flow_run.id, name=name))


def ingestion(run: RunRef, *, wait: bool) -> tuple[Futures, str]:
    """
    One task per feed and shard; the others go on when one fails. ``wait``: asks again, as long as [runtime] patience
    lasts, while an exchange has given none of the bars that are due.

    The second value says why there is nothing to decide: not one exchange has given any.
    """
    settings, database = open_run(run)
    patience = timedelta(minutes=settings.runtime.patience)
    until, done = datetime.now(UTC) + patience, []
    due, heard = f"for {run.as_of:%Y-%m-%d %H:%M} UTC yet", None
    while True:
        futures = _wait(
            {f"ingest {feed} {k}": ingest.ingest.submit(run, feed, k, after=done) for feed, k in ingest.batches(run)}
        )
        done = _done(futures.values())
        if len(done) < len(futures):
            return futures, ""
        missing, exchanges = schedule.absent(database, settings, run.as_of)
        if not missing:
            return futures, ""
        names = ", ".join(missing)
        if not wait:
            waiting.say(f"no bars of {names} {due}: not waiting, earlier bars are used")
            return futures, ""
        if datetime.now(UTC) >= until:
            minutes = patience / timedelta(minutes=1)
            none = f"no bars are there for {run.as_of:%Y-%m-%d %H:%M} UTC after {minutes:g} minutes of waiting"
            return futures, none if len(missing) == exchanges else ""
        if names != heard:
            every = f"asking again every {schedule.LOOK_SECONDS:g} s until {until:%H:%M:%S} UTC ([runtime] patience)"
            waiting.say(f"no bars of {names} {due}: {every}; {schedule.NOT_TO}")
            heard = names
        time.sleep(min(schedule.LOOK_SECONDS, max((until - datetime.now(UTC)).total_seconds(), 0.1)))


def signals(run: RunRef, ingested: Futures) -> tuple[RunRef, Futures]:
    """All pillars over all shards in parallel, then the composite of those that came through."""
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
    """One pillar scored anew, then the composite."""
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
    How a task of pillar x shard is submitted: to this flow's threads, or to the Dask cluster of [runtime]. A task opens
    its run from the hub, so that only names and receipts travel.
    """
    if settings.runtime.task_runner == "threads":
        yield lambda task, *args, **kwargs: task.submit(*args, **kwargs)
        return
    import dask  # noqa: PLC0415 - an extra, as the next one
    from prefect_dask import DaskTaskRunner  # noqa: PLC0415

    patient = {f"distributed.comm.timeouts.{what}": "5m" for what in ("connect", "tcp")}  # a busy scheduler is not lost
    with dask.config.set(patient), DaskTaskRunner(address=settings.runtime.dask_address) as runner:

        def submit(task: Task[..., Any], *args: Any, after: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
            given = get_call_parameters(task.fn, args, {"after": [future.result() for future in after]})
            return runner.submit(task, given, dependencies={"after": collect_task_run_inputs_sync(after)})

        yield submit


@contextmanager
def alone(limit: str) -> Iterator[None]:
    """
    Under a limit of one for all deployments. Waits for whoever has it; one that was killed gives it up after a minute.
    """

    def taken() -> AbstractContextManager[None]:
        place = concurrency(
            limit,
            strict=True,  # without it a limit that is not there limits nothing
            timeout_seconds=WAIT_SECONDS,
            lease_duration=60,
            raise_on_lease_renewal_failure=False,  # the database's own locks are the guard; this one keeps order
        )
        place.__enter__()
        return place

    until = f"for up to {WAIT_SECONDS / 60:g} minutes"
    with waiting.told(
        f"another run holds {limit!r}, which one run at a time may have: waiting {until}; Ctrl-C gives up"
    ):
        place = server.patiently(taken)
    try:
        yield
    finally:
        try:
            place.__exit__(None, None, None)
        except httpx.HTTPError as error:  # what is done is done
            log.warning("limit %s was not given back (%s): it is free again in a minute", limit, error)


def trading(run: RunRef, as_of: datetime | None, composed: PrefectFuture[Any] | None) -> States:
    """Reconcile, decide, send, protect: one step, in the flow's own process; then what a person wants to see of it."""
    after = _done([composed] if composed else [])
    with alone(deploy.BROKER_LIMIT):
        traded = execution.trade(run, simulated=as_of is not None, after=after, return_state=True)
    return {"trade": traded} | published(run)


def managing(run: RunRef, as_of: datetime | None) -> States:
    """Reconcile, protect, trail: one step, in the flow's own process; then what is open now."""
    with alone(deploy.BROKER_LIMIT):
        managed = execution.manage(run, simulated=as_of is not None, return_state=True)
    return {"manage": managed} | published(run, ("open-trades",))


def published(run: RunRef, what: tuple[str, ...] | None = None) -> States:
    """The artifacts of a run: those named of ``tasks.reports.ARTIFACTS``, or all."""
    return {"report": reports.publish(run, what, return_state=True)}


def states(futures: Futures) -> States:
    return {name: future.state for name, future in futures.items()}


def verdict(run: RunRef, steps: States) -> State[Any]:
    """Failed when any step failed, with what to do: so the run tells the truth though the others went on."""
    bad = [name for name, state in steps.items() if not state.is_completed()]
    if bad:
        causes = "; ".join(
            f"{name} ({(steps[name].message or LOST).removeprefix('Task run encountered an exception ')})"
            for name in bad
        )
        message = f"failed: {causes}. Everything else is done and kept: mend the cause and press Retry"
    else:
        message = f"{len(steps)} steps done, {sum(s.name == 'Unchanged' for s in steps.values())} of them unchanged"
    ops.finish_run(hub.connect(), run.run_id, "failed" if bad else "completed", message)
    reports.tell(run)
    return Failed(message=message) if bad else Completed(message=message)


def _done(futures: Iterable[PrefectFuture[Any]]) -> list[PrefectFuture[Any]]:
    """Those that completed: a failed one handed on would stop all that come after it."""
    return [f for f in futures if f.state.is_completed()]


def _wait(futures: Futures) -> Futures:
    for future in futures.values():
        future.wait()
    return futures
