"""The flow `trade`: acts on the stored composite scores."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from flows import graph


@flow(name="trade", flow_run_name=graph.run_name)
def trade(as_of: datetime | None = None, feed: str | None = None) -> State[Any]:
    """
    Reconciles the book with its broker, decides, and protects open trades.

    Args:
        as_of: decide for this instant (with a time zone); default: the scheduled start
        feed: a [feed.*] section for all instruments; default: as in config.ini
    """
    run = graph.begin("trade", as_of, feed)
    if isinstance(run, State):
        return run
    return graph.verdict(run, graph.trading(run, as_of, None))
