"""The flow `trade`: act on the composite scores that are there."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from flows import graph


@flow(name="trade", flow_run_name=graph.run_name)
def trade(as_of: datetime | None = None, feed: str | None = None) -> State[Any]:
    """
    Reconciles the book with its broker, decides, and protects what is open.

    Args:
        as_of: decide for this instant (with a time zone); the scheduled start when empty
        feed: a [feed.*] section for all instruments; config.ini's own when empty
    """
    run = graph.begin("trade", as_of, feed)
    if isinstance(run, State):
        return run
    return graph.verdict(run, graph.trading(run, as_of, None))
