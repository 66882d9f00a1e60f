"""The flow `signals`: pillars and composite over the bars that are there."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from flows import graph


@flow(name="signals", flow_run_name=graph.run_name)
def signals(as_of: datetime | None = None, feed: str | None = None) -> State[Any]:
    """
    Scores all pillars in parallel and blends them, over the bars that are in the hub.

    Args:
        as_of: decide for this instant (with a time zone); the scheduled start when empty
        feed: a [feed.*] section for all instruments; config.ini's own when empty
    """
    run = graph.begin("signals", as_of, feed)
    if isinstance(run, State):
        return run
    run, scored = graph.signals(run, {})
    return graph.verdict(run, graph.states(scored) | graph.published(run, ("scores",)))
