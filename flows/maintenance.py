"""The flow `maintenance`: `alphapivot db maintain` on a schedule, with an artifact of the rows deleted."""

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
    Deletes what has passed [retention], and vacuums. Rows that an order can be traced back to stay, and so do all runs.

    Args:
        feed: a [feed.*] section, which selects the database of a simulated market
    """
    settings = process.configure(feed=feed)
    step, done = reports.progress("maintenance"), 0

    def progress(kind: str) -> None:
        nonlocal done
        done += 1
        step(done, done + 1, kind)  # the total is unknown until the end

    deleted = retention.maintain(hub.connect(), settings.retention, progress)
    step(done, done, "done")
    reports.maintained(deleted)
    rows = sum(deleted.values())
    return Completed(message=f"{rows:,} rows deleted" if deleted else "[retention] keeps all: vacuumed")
