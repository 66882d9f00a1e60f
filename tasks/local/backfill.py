"""
History in pieces: `alphapivot ingest --from --to`. Killed at any point, the same command goes on where it was.

Each piece is a step with its receipt: what is committed is done, what is not never happened. Plain functions, so that
it needs no Prefect server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from alphapivot import hub
from alphapivot.config.sections.feeds import FilesFeed
from alphapivot.config.settings import Settings
from alphapivot.data import pieces
from alphapivot.errors import DataError
from alphapivot.feeds.files import paths_of
from alphapivot.feeds.registry import open_feed
from alphapivot.hub import Hub
from alphapivot.hub.tables import ops, run_locks
from alphapivot.runs import Receipt, RunRef
from tasks import backfill, runs

log = logging.getLogger("alphapivot.backfill")
KEPT = timedelta(days=1)  # what was fetched longer ago is fetched again
Progress = Callable[[int, int, str], None]  # pieces done, of how many, what the last one was


def run(
    settings: Settings, start: datetime, end: datetime, progress: Progress, say: Callable[[str], object] = log.info
) -> tuple[list[Receipt], list[str]]:
    """
    Fetches and stores all bars in (start, end]; returns the receipts of its pieces, and what cannot be had.

    The same call again goes on with what is unfinished; when all is done, it asks for everything again, since providers
    restate, and so it does, through ``say``, where the unfinished one is a day old or its files have changed. Raises
    DataError while another process is at the same.
    """
    if not start < end:
        raise DataError(f"--from {start:%Y-%m-%d %H:%M} is not before --to {end:%Y-%m-%d %H:%M}")
    database = hub.connect()
    run_locks.close_abandoned(database)
    times = 0
    while before := ops.attempted(
        database, runs.run_id(key := f"backfill:{settings.hash()}:{start.isoformat()}:{end.isoformat()}:{times}")
    ):
        state, began = before
        if state == "running":  # in another process, of which ``held`` tells
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
    used = {i.feed or settings.runtime.feed for i in settings.instruments.values()}
    limits = {name: open_feed(name, settings.feeds[name]).limits for name in used}
    # cut as at the first attempt, whose receipts are found again
    planned, notes = pieces.plan(settings, limits, start, current.as_of, began)
    done: list[Receipt] = []
    try:
        for number, piece in enumerate(planned):
            progress(number, len(planned), f"{piece.symbols[0]}.. {piece.since:%Y-%m-%d}")
            done.append(
                backfill.piece.fn(
                    current,
                    feed=piece.feed,
                    symbols=" ".join(piece.symbols),
                    since=piece.since.isoformat(),
                    until=piece.until.isoformat(),
                    last=piece.last,
                )
            )
    except BaseException as error:
        ops.finish_run(database, current.run_id, "failed", f"{type(error).__name__}: {error}; the same command goes on")
        raise
    progress(len(planned), len(planned), "done")
    ops.finish_run(database, current.run_id, "completed", f"{len(planned)} pieces")
    return done, notes


def _stale(settings: Settings, began: datetime) -> str:
    """Why the pieces that an attempt of this time has fetched may be others by now; empty: they are the same."""
    if datetime.now(UTC) - began > KEPT:
        return "it is more than a day old, and providers restate"
    for instrument in settings.instruments.values():
        feed = settings.feeds[instrument.feed or settings.runtime.feed]
        if isinstance(feed, FilesFeed):
            named = [*(getattr(instrument, market) for market in instrument.markets), instrument.actions]
            with suppress(DataError):  # what names no file is a problem of its fetch
                for path in (path for name in named if name for path in paths_of(feed.root, name.partition(":")[0])):
                    # a file that replaces another may keep its old time of modification, not that of its inode
                    if max(path.stat().st_mtime, path.stat().st_ctime) > began.timestamp():
                        return f"{path.name} has changed since"
    return ""
