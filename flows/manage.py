"""The flow `manage`: looks after open trades between decisions. Cheap when there is nothing to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.states import Completed, State

from alphapivot import hub, process
from alphapivot.execution.run import watch
from alphapivot.reports import heartbeat
from flows import graph


@flow(name="manage", flow_run_name=graph.run_name)
def manage(as_of: datetime | None = None, feed: str | None = None) -> State[Any]:
    """
    Reconciles the book with its broker, sends orders held for the open, protects and trails open trades. Makes no new
    decisions.

    Args:
        as_of: manage as of this instant (with a time zone); default: the scheduled start
        feed: a [feed.*] section for all instruments; default: as in config.ini
    """
    settings = process.configure(feed=feed)
    reason = watch.idle(hub.connect(), settings, as_of or datetime.now(UTC))
    if reason:
        heartbeat.ping()
        return Completed(name="Skipped", message=reason)
    run = graph.begin("manage", as_of, feed)
    if isinstance(run, State):
        return run
    return graph.verdict(run, graph.managing(run, as_of))
