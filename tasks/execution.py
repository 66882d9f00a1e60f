"""The one step that trades: in the flow's own process, never retried by Prefect; the ledger protects orders."""

from __future__ import annotations

from alphapivot.clock import SimulatedClock, WallClock
from alphapivot.execution import engine
from alphapivot.scoring import terms
from tasks.step import Output, Work, step


@step("trade", retries=0)
def trade(work: Work, simulated: bool) -> Output:
    """
    Reconciles the book with its broker, decides on the newest composite scores, sends, protects, journals.

    A run for a given instant (``simulated``) stands at that instant; a scheduled one at the wall clock.
    """
    clock = SimulatedClock(work.run.as_of) if simulated else WallClock()
    report = engine.trade(work.hub, work.run, work.settings, clock, terms=terms(work.hub, work.settings, work.run))
    counts = {
        "decisions new": len(report.decisions),
        "orders sent": len(report.sent),
        "fills new": report.fills,
        "trades closed": report.closed,
    }
    return Output(counts=counts, notes=tuple(report.notes))
