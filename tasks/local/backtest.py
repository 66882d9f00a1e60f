"""A whole backtest as one run. Killed at any point, the same call resumes it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from alphapivot import hub
from alphapivot.config import names
from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError, DataError
from alphapivot.hub import Hub
from alphapivot.hub.tables import backtests, ops, run_locks
from alphapivot.reports.book.cautions import never
from alphapivot.research.backtest import check, driver, market, warnings
from alphapivot.research.backtest.driver import Progress, Timer
from alphapivot.research.screen.engine import LeftOut
from alphapivot.runs import RunRef
from alphapivot.version import code_version
from tasks import composite, pillars, runs

if TYPE_CHECKING:
    from alphapivot.research.simulate.run import Traded

log = logging.getLogger("alphapivot.backtest")

Schedule = Callable[[Hub, RunRef, Settings], list[datetime]]
Engine = Literal["kernel", "memory", "live"]
ORPHANED = 60.0  # seconds within which the server notices that a trial's process was killed, even in a long statement


@dataclass(frozen=True)
class How:
    """
    How a backtest trades. ``engine``: ``kernel``, by the code that trades live, in memory, at the instants at which the
    screening kernel sees something happen, or at all of them where it leaves the config out; or ``live``, by the
    trading engine on the database. ``audit``: of a backtest in memory the engine does again samples, or all (``full``).
    All trade the same.
    """

    engine: Literal["kernel", "live"] = "kernel"
    audit: Literal["sample", "full"] = "sample"


@dataclass(frozen=True)
class Done:
    """``unchanged``: the stored result of an identical backtest on the same data."""

    run: RunRef
    book: str
    unchanged: bool = False


def run(
    settings: Settings,
    since: datetime,
    until: datetime,
    *,
    progress: Progress,
    book: str | None = None,
    again: bool = False,
    schedule: Schedule | None = None,
    how: How | None = None,
    say: Callable[[str], object] = log.info,
) -> Done:
    """
    Backtests the config over (since, until].

    A call with the same period, config, code and data returns the stored result, or resumes a killed one. If the data
    have changed, or with ``again``, it starts over in another book, and reports so through ``say``. ``book``: its name
    (stored as bt-NAME). ``schedule``: the decision instants; default: every new score. ``how``: default: by the kernel,
    unless the config needs what it leaves out. Raises ConfigError, and DataError if there is nothing to trade, a pillar
    looks ahead, or the engine does not do what the kernel's backtest did.
    """
    how = How() if how is None else how
    requested_until, until = until, min(until, datetime.now(UTC))
    if not since < until:
        raise DataError(f"--from {since:%Y-%m-%d %H:%M} is not before --to {until:%Y-%m-%d %H:%M}")
    driver.booked(settings, "bt-")  # reports config errors before anything starts
    if book and (reason := names.wrong(book)):
        raise ConfigError(f"--book {book}: {reason}")
    if backtests.TRIAL.fullmatch(f"bt-{(book or '').removeprefix('bt-')}"):
        raise ConfigError(f"--book {book}: this name is reserved for trials of `alphapivot tune`; use another one")
    database = hub.connect()
    # the requested end, not the effective one: `--to` today must find the same backtest an hour later
    period = f"{since.isoformat()}:{requested_until.isoformat()}"
    asked = "" if how == How() else f":{how.engine}:{how.audit}"
    identity = f"backtest:{settings.hash()}:{code_version(settings.pillars)}:{period}:{book or ''}{asked}"
    run_locks.close_abandoned(database)
    times, stale = 0, None
    while (attempt := ops.attempted(database, runs.run_id(f"{identity}:{times}"))) is not None:
        earlier, _ = ops.load_run(database, runs.run_id(f"{identity}:{times}"))
        changed = earlier.known_at is not None and backtests.outdated(
            database, earlier, list(settings.instruments), until
        )
        if attempt[0] == "completed" and not again and not changed:
            return Done(earlier, earlier.scope, unchanged=True)
        if attempt[0] == "running" or (attempt[0] != "completed" and not again and not changed):
            break
        times, stale = times + 1, earlier if changed else None
    key = f"{identity}:{times}"
    wanted = f"bt-{(book or runs.run_id(key)[:8]).removeprefix('bt-')}{f'-{times + 1}' if book and times else ''}"
    name = backtests.free_name(database, runs.run_id(key), wanted)
    if told := _told(name, wanted, stale, resumed=attempt is not None and attempt[0] != "running"):
        say(told)
    with run_locks.held(database, runs.run_id(key)):
        current = runs.begin("backtest", settings, key=key, as_of=until, scope=name)
        current, _ = ops.load_run(database, current.run_id)
        backtests.open_(database, current, name, since)
        if current.known_at is None:
            current = ops.freeze_known_at(database, current)
        with _recorded(database, current):
            _make(database, current, settings, name, since, progress, schedule, how, say)
    return Done(current, name)


def _told(name: str, wanted: str, stale: RunRef | None, *, resumed: bool) -> str:
    """What is worth knowing before it starts; empty if nothing is."""
    if stale is not None:
        started = f"{stale.known_at:%Y-%m-%d %H:%M:%S} UTC, when it was started"
        return f"the data have changed since {started}: starting again, as {name}"
    if resumed:
        return f"{name} resumes where it stopped: the data are unchanged"
    return "" if name == wanted else f"{wanted} is another backtest, which did not finish: this one is {name}"


def trial(settings: Settings, since: datetime, until: datetime, *, book: str, scope: str, known_at: datetime) -> RunRef:
    """
    One backtest of a search, in a ``book`` of its own: a killed one is resumed, a finished one is returned. All trials
    read the hub as known at ``known_at``; those whose configs score alike share the scores of one ``scope``.
    """
    database, key = hub.connect(), f"trial:{book}"
    with run_locks.held(database, runs.run_id(key), f"trial {book}", patience=ORPHANED):
        if (attempt := ops.attempted(database, runs.run_id(key))) is not None and attempt[0] == "completed":
            return ops.load_run(database, runs.run_id(key))[0]
        current = runs.begin("backtest", settings, key=key, as_of=until, scope=scope)
        backtests.open_(database, current, book, since)
        current = ops.set_known_at(database, current, known_at)
        with _recorded(database, current):
            _make(database, current, settings, book, since, lambda *_: None, None, How(), lambda _: None)
    return current


@contextmanager
def _recorded(database: Hub, run: RunRef) -> Iterator[None]:
    """Ends the run as failed in ops.run on any error."""
    try:
        yield
    except BaseException as error:
        ops.finish_run(database, run.run_id, "failed", f"{type(error).__name__}: {error}")
        raise


def _make(
    database: Hub,
    run: RunRef,
    settings: Settings,
    book: str,
    since: datetime,
    progress: Progress,
    schedule: Schedule | None,
    how: How,
    say: Callable[[str], object],
) -> None:
    timer = Timer()
    with check.fresh() as pool:
        _score(run, settings, timer, progress)
        settings = driver.booked(settings, book)
        first = market.instants(database, run, settings, since)
        instants = (
            first if schedule is None else [i for i in schedule(database, run, settings) if since < i <= run.as_of]
        )
        if not instants:
            raise DataError(
                f"no scores between {since:%Y-%m-%d} and {run.as_of:%Y-%m-%d}: `alphapivot db stats` shows the stored "
                "bars, `alphapivot ingest --from DAY` fetches more"
            )
        engine, traded = _trade(database, run, settings, instants, how, timer, progress, say)
        with timer.stage("check"):
            progress(len(instants), len(instants), "checking each score that was acted on")
            read = check.acted(database, run, settings, instants, pool)
    with timer.stage("results"):
        progress(len(instants), len(instants), "computing results")
        check.fills(database, settings)
        with database.engine.connect() as conn:
            begins = backtests.begins(conn, run)
        told: list[warnings.CodedWarning] = [never(s, *why) for s, why in (traded.refused if traded else {}).items()]
        told += [("reads", None, sentence) for sentence in read]
        told += warnings.collect(database, run, settings, since, instants[0], begins)
        results = {**backtests.results(database, book), "engine": engine, "audited": traded.audited if traded else 0}
    backtests.finish(database, run, results, told, timer.spent)
    ops.finish_run(database, run.run_id, "completed", f"digest {results['digest']}")


def _trade(
    database: Hub,
    run: RunRef,
    settings: Settings,
    instants: list[datetime],
    how: How,
    timer: Timer,
    progress: Progress,
    say: Callable[[str], object],
) -> tuple[Engine, Traded | None]:
    """Trades the book; returns by which engine, and what the kernel's tells."""
    if how.engine == "kernel" and backtests.done_until(database, run) is None:
        from alphapivot.research.simulate import run as memory  # noqa: PLC0415 - numba takes a second to load

        try:
            whole = how.audit == "full"
            traded = memory.trade(database, run, settings, instants, timer=timer, progress=progress, whole=whole)
        except LeftOut as error:
            say(f"traded bar by bar by the live engine, as {_why(str(error))}")
        else:
            if traded.walked:
                say(f"decided at every instant, as {_why(traded.walked)}")
            return "memory" if traded.walked else "kernel", traded
    with timer.stage("check"):  # before hours of trading; the kernel's takes seconds
        progress(0, len(instants), "checking for lookahead")
        check.scores(database, run, settings, instants)
    driver.trade(database, run, settings, instants, timer=timer, progress=progress)
    return "live", None


def _why(left_out: str) -> str:
    return re.split("[:;] use --engine", left_out)[0].replace("screening engine", "kernel")


def _score(run: RunRef, settings: Settings, timer: Timer, progress: Progress) -> None:
    """Makes all scores up to the end in bulk, with the same steps as live runs."""
    pieces = [(name, shard) for name in settings.pillars for shard in range(settings.runtime.shards)]
    with timer.stage("scores"), ThreadPoolExecutor(min(4, len(pieces))) as pool:
        progress(0, 1, f"scoring {len(settings.pillars)} pillars")
        scored = list(pool.map(lambda piece: pillars.score_pillar.fn(run, *piece), pieces))
    with timer.stage("composites"):
        progress(0, 1, "blending")
        composite.compose.fn(run, after=scored)
