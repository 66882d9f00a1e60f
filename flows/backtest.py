"""The flow `backtest`: runs the config over past bars, as `alphapivot backtest` does."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

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
    engine: Literal["kernel", "live"] = "kernel",
    audit: Literal["sample", "full"] = "sample",
) -> State[Any]:
    """
    Backtests the config over (since, until]. Retry, or another run with the same parameters, resumes where it stopped.

    Args:
        since: the instant (with a time zone) after which it trades
        until: the last instant (with a time zone)
        book: name of the backtest (stored as bt-NAME); default: the run id
        changes: config overrides for this backtest, such as {"execution.stop_atr": "3"}
        feed: a [feed.*] section for all instruments; default: as in config.ini
        again: rerun even if an identical backtest is stored
        engine: live trades with the trading engine on the database, kernel with the same code in memory
        audit: what the trading engine does again and must agree with: a sample, or all (full)
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError(f"{since} to {until}: instants need a time zone, such as 2026-11-20T21:00:00Z")
    settings = process.configure(feed=feed, changes=changes)
    outcome = steps.run(
        settings,
        since,
        until,
        progress=reports.progress("backtest"),
        book=book,
        again=again,
        how=steps.How(engine, audit),
    )
    (row,) = [b for b in backtests.listed(hub.connect()) if b["book"] == outcome.book]
    return Completed(
        name="Unchanged" if outcome.unchanged else None,
        message=f"{outcome.book}: {row['trades']} trades, net return {row['net_return']:.2%}, "
        f"max drawdown {row['max_drawdown']:.2%}, digest {row['digest'][:12]}",
    )
