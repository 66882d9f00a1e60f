"""The flow `report`: what a person wants to see, from what is in the hub."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from flows import graph


@flow(name="report", flow_run_name=graph.run_name)
def report(as_of: datetime | None = None, feed: str | None = None, config: str | None = None) -> State[Any]:
    """
    Publishes scores, decisions and trades as artifacts, and computes nothing.

    Args:
        as_of: as things stood at this instant (with a time zone); the scheduled start when empty
        feed: a [feed.*] section for all instruments, which decides the database of a simulated market
        config: another config file; config.ini of the checkout when empty
    """
    run = graph.begin("report", as_of, config, feed)
    if isinstance(run, State):
        return run
    return graph.verdict(run, {"report": graph.reports.publish(run, return_state=True)})
