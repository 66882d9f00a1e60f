"""A backfill split into pieces that a provider serves in one request and one transaction writes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from alphapivot.calendar import bar_ends

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.feeds.base import Limit

TICKERS = 25  # at most in one piece
BARS = 500_000  # at most in one piece, if markets never closed: bounds the memory
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Piece:
    """A request for bars of some instruments, in all their markets, complete in (since, until]."""

    feed: str
    symbols: tuple[str, ...]
    since: datetime
    until: datetime
    last: bool  # the last piece of these symbols


def plan(
    settings: Settings, limits: Mapping[str, Mapping[str, Limit]], start: datetime, end: datetime, now: datetime
) -> tuple[list[Piece], list[str]]:
    """
    The pieces of a backfill, chronological for each batch of instruments; and notes on what the feed cannot deliver.

    ``limits``: feed -> interval -> the provider's limits as of ``now``.
    """
    batches: dict[tuple[str, tuple[str, ...]], list[Instrument]] = {}
    for _, instrument in sorted(settings.instruments.items()):
        if instrument.legs:  # derived from what the pieces bring
            continue
        needed = [instrument.source_interval(m, settings.timeframes.base) for m in instrument.markets]
        batches.setdefault((settings.feed_of(instrument), tuple(needed)), []).append(instrument)
    pieces: list[Piece] = []
    notes: list[str] = []
    for (feed, intervals), instruments in batches.items():
        feed_limits = [limits[feed][i] for i in dict.fromkeys(intervals) if i in limits[feed]]
        begin = max([start, *(now - limit.reach for limit in feed_limits if limit.reach)])
        if begin > start:
            names = ", ".join(i.symbol for i in instruments)
            notes.append(f"{feed} has {', '.join(dict.fromkeys(intervals))} bars only from {begin:%Y-%m-%d}: {names}")
        a_day = sum(DAY / bar_ends.width(i) for i in intervals)  # bars of one instrument
        request = min([limit.request for limit in feed_limits if limit.request], default=None)
        most = len(instruments) if settings.feeds[feed].whole else min(TICKERS, len(instruments))
        # a source that is read as a whole whatever the range: all of some instruments, or pieces of one
        width = request or (end - begin if settings.feeds[feed].whole else DAY)
        count = min(most, max(int(BARS / (a_day * max(width, DAY) / DAY)), 1))
        span = request or max(BARS / (a_day * count) * DAY, DAY)
        for k in range(0, len(instruments), count):
            symbols = tuple(i.symbol for i in instruments[k : k + count])
            since = begin
            while since < end:
                until = min(since + span, end)
                pieces.append(Piece(feed, symbols, since, until, last=until == end))
                since = until
    return pieces, notes
