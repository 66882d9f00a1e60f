"""The pieces of the graph: ingest -> signals -> trade, submitted as tasks of whichever ONE flow run calls them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from prefect import runtime
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed, State

from alphapivot import process, runs
from tasks import composite, execution, ingest, pillars, reports
from tasks import runs as opened
from tasks.step import open_run

Futures = dict[str, PrefectFuture[Any]]


def begin(kind: str, as_of: datetime | None, config: str | None, feed: str | None) -> runs.RunRef:
    """The run of this flow run: named by its id and decided for its scheduled start, both the same on Retry."""
    settings = process.configure(config, feed)
    if as_of is not None and as_of.tzinfo is None:
        raise ValueError(f"as_of {as_of} has no time zone; expected an instant such as 2026-11-20T21:00:00Z")
    return opened.begin(kind, settings, key=str(runtime.flow_run.id), as_of=as_of or runtime.flow_run.scheduled_start_time)


def ingestion(run: runs.RunRef) -> Futures:
    """One task per feed and shard."""
    return wait({f"ingest {feed} {k}": ingest.ingest.submit(run, feed, k) for feed, k in ingest.batches(run)})


def signals(run: runs.RunRef, ingested: Futures) -> tuple[runs.RunRef, Futures]:
    """All pillars over all shards in parallel, then the composite of those that came through."""
    freeze = ingest.freeze(run, after=done(ingested))
    run = ingest.frozen(run, freeze)
    settings, _ = open_run(run)
    scored = wait(
        {
            f"pillar {name} {k}": pillars.score_pillar.submit(run, name, k, after=[freeze])
            for name in settings.pillars
            for k in range(settings.runtime.shards)
        }
    )
    blended = wait({"composite": composite.compose.submit(run, after=done(scored))})
    return run, scored | blended


def trading(run: runs.RunRef, as_of: datetime | None, composed: Futures) -> Futures:
    """Reconcile, decide, send, protect: one step in the flow's own process; then what a person wants to see of it."""
    traded = wait({"trade": execution.trade.submit(run, simulated=as_of is not None, after=done({"composite": composed["composite"]}))})
    reports.publish(run)
    return traded


def done(futures: Futures) -> list[PrefectFuture[Any]]:
    """Those that completed: a failed one handed on would stop all that come after it."""
    return [f for f in futures.values() if f.state.is_completed()]


def wait(futures: Futures) -> Futures:
    for future in futures.values():
        future.wait()
    return futures


def verdict(futures: Futures) -> State[Any]:
    """Failed when any step failed, with what to do; so that the run tells the truth though the others went on."""
    bad = [name for name, future in futures.items() if not future.state.is_completed()]
    if bad:
        return Failed(message=f"failed: {', '.join(bad)}. Everything else is done and kept; mend the cause and press Retry.")
    return Completed(message=f"{len(futures)} steps done")
