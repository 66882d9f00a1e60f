"""The flow `maintenance`: what `alphapivot db maintain` does, from a schedule, with a record of what went."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Completed, State

from alphapivot import hub, process
from alphapivot.hub.server import retention
from tasks import reports


@flow(name="maintenance")
def maintenance(feed: str | None = None) -> State[Any]:
    """
    Deletes what [retention] lets go, and vacuums. What an order leads back to stays, and so do all runs.

    Args:
        feed: a [feed.*] section, which decides the database of a simulated market
    """
    settings = process.configure(feed=feed)
    step, done = reports.progress("maintenance"), 0

    def progress(what: str) -> None:
        nonlocal done
        done += 1
        step(done, done + 1, what)  # how much there is to do only the end tells

    gone = retention.maintain(hub.connect(), settings.retention, progress)
    step(done, done, "done")
    reports.maintained(gone)
    rows = sum(gone.values())
    return Completed(message=f"{rows:,} rows deleted" if gone else "[retention] names nothing: all is kept; vacuumed")
