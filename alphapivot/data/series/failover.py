"""Asks the other feeds of instruments whose own feed is late; ``stand_in`` has the rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.data.series import stand_in
from alphapivot.data.series.stand_in import COMMON, NONE, Late, Stood
from alphapivot.errors import Unavailable
from alphapivot.feeds.registry import open_feed
from alphapivot.frames import Bars, Issues
from alphapivot.hub.tables import series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alphapivot.config.settings import Settings
    from alphapivot.feeds.base import Fetched, Request
    from alphapivot.frames import Frame
    from alphapivot.hub import Hub


def stand_ins(
    hub: Hub,
    settings: Settings,
    feed: str,
    requests: list[Request],
    fetched: Fetched,
    judged: Mapping[type[Frame], pd.DataFrame],
    as_of: datetime,
) -> Stood:
    """
    What other feeds of the instruments have in place of bars that ``feed`` should have delivered by now.

    ``fetched``: its reply to ``requests``; ``judged``: the frames that this would store.
    """
    marks = series.marks(hub, sorted({r.instrument.symbol for r in requests}))
    newest = {
        key: mark.newest if mark.source == feed else series.newest_of(hub, key, feed)
        for key, mark in marks.items()
        if mark.newest
    }
    known = {key: ts for key, ts in newest.items() if ts is not None}
    passed = judged[Bars]
    waiting = stand_in.late(requests, settings.feeds[feed], fetched.bars, passed, known, datetime.now(UTC))
    found = NONE
    for place in range(1, max([len(settings.feeds_of(late.request.instrument)) for late in waiting], default=0)):
        by_feed: dict[str, list[Late]] = {}
        for late in waiting:
            names = settings.feeds_of(late.request.instrument)
            by_feed.setdefault(names[place], []).append(late) if len(names) > place else None
        for name, those in by_feed.items():
            found = found.also(_from(hub, settings, feed, name, those, passed, as_of))
        waiting = [late for late in waiting if all(late is not taken.late for taken in found.taken)]
    return replace(found, kept=stand_in.kept(judged[Issues], found.taken, feed))


def _from(
    hub: Hub, settings: Settings, feed: str, other: str, waiting: list[Late], passed: pd.DataFrame, as_of: datetime
) -> Stood:
    """What ``other`` has in place of the bars of ``feed`` that are late."""
    section, requests = settings.feeds[other], []
    until = as_of - timedelta(minutes=section.publication_lag)
    for late in waiting:
        instrument = section.named(settings.instruments[late.key[0]])
        hours = instrument.hours_of(late.request.market)
        since = bar_ends.back(hours, late.request.interval, late.after, COMMON)
        requests.append(replace(late.request, instrument=instrument, since=since, until=until))
    try:
        reply = open_feed(other, section).fetch(requests)
    except Unavailable as error:
        return Stood(refused=[f"{other} cannot stand in for {feed}: {error}"])
    taken, refused = [], [f"{p.request}: {other} cannot stand in for {feed}: {p.reason}" for p in reply.problems]
    for late, request in zip(waiting, requests, strict=True):
        stored_bars = series.last_of(hub, late.key, feed, request.since or late.after, late.after)
        new = passed[stand_in.keys(passed) == late.key]
        own = pd.concat([stored_bars, new[new["ts"] <= late.after]], ignore_index=True)
        theirs = reply.bars[stand_in.keys(reply.bars) == late.key]
        if isinstance(stand := stand_in.take(late, other, own, theirs), str):
            refused.append(f"{late.request}: {late.why}; {stand}")
        else:
            taken.append(stand)
    return Stood(taken, {other: reply}, refused)
