"""The flow `ingest`: fetches and stores bars, nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from flows import graph


@flow(name="ingest", flow_run_name=graph.run_name)
def ingest(as_of: datetime | None = None, feed: str | None = None, wait: bool = True) -> State[Any]:
    """
    Fetches new bars from the configured feeds.

    Args:
        as_of: bars complete up to this instant (with a time zone); default: the scheduled start
        feed: a [feed.*] section for all instruments; default: as in config.ini
        wait: wait for bars that are due, up to [runtime] patience; never with as_of
    """
    run = graph.begin("ingest", as_of, feed, wait=wait)
    if isinstance(run, State):
        return run
    ingested, reason = graph.ingestion(run, wait=wait and as_of is None)
    if reason:
        return graph.skipped(run, reason)
    return graph.verdict(run, graph.states(ingested) | graph.published(run, ("data",)))
