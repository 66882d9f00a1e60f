"""
A backtest: runs the trading engine at every instant of a period, on a simulated clock.

Only the surroundings differ from live: the market is read in advance (``market``), one connection serves all
statements, a book halted by a loss is resumed on the next risk day instead of by an operator, and of consecutive
instants with nothing open and no score that triggers a trade only the first is run: the others would do the same.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from alphapivot import memory
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

Progress = Callable[[int, int, str], None]  # instants done, of how many, current activity
AT_ONCE = 200_000  # symbols x instants that are read at once
TOGETHER = 25  # instants per commit
RESUMED = "a backtest has no operator: the next risk day"


@dataclass
class Timer:
    """Seconds by stage."""

    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        memory.release()
        self.spent[name] += time.perf_counter() - begun


def booked(settings: Settings, book: str) -> Settings:
    """
    The settings of a backtest: its own book at a paper account, which waits for nobody's approval. Raises ConfigError
    unless the paper broker is clear, and for terms that no market has.
    """
    name = settings.execution.broker
    if not isinstance(settings.brokers[name], PaperBroker):
        papers = sorted(n for n, section in settings.brokers.items() if isinstance(section, PaperBroker))
        if len(papers) != 1:
            raise ConfigError(
                f"a backtest needs a [broker.*] of kind paper; [execution] broker is {name}, and "
                + (f"there are several: {', '.join(papers)}" if papers else "the config has none")
            )
        name = papers[0]
    trading = settings.execution.model_copy(update={"book": book, "broker": name, "mode": "paper", "approve": "off"})
    booked = settings.model_copy(update={"execution": trading})
    open_paper(None, booked)
    return booked


def trade(
    hub: Hub, run: RunRef, settings: Settings, instants: Sequence[datetime], *, timer: Timer, progress: Progress
) -> None:
    """
    Trades the book of ``settings`` at each of ``instants`` (ascending) that it has not traded yet.

    Commits as it goes, together with its progress: if killed, a second call resumes from there. Raises DataError if
    another process is working on the book.
    """
    with Pinned(hub.url) as desk:
        if not engine.locked(desk.driver, settings.execution.book):
            raise DataError(
                f"another process is running backtest {settings.execution.book}: wait for it to finish, or end it"
            )
        book = Book(desk, run, settings)
        done = backtests.done_until(desk, run)
        first = sum(1 for i in instants if done is not None and i <= done)
        size = max(TOGETHER, AT_ONCE // len(settings.instruments))
        for begin in range(first, len(instants), size):
            chunk = instants[begin : begin + size]
            with timer.stage("read"):
                since = book.held_since()
                bars = BarRange(hub, run, settings, after=chunk[0], until=chunk[-1], held_since=since)
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


class Book:
    """A book, its paper account, and its fence, which no other process raises while the lock is held."""

    def __init__(self, desk: Pinned, run: RunRef, settings: Settings) -> None:
        self._desk, self._run, self._settings = desk, run, settings
        self._broker = open_paper(desk, settings)
        self._broker.caps = replace(self._broker.caps, late_fills=False)  # no operator is there to abandon an order
        self._name = settings.execution.book
        with desk.engine.begin() as conn:
            self._fence = ledger.raise_fence(conn, self._name)
            self.begins = backtests.begins(conn, run)
        self._stopped = True  # possibly, until ``_resume`` has checked
        self._resting: Session | None = None  # the last session, if nothing was open and no score triggered
        self._marks: list[dict[str, Any]] = []
        self.instants = 0  # since the last commit

    def decide(self, bars: BarRange, terms: Terms | None, as_of: datetime) -> None:
        """
        Decides at ``as_of`` as a scheduled run would; does nothing before the first score is known. ``terms``: recorded
        with the decisions, if given.
        """
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
            hub=self._desk,
            run=run,
            settings=self._settings,
            clock=SimulatedClock(as_of),
            broker=self._broker,
            lock=self._desk.engine.connect(),
            fence=self._fence,
            report=TradeReport(run.run_id, self._name, as_of),
            source=bars,
        )
        engine.go(session, {}, {} if terms is None else terms.at(bars))
        self._stopped = bool(session.report.notes)
        self._resting = session if bars.quiet and not session.attended and not self._stopped else None

    def held_since(self) -> datetime | None:
        """The first entry of its open trades; None without one."""
        with self._desk.engine.begin() as conn:
            trades = ledger.open_trades(conn, self._name)
        return min((t["entry_at"] for t in trades if t["entry_at"] is not None), default=None)

    def _rest(self, last: Session, as_of: datetime) -> None:
        """
        What a run does after one with nothing open and no score that triggers: it sees the account unchanged, opens a
        new risk day, and marks the book.
        """
        account = last.report.account
        if account is None:
            raise RuntimeError("the last run has no account")
        if limits.risk_day(as_of, self._settings.risk) != last.day:
            last.run = replace(self._run, as_of=as_of)
            with self._desk.engine.begin() as conn:
                day.open_day(conn, self._name, last.day, account, as_of)
        self._marks.append(mark.row(self._name, self._run.run_id, as_of, account))

    def write_marks(self) -> None:
        """Writes the pending marks; call before anything reads them, and before a commit."""
        if self._marks:
            with self._desk.engine.begin() as conn:
                mark.write(conn, self._marks)
            self._marks = []

    def _resume(self, as_of: datetime) -> None:
        """A loss halts a book until an operator resumes it; here it resumes on the next risk day."""
        if not self._stopped:
            return
        with self._desk.engine.begin() as conn:
            tripped = ledger.tripped_on(conn, self._name)
            stopped = tripped is not None and control.state(conn, self._name).state != "ACTIVE"
        if stopped and tripped is not None and limits.risk_day(as_of, self._settings.risk) > tripped:
            control.resume(self._desk, self._name, RESUMED, "backtest")
            stopped = False
        self._stopped = stopped
