"""The flow `report`: artifacts of stored scores, decisions, trades and performance."""

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
    Publishes scores, decisions, trades and the book's performance as artifacts. Makes no decisions.

    Args:
        as_of: scores and decisions as of this instant (with a time zone); default: the scheduled start
        feed: a [feed.*] section for all instruments, which selects the database of a simulated market
        book: the book to report on; default: [execution] book
        against: compare with another book, such as a backtest's: slippage and missed trades
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
