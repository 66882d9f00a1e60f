"""The flow `ingest`: bars in, and nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from flows import graph


@flow(name="ingest", flow_run_name=graph.run_name)
def ingest(as_of: datetime | None = None, feed: str | None = None, wait: bool = True) -> State[Any]:
    """
    Fetches what is new from the configured feeds.

    Args:
        as_of: bars complete up to this instant (with a time zone); the scheduled start when empty
        feed: a [feed.*] section for all instruments; config.ini's own when empty
        wait: for bars that are due, as long as [runtime] patience says; a past as_of waits for none
    """
    run = graph.begin("ingest", as_of, feed, wait=wait)
    if isinstance(run, State):
        return run
    ingested, nothing = graph.ingestion(run, wait=wait and as_of is None)
    if nothing:
        return graph.skipped(run, nothing)
    return graph.verdict(run, graph.states(ingested) | graph.published(run, ("data",)))
