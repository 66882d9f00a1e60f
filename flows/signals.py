"""The flow `signals`: scores the stored bars, pillars then composite."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from flows import graph


@flow(name="signals", flow_run_name=graph.run_name)
def signals(as_of: datetime | None = None, feed: str | None = None) -> State[Any]:
    """
    Scores all pillars over the stored bars in parallel, and blends them.

    Args:
        as_of: decide for this instant (with a time zone); default: the scheduled start
        feed: a [feed.*] section for all instruments; default: as in config.ini
    """
    run = graph.begin("signals", as_of, feed)
    if isinstance(run, State):
        return run
    run, scored = graph.signals(run, {})
    return graph.verdict(run, graph.states(scored) | graph.published(run, ("scores",)))
