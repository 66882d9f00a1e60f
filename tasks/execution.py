"""The steps that trade: in the flow's own process, never retried by Prefect; the ledger protects orders."""

from __future__ import annotations

from alphapivot.clock import Clock, SimulatedClock, WallClock
from alphapivot.execution.run import engine
from alphapivot.execution.run.session import TradeReport
from alphapivot.scoring.blend import terms
from tasks.step import Output, Work, step


@step("trade", retries=0)
def trade(work: Work, simulated: bool) -> Output:
    """
    Reconciles the book with its broker, decides on the newest composite scores, sends, protects, journals.

    A run for a given instant (``simulated``) stands at that instant; a scheduled one at the wall clock.
    """
    why = terms(work.hub, work.settings, work.run)
    return _output(engine.trade(work.hub, work.run, work.settings, _clock(work, simulated), terms=why))


@step("manage", retries=0)
def manage(work: Work, simulated: bool) -> Output:
    """Reconciles the book with its broker, sends what waited for the open, protects and trails; decides nothing."""
    return _output(engine.trade(work.hub, work.run, work.settings, _clock(work, simulated), decide_too=False))


def _clock(work: Work, simulated: bool) -> Clock:
    return SimulatedClock(work.run.as_of) if simulated else WallClock()


def _output(report: TradeReport) -> Output:
    counts = {
        "decisions new": len(report.decisions),
        "orders sent": len(report.sent),
        "fills new": report.fills,
        "trades closed": report.closed,
    }
    return Output(counts=counts, notes=tuple(report.notes))
