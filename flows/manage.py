"""The flow `manage`: what is open is looked after between decisions. Quiet and cheap where there is nothing to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.states import Completed, State

from alphapivot import hub, process
from alphapivot.execution.run import watch
from flows import graph


@flow(name="manage", flow_run_name=graph.run_name)
def manage(as_of: datetime | None = None, feed: str | None = None) -> State[Any]:
    """
    Reconciles the book with its broker, sends what waited for the open, protects and trails what is open. Decides
    nothing.

    Args:
        as_of: look after it as at this instant (with a time zone); the scheduled start when empty
        feed: a [feed.*] section for all instruments; config.ini's own when empty
    """
    settings = process.configure(feed=feed)
    why = watch.idle(hub.connect(), settings, as_of or datetime.now(UTC))
    if why:
        return Completed(name="Skipped", message=why)
    run = graph.begin("manage", as_of, feed)
    if isinstance(run, State):
        return run
    return graph.verdict(run, graph.managing(run, as_of))
