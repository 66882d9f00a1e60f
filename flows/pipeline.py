"""
The flow `pipeline`: ingest -> signals -> trade as tasks of one flow run, so that Retry executes only the failed tasks
and those that follow.
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
    The whole graph: ingest, pillars in parallel, composite, trade.

    Args:
        as_of: decide for this instant (with a time zone); default: the scheduled start
        feed: a [feed.*] section for all instruments; default: as in config.ini
        wait: wait for bars that are due, up to [runtime] patience; never with as_of
    """
    run = graph.begin("pipeline", as_of, feed, wait=wait)
    if isinstance(run, State):
        return run
    ingested, reason = graph.ingestion(run, wait=wait and as_of is None)
    if reason:
        return graph.skipped(run, reason)
    run, scored = graph.signals(run, ingested)
    traded = graph.trading(run, as_of, scored["composite"])
    return graph.verdict(run, graph.states(ingested | scored) | traded)
