"""
History in pieces: ``alphapivot ingest --from --to``. Killed at any point, the same command resumes where it stopped.

Each piece is a step with its receipt, committed in one transaction. Plain functions, so it needs no Prefect server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from alphapivot import hub
from alphapivot.config.sections.feeds import FilesFeed
from alphapivot.config.sections.instrument import LEGS
from alphapivot.config.settings import Settings
from alphapivot.data import pieces
from alphapivot.errors import DataError
from alphapivot.feeds.files.paths import paths_of
from alphapivot.feeds.registry import open_feed
from alphapivot.hub import Hub
from alphapivot.hub.tables import ops, run_locks
from alphapivot.runs import Receipt, RunRef
from tasks import backfill, ingest, runs

log = logging.getLogger("alphapivot.backfill")
PIECES = logging.getLogger("alphapivot.ingest")
KEPT = timedelta(days=1)  # older pieces are fetched again
Progress = Callable[[int, int, str], None]  # pieces done, total, the current one


def run(
    settings: Settings, start: datetime, end: datetime, progress: Progress, say: Callable[[str], object] = log.info
) -> tuple[list[Receipt], list[str]]:
    """
    Fetches and stores all bars in (start, end]; returns the receipts of its pieces, and notes on unavailable bars.

    The same call again resumes an unfinished backfill. It fetches everything again, because providers restate, if the
    last one is finished, a day old or its files have changed; ``say`` reports which. Raises DataError while another
    process runs the same backfill.
    """
    if not start < end:
        raise DataError(f"--from {start:%Y-%m-%d %H:%M} is not before --to {end:%Y-%m-%d %H:%M}")
    database = hub.connect()
    run_locks.close_abandoned(database)
    times = 0
    while attempt := ops.attempted(
        database, runs.run_id(key := f"backfill:{settings.hash()}:{start.isoformat()}:{end.isoformat()}:{times}")
    ):
        state, began = attempt
        if state == "running":  # in another process: ``held`` raises
            break
        stale = "" if state == "completed" else _stale(settings, began)
        started = f"the backfill started at {began:%Y-%m-%d %H:%M} UTC"
        if state != "completed" and not stale:
            say(f"resumes {started}")
            break
        if stale:
            say(f"{started} is not resumed ({stale}): everything is fetched again")
        times += 1
    with run_locks.held(database, runs.run_id(key)):
        return _fetch(database, runs.begin("backfill", settings, key=key, as_of=end), settings, start, progress)


def _fetch(
    database: Hub, current: RunRef, settings: Settings, start: datetime, progress: Progress
) -> tuple[list[Receipt], list[str]]:
    _, began = ops.attempted(database, current.run_id) or ("", datetime.now(UTC))
    used = {settings.feed_of(i) for i in settings.instruments.values()} - {LEGS}
    limits = {name: open_feed(name, settings.feeds[name]).limits for name in used}
    # cut as at the first attempt, so that its receipts match
    planned, notes = pieces.plan(settings, limits, start, current.as_of, began)
    receipts: list[Receipt] = []
    once = _Once()  # a file's mistake is met in each piece
    PIECES.addFilter(once)
    try:
        store = backfill.piece_of(backfill.Ahead(settings, planned, current.as_of)).fn
        for number, piece in enumerate(planned):
            progress(number, len(planned), f"{piece.symbols[0]}.. {piece.since:%Y-%m-%d}")
            receipts.append(
                store(
                    current,
                    feed=piece.feed,
                    symbols=" ".join(piece.symbols),
                    since=piece.since.isoformat(),
                    until=piece.until.isoformat(),
                    last=piece.last,
                )
            )
        spreads = [pair for pair in ingest.batches(current) if pair[0] == LEGS]
        receipts += [ingest.ingest.fn(current, feed, shard, after=receipts) for feed, shard in spreads]
    except BaseException as error:
        ops.finish_run(
            database, current.run_id, "failed", f"{type(error).__name__}: {error}; run the same command to resume"
        )
        raise
    finally:
        PIECES.removeFilter(once)
    progress(len(planned), len(planned), "done")
    ops.finish_run(database, current.run_id, "completed", f"{len(planned)} pieces")
    return receipts, notes


class _Once(logging.Filter):
    """Lets each message pass once."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text, known = record.getMessage(), len(self._seen)
        self._seen.add(text)
        return len(self._seen) > known


def _stale(settings: Settings, began: datetime) -> str:
    """The reason why pieces fetched since ``began`` may be outdated; empty if they are not."""
    if datetime.now(UTC) - began > KEPT:
        return "it is more than a day old, and providers restate"
    for instrument in settings.instruments.values():
        feed = settings.feeds[settings.feed_of(instrument)]
        if isinstance(feed, FilesFeed):
            own = feed.named(instrument)
            named = [*(getattr(own, market) for market in own.markets), own.actions]
            with suppress(DataError):  # a missing file is reported by its fetch
                for path in (path for name in named if name for path in paths_of(feed.root, name.partition(":")[0])):
                    # a file that replaces another may keep an old mtime, but not an old ctime
                    if max(path.stat().st_mtime, path.stat().st_ctime) > began.timestamp():
                        return f"{path.name} has changed since"
    return ""
