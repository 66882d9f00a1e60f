"""
The flow `pipeline`: ingest -> signals -> trade as tasks of ONE flow run, so that Retry executes only what failed and
what follows.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from flows import graph


@flow(name="pipeline", flow_run_name=graph.run_name)
def pipeline(as_of: datetime | None = None, feed: str | None = None, wait: bool = True) -> State[Any]:
    """
    Bars in, pillars in parallel, one composite score, trades: the whole graph.

    Args:
        as_of: decide for this instant (with a time zone); the scheduled start when empty
        feed: a [feed.*] section for all instruments; config.ini's own when empty
        wait: for bars that are due, as long as [runtime] patience says; a past as_of waits for none
    """
    run = graph.begin("pipeline", as_of, feed, wait=wait)
    if isinstance(run, State):
        return run
    ingested, nothing = graph.ingestion(run, wait=wait and as_of is None)
    if nothing:
        return graph.skipped(run, nothing)
    run, scored = graph.signals(run, ingested)
    traded = graph.trading(run, as_of, scored["composite"])
    return graph.verdict(run, graph.states(ingested | scored) | traded)
