"""
What would it have done? The engine that trades, at every instant of a stretch of history, on a simulated clock.

Only its surroundings differ: the market is read beforehand (backtest_market), one connection serves all statements, a
book that a loss has stopped is resumed on the next risk day instead of by a person, and of a row of instants at which
nothing is open and nothing asks for a trade only the first is run: the others can do nothing else.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.paper.broker import open_paper
from alphapivot.clock import SimulatedClock
from alphapivot.config.sections.brokers import PaperBroker
from alphapivot.errors import ConfigError, DataError
from alphapivot.execution.book import control, day, ledger, mark
from alphapivot.execution.decide import limits
from alphapivot.execution.run import engine
from alphapivot.execution.run.session import Session, TradeReport
from alphapivot.hub.pinned import Pinned
from alphapivot.hub.tables import backtests
from alphapivot.research.backtest.market import BarRange
from alphapivot.research.backtest.terms import Terms

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef

Progress = Callable[[int, int, str], None]  # instants done, of how many, what is being done
AT_ONCE = 200_000  # symbols x instants of a stretch that is read at once
TOGETHER = 25  # instants between two commits


@dataclass
class Timer:
    """Seconds by stage."""

    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.spent[name] += time.perf_counter() - begun


def booked(settings: Settings, book: str) -> Settings:
    """
    The settings with which a backtest trades: a book of its own, at a paper account. ConfigError where there is none.
    """
    name = settings.execution.broker
    if not isinstance(settings.brokers[name], PaperBroker):
        papers = sorted(n for n, section in settings.brokers.items() if isinstance(section, PaperBroker))
        if len(papers) != 1:
            raise ConfigError(
                f"a backtest fills its orders at a [broker.*] of kind paper; [execution] broker is {name}, and "
                + (f"there are several: {', '.join(papers)}" if papers else "the config has none")
            )
        name = papers[0]
    trading = settings.execution.model_copy(update={"book": book, "broker": name, "mode": "paper"})
    return settings.model_copy(update={"execution": trading})


def trade(
    hub: Hub, run: RunRef, settings: Settings, instants: Sequence[datetime], *, timer: Timer, progress: Progress
) -> None:
    """
    Trades the book of ``settings`` at every one of ``instants`` (in their order) that it has not come to yet.

    What is done is committed as it goes, with how far it has come: killed and called again, it goes on from there.
    Raises DataError where another process is at work on the book.
    """
    with Pinned(hub.url) as desk:
        if not engine.locked(desk.driver, settings.execution.book):
            raise DataError(f"another process is at work on backtest {settings.execution.book}: wait for it, or end it")
        book = _Book(desk, run, settings)
        done = backtests.done_until(desk, run)
        first = sum(1 for i in instants if done is not None and i <= done)
        size = max(TOGETHER, AT_ONCE // len(settings.instruments))
        for begin in range(first, len(instants), size):
            chunk = instants[begin : begin + size]
            with timer.stage("read"):
                bars = BarRange(hub, run, settings, after=chunk[0], until=chunk[-1])
                terms = Terms(hub, run, settings, bars.asking(), after=chunk[0], until=chunk[-1])
            with timer.stage("trade"):
                for number, as_of in enumerate(chunk, 1):
                    bars.at(as_of)
                    book.decide(bars, terms, as_of)
                    if number % TOGETHER == 0 or number == len(chunk):
                        book.write_marks()
                        backtests.advance(desk, run, as_of, begins=book.begins, instants=book.instants)
                        desk.commit()
                        book.instants = 0
                        progress(begin + number, len(instants), f"trading {as_of:%Y-%m-%d}")


class _Book:
    """A book, its paper account, and the fence that no other process raises while the lock is held."""

    def __init__(self, desk: Pinned, run: RunRef, settings: Settings) -> None:
        self._desk, self._run, self._settings = desk, run, settings
        self._broker = open_paper(desk, settings)
        self._broker.caps = replace(self._broker.caps, late_fills=False)  # nobody is there to give an order up by hand
        self._name = settings.execution.book
        with desk.engine.begin() as conn:
            self._fence = ledger.raise_fence(conn, self._name)
            self.begins = backtests.begins(conn, run)
        self._stopped = True  # perhaps: asked once
        self._resting: Session | None = None  # the last one, where nothing was open and nothing asked for
        self._marks: list[dict[str, Any]] = []
        self.instants = 0  # since the last commit

    def decide(self, bars: BarRange, terms: Terms, as_of: datetime) -> None:
        """One bar, as a scheduled run would take it; nothing before the first score is known."""
        if self.begins is None:
            if not bars.known:
                return
            self.begins = as_of
        self.instants += 1
        run = replace(self._run, as_of=as_of)
        self._resume(as_of)
        if self._resting is not None and bars.quiet and not self._stopped:
            self._rest(self._resting, as_of)
            return
        self.write_marks()
        session = Session(
            self._desk,
            run,
            self._settings,
            SimulatedClock(as_of),
            self._broker,
            self._desk.engine.connect(),
            self._fence,
            TradeReport(run.run_id, self._name, as_of),
            bars,
        )
        engine.go(session, {}, terms.at(bars))
        self._stopped = bool(session.report.notes)
        self._resting = session if bars.quiet and not session.attended and not self._stopped else None

    def _rest(self, last: Session, as_of: datetime) -> None:
        """
        What a run does after one that found nothing open and no score that asks: it sees the account as it was, on a
        new risk day it opens the day, and it marks the book.
        """
        account = last.report.account
        if account is None:
            raise RuntimeError("a run has seen no account")
        if limits.risk_day(as_of, self._settings.risk) != last.day:
            last.run = replace(self._run, as_of=as_of)
            with self._desk.engine.begin() as conn:
                day.open_day(conn, self._name, last.day, account, as_of)
        self._marks.append(mark.row(self._name, self._run.run_id, as_of, account))

    def write_marks(self) -> None:
        """Before anybody looks, and before a commit."""
        if self._marks:
            with self._desk.engine.begin() as conn:
                mark.write(conn, self._marks)
            self._marks = []

    def _resume(self, as_of: datetime) -> None:
        """A loss stops a book until a person resumes it: here on the risk day after the loss."""
        if not self._stopped:
            return
        with self._desk.engine.begin() as conn:
            tripped = ledger.tripped_on(conn, self._name)
            stopped = tripped is not None and control.state(conn, self._name).state != "ACTIVE"
        if stopped and tripped is not None and limits.risk_day(as_of, self._settings.risk) > tripped:
            control.resume(self._desk, self._name, "a backtest has nobody to ask: the next risk day", "backtest")
            stopped = False
        self._stopped = stopped
