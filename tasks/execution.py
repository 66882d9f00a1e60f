"""The steps that trade. They run in the flow's process and Prefect never retries them; the ledger protects orders."""

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

    ``simulated``: the clock is the run's as_of instead of the wall clock.
    """
    score_terms = terms(work.hub, work.settings, work.run)
    return _output(engine.trade(work.hub, work.run, work.settings, _clock(work, simulated), terms=score_terms))


@step("manage", retries=0)
def manage(work: Work, simulated: bool) -> Output:
    """Reconciles the book with its broker, sends orders held for the open, protects and trails. No new decisions."""
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
