"""
The pieces of the graph: ingest -> signals -> trade, as tasks of whichever ONE flow run calls them (a subflow would
run all again on Retry).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from prefect import runtime
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed, State

from alphapivot import hub, process
from alphapivot.hub import ops
from alphapivot.runs import RunRef
from tasks import composite, execution, ingest, pillars, reports, runs
from tasks.step import open_run

Futures = dict[str, PrefectFuture[Any]]
States = dict[str, State[Any]]


def run_name() -> str:
    """What and when, such as ``pipeline 2026-11-20 21:30Z``."""
    as_of = runtime.flow_run.parameters.get("as_of") or runtime.flow_run.scheduled_start_time
    at = datetime.fromisoformat(as_of) if isinstance(as_of, str) else as_of
    return f"{runtime.flow_run.flow_name} {at.astimezone(UTC):%Y-%m-%d %H:%M}Z"


def begin(kind: str, as_of: datetime | None, config: str | None, feed: str | None) -> RunRef:
    """The run of this flow run: named by its id and decided for its scheduled start, both the same on Retry."""
    if as_of is not None and as_of.tzinfo is None:
        raise ValueError(f"as_of {as_of} has no time zone; expected an instant such as 2026-11-20T21:00:00Z")
    settings = process.configure(config, feed)
    return runs.begin(
        kind, settings, key=str(runtime.flow_run.id), as_of=as_of or runtime.flow_run.scheduled_start_time
    )


def ingestion(run: RunRef) -> Futures:
    """One task per feed and shard; the others go on when one fails."""
    return _wait({f"ingest {feed} {k}": ingest.ingest.submit(run, feed, k) for feed, k in ingest.batches(run)})


def signals(run: RunRef, ingested: Futures) -> tuple[RunRef, Futures]:
    """All pillars over all shards in parallel, then the composite of those that came through."""
    freeze = ingest.freeze.submit(run, after=_done(ingested.values()))
    run = ingest.frozen(run, freeze.result())
    settings, _ = open_run(run)
    scored = _wait(
        {
            f"pillar {name} {k}": pillars.score_pillar.submit(run, name, k, after=[freeze])
            for name in settings.pillars
            for k in range(settings.runtime.shards)
        }
    )
    blended = _wait({"composite": composite.compose.submit(run, after=_done(scored.values()))})
    return run, {"known-at": freeze} | scored | blended


def trading(run: RunRef, as_of: datetime | None, composed: PrefectFuture[Any] | None) -> States:
    """Reconcile, decide, send, protect: one step, in the flow's own process; then what a person wants to see of it."""
    after = _done([composed] if composed else [])
    traded = execution.trade(run, simulated=as_of is not None, after=after, return_state=True)
    reports.publish(run)
    return {"trade": traded}


def states(futures: Futures) -> States:
    return {name: future.state for name, future in futures.items()}


def verdict(run: RunRef, steps: States) -> State[Any]:
    """Failed when any step failed, with what to do: so the run tells the truth though the others went on."""
    bad = [name for name, state in steps.items() if not state.is_completed()]
    if bad:
        causes = "; ".join(
            f"{name} ({str(steps[name].message).removeprefix('Task run encountered an exception ')})" for name in bad
        )
        message = f"failed: {causes}. Everything else is done and kept: mend the cause and press Retry"
    else:
        message = f"{len(steps)} steps done, {sum(s.name == 'Unchanged' for s in steps.values())} of them unchanged"
    ops.finish_run(hub.connect(), run.run_id, "failed" if bad else "completed", message)
    return Failed(message=message) if bad else Completed(message=message)


def _done(futures: Iterable[PrefectFuture[Any]]) -> list[PrefectFuture[Any]]:
    """Those that completed: a failed one handed on would stop all that come after it."""
    return [f for f in futures if f.state.is_completed()]


def _wait(futures: Futures) -> Futures:
    for future in futures.values():
        future.wait()
    return futures
