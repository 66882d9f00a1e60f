"""The flow `backtest`: what the config would have done in a stretch of history; the command's work, from the UI."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import Completed, State

from alphapivot import hub, process
from alphapivot.hub.tables import backtests
from tasks import reports
from tasks.local import backtest as steps


@flow(name="backtest", flow_run_name="backtest {since:%Y-%m-%d} to {until:%Y-%m-%d}")
def backtest(
    since: datetime,
    until: datetime,
    book: str | None = None,
    changes: dict[str, str] | None = None,
    feed: str | None = None,
    again: bool = False,
) -> State[Any]:
    """
    What would it have done in (since, until]? Retry, or the same once more, goes on where it was killed.

    Args:
        since: the instant (with a time zone) after which it trades
        until: the last instant (with a time zone)
        book: what it is called, bt- is put before it; its run's id when empty
        changes: other values for this backtest alone, such as {"execution.stop_atr": "3"}
        feed: a [feed.*] section for all instruments; config.ini's own when empty
        again: make it anew, although it was made before of the same data
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError(f"{since} to {until}: instants need a time zone, such as 2026-11-20T21:00:00Z")
    settings = process.configure(feed=feed, changes=changes)
    made = steps.run(settings, since, until, progress=reports.progress("backtest"), book=book, again=again)
    (row,) = [b for b in backtests.listed(hub.connect()) if b["book"] == made.book]
    return Completed(
        name="Unchanged" if made.unchanged else None,
        message=f"{made.book}: {row['trades']} trades, net return {row['net_return']:.2%}, "
        f"max drawdown {row['max_drawdown']:.2%}, digest {row['digest'][:12]}",
    )
