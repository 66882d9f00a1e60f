"""
One piece of a backfill: one provider request, stored in one transaction with its receipt.

A piece of files is read and screened while the database takes the one before it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from prefect import Task

from alphapivot.config.sections.feeds import FilesFeed
from alphapivot.config.settings import Settings
from alphapivot.data import pieces, screen
from alphapivot.data.series import life
from alphapivot.errors import Unavailable
from alphapivot.feeds.base import Fetched, Request
from alphapivot.feeds.registry import open_feed
from tasks.ingest import absorb, other_timetables
from tasks.step import Output, Work, step

log = logging.getLogger("alphapivot.ingest")
Key = tuple[str, str, datetime]  # feed, symbols, since
Reply = tuple[Fetched, screen.Screened]


class Ahead:
    """The replies to the pieces of a backfill; of files, the next one may be read ahead."""

    def __init__(self, settings: Settings, planned: Sequence[pieces.Piece], as_of: datetime) -> None:
        self._settings, self._as_of = settings, as_of
        keys = [(piece.feed, " ".join(piece.symbols), piece.since) for piece in planned]
        # a provider is asked in turn: its limits count, and Ctrl-C does not wait for its answer
        self._after = {
            key: (following, piece.until)
            for key, following, piece in zip(keys, keys[1:], planned[1:], strict=False)
            if isinstance(settings.feeds[piece.feed], FilesFeed)
        }
        self._read: tuple[Key, list[Request], Reply] | None = None

    def take(self, key: Key, requests: list[Request]) -> Reply:
        """The screened reply to the ``requests`` of a piece."""
        known, self._read = self._read, None
        if known is not None and known[:2] == (key, requests):
            return known[2]
        return ask(self._settings, key[0], requests, self._as_of)

    def read(self, key: Key) -> None:
        """Reads the piece after this one."""
        if key not in self._after:
            return
        following, until = self._after[key]
        requests = wants(self._settings, *following, until)
        with suppress(Exception):  # in its turn it is asked again, and fails there
            self._read = following, requests, ask(self._settings, following[0], requests, self._as_of)


def wants(settings: Settings, feed: str, symbols: str, since: datetime, until: datetime) -> list[Request]:
    """The requests of a piece: one for each market of its symbols that is alive in (since, until]."""
    base = settings.timeframes.base
    return [
        request
        for instrument in (settings.feeds[feed].named(settings.instruments[symbol]) for symbol in symbols.split(" "))
        for market in instrument.markets
        if (request := life.request(instrument, market, instrument.source_interval(market, base), since, until))
    ]


def ask(settings: Settings, feed: str, requests: list[Request], as_of: datetime) -> Reply:
    """The feed's reply, and its bars screened."""
    fetched = open_feed(feed, settings.feeds[feed]).fetch(requests)
    instruments = {r.instrument.symbol: r.instrument for r in requests}
    return fetched, screen.screen(fetched.bars, instruments, now=max(as_of, datetime.now(UTC)))


def piece_of(ahead: Ahead) -> Task[..., Any]:
    """The step of one of the pieces."""

    @step("backfill {feed} {symbols} {since}")
    def piece(work: Work, feed: str, symbols: str, since: str, until: str, last: bool) -> Output:
        """
        Fetches and stores the bars of some instruments that were complete in (since, until].

        A coarser bar that ends in the next piece is left to that piece. Series that the feed lacks are noted; raises
        Unavailable for those that it may have later.
        """
        begin, end = datetime.fromisoformat(since), datetime.fromisoformat(until)
        requests = wants(work.settings, feed, symbols, begin, end)
        if not requests:
            return Output()
        refused = other_timetables(work.hub, work.settings, feed, requests)
        rest = [r for r in requests if all(r is not p.request for p in refused)]
        key = feed, symbols, begin
        fetched, screened = ahead.take(key, rest)
        fetched = replace(fetched, problems=[*refused, *fetched.problems])
        for problem in fetched.problems:
            log.warning("%s: %s", problem.request, problem.reason)
        if later := [p for p in fetched.problems if p.transient]:
            raise Unavailable(f"feed {feed} did not answer: {later[0].request}: {later[0].reason}")
        until_of = work.run.as_of if last else end
        output = absorb(work, feed, requests, fetched, until=until_of, backfill=True, screened=screened)

        def rest() -> Output:  # while the database takes the bars
            told = replace(output, frames={}).whole()
            ahead.read(key)
            return told

        return replace(output, rest=rest)

    return piece
