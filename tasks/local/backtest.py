"""A backtest from asking to answer: one run, killed at any point and gone on with by the same call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from alphapivot import hub
from alphapivot.config import names
from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError, DataError
from alphapivot.hub import Hub
from alphapivot.hub.tables import backtests, ops, run_locks
from alphapivot.research.backtest import check, driver, market, warnings
from alphapivot.research.backtest.driver import Progress, Timer
from alphapivot.runs import RunRef
from alphapivot.version import code_version
from tasks import composite, pillars, runs

log = logging.getLogger("alphapivot.backtest")

Schedule = Callable[[Hub, RunRef, Settings], list[datetime]]
ORPHANED = 60.0  # seconds within which the server sees that a trial's process was killed, in a long statement too


@dataclass(frozen=True)
class Done:
    """``unchanged``: the same was asked before, of the same data, and this is what came of it then."""

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
    say: Callable[[str], object] = log.info,
) -> Done:
    """
    What the config would have done in (since, until].

    Asked again for the same period with the same config, code and data it is found, or, where it was killed, goes on;
    where the data have changed since, and with ``again``, it begins again, in another book, and says so through
    ``say``. ``book``: its name (bt- is put before it). ``schedule``: when it decides, where that is not at every new
    score. Raises ConfigError, and DataError where there is nothing to trade or a pillar looks ahead.
    """
    asked_until, until = until, min(until, datetime.now(UTC))
    if not since < until:
        raise DataError(f"--from {since:%Y-%m-%d %H:%M} is not before --to {until:%Y-%m-%d %H:%M}")
    driver.booked(settings, "bt-")  # a mistake is said before anything is begun
    if book and (why := names.wrong(book)):
        raise ConfigError(f"--book {book}: {why}")
    if backtests.TRIAL.fullmatch(f"bt-{(book or '').removeprefix('bt-')}"):
        raise ConfigError(f"--book {book}: the trials of `alphapivot tune` are called so; give another name")
    database = hub.connect()
    # the period as it was asked for: up to the end of today is the same question an hour later
    asked = f"backtest:{settings.hash()}:{code_version()}:{since.isoformat()}:{asked_until.isoformat()}:{book or ''}"
    run_locks.close_abandoned(database)
    times, stale = 0, None
    while (known := ops.attempted(database, runs.run_id(f"{asked}:{times}"))) is not None:
        found, _ = ops.load_run(database, runs.run_id(f"{asked}:{times}"))
        changed = found.known_at is not None and backtests.outdated(database, found, list(settings.instruments), until)
        if known[0] == "completed" and not again and not changed:
            return Done(found, found.scope, unchanged=True)
        if known[0] == "running" or (known[0] != "completed" and not again and not changed):
            break
        times, stale = times + 1, found if changed else None
    key = f"{asked}:{times}"
    name = f"bt-{(book or runs.run_id(key)[:8]).removeprefix('bt-')}{f'-{times + 1}' if book and times else ''}"
    if stale is not None:
        started = f"{stale.known_at:%Y-%m-%d %H:%M:%S} UTC, when it was started"
        say(f"the data have changed since {started}: starting again, as {name}")
    elif known is not None and known[0] != "running":
        say(f"{name} resumes where it stopped: the data are unchanged")
    with run_locks.held(database, runs.run_id(key)):
        current = runs.begin("backtest", settings, key=key, as_of=until, scope=name)
        current, _ = ops.load_run(database, current.run_id)
        backtests.open_(database, current, name, since)
        if current.known_at is None:
            current = ops.freeze_known_at(database, current)
        with _recorded(database, current):
            _make(database, current, settings, name, since, progress, schedule)
    return Done(current, name)


def trial(settings: Settings, since: datetime, until: datetime, *, book: str, scope: str, known_at: datetime) -> RunRef:
    """
    A backtest of many, in a ``book`` that no other search has: it goes on where it was killed, and is found where it
    was done. All of them read the hub as it was known at ``known_at``, and those whose configs score alike share the
    scores of one ``scope``.
    """
    database, key = hub.connect(), f"trial:{book}"
    with run_locks.held(database, runs.run_id(key), f"trial {book}", patience=ORPHANED):
        if (known := ops.attempted(database, runs.run_id(key))) is not None and known[0] == "completed":
            return ops.load_run(database, runs.run_id(key))[0]
        current = runs.begin("backtest", settings, key=key, as_of=until, scope=scope)
        backtests.open_(database, current, book, since)
        current = ops.set_known_at(database, current, known_at)
        with _recorded(database, current):
            _make(database, current, settings, book, since, lambda *_: None, None)
    return current


@contextmanager
def _recorded(database: Hub, run: RunRef) -> Iterator[None]:
    """An error ends the run, and stands in ops.run."""
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
) -> None:
    timer = Timer()
    _score(run, settings, timer, progress)
    settings = driver.booked(settings, book)
    first = market.instants(database, run, settings, since)
    instants = first if schedule is None else [i for i in schedule(database, run, settings) if since < i <= run.as_of]
    if not instants:
        raise DataError(
            f"there is no score between {since:%Y-%m-%d} and {run.as_of:%Y-%m-%d}: `alphapivot data series` or "
            "`alphapivot ingest --from DAY` say which bars are there"
        )
    with timer.stage("check"):
        progress(0, len(instants), "looking for scores that look ahead")
        check.scores(database, run, settings, instants)
    driver.trade(database, run, settings, instants, timer=timer, progress=progress)
    with timer.stage("results"):
        progress(len(instants), len(instants), "adding up")
        check.fills(database, settings)
        with database.engine.connect() as conn:
            begins = backtests.begins(conn, run)
        warned = warnings.collect(database, run, settings, since, instants[0], begins)
        results = backtests.results(database, book)
    backtests.finish(database, run, results, warned, timer.spent)
    ops.finish_run(database, run.run_id, "completed", f"digest {results['digest']}")


def _score(run: RunRef, settings: Settings, timer: Timer, progress: Progress) -> None:
    """All scores up to the end, in bulk, by the same steps as live."""
    pieces = [(name, shard) for name in settings.pillars for shard in range(settings.runtime.shards)]
    with timer.stage("scores"), ThreadPoolExecutor(min(4, len(pieces))) as pool:
        progress(0, 1, f"scoring {len(settings.pillars)} pillars")
        scored = list(pool.map(lambda piece: pillars.score_pillar.fn(run, *piece), pieces))
    with timer.stage("composites"):
        progress(0, 1, "blending")
        composite.compose.fn(run, after=scored)
