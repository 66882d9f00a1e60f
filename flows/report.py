"""The flow `report`: what a person wants to see, from what is in the hub."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from alphapivot.reports.book.activity import marked
from flows import graph
from tasks.step import open_run


@flow(name="report", flow_run_name=graph.run_name)
def report(
    as_of: datetime | None = None,
    feed: str | None = None,
    book: str | None = None,
    against: str | None = None,
) -> State[Any]:
    """
    Publishes scores, decisions, trades and how the book did as artifacts, and decides nothing.

    Args:
        as_of: scores and decisions as they stood at this instant (with a time zone); the scheduled start when empty
        feed: a [feed.*] section for all instruments, which decides the database of a simulated market
        book: whose performance; that of [execution] when empty
        against: another book, such as a backtest's: slippage and missed trades
    """
    run = graph.begin("report", as_of, feed)
    if isinstance(run, State):
        return run
    settings, database = open_run(run)
    name = book or settings.execution.book
    states = {"report": graph.reports.publish(run, return_state=True)}
    if book or against or marked(database, name):
        states["performance"] = graph.reports.performance(run, name, against, return_state=True)
    return graph.verdict(run, states)
