"""Checks whether there is anything to manage now: an open trade or a waiting entry whose market is open."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from alphapivot.calendar import bar_ends, schedule
from alphapivot.execution.book import control

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

OPEN = "SELECT DISTINCT symbol FROM trading.trade WHERE book = :book AND state <> 'CLOSED'"
RESTS = """
    SELECT EXISTS (SELECT FROM trading.orders WHERE book = :book AND leg = 'ENTRY' AND attempts > 0
                   AND NOT trading.is_terminal(state))
"""
AFTERWARDS = timedelta(minutes=10)  # time after a close to read its last fills


def idle(hub: Hub, settings: Settings, at: datetime) -> str:
    """
    Returns why there is nothing to manage at ``at``; empty if there is something: an open trade whose market is open
    or, at any hour, a resting entry of a halted book.
    """
    book = settings.execution.book
    with hub.engine.connect() as conn:
        symbols = sorted(conn.execute(text(OPEN), {"book": book}).scalars())
        halted = control.state(conn, book).state != "ACTIVE"
        rests = halted and conn.execute(text(RESTS), {"book": book}).scalar()
    if not symbols:
        return f"nothing is open in book {book}"
    if rests:
        return ""
    calendars = [settings.instruments[s].trading_hours for s in symbols if s in settings.instruments]
    if len(calendars) < len(symbols) or any(_is_open(hours, at) for hours in set(calendars)):
        return ""
    return f"the markets of what is open in book {book} are closed: {', '.join(symbols)}"


def _is_open(hours: schedule.Calendar, at: datetime) -> bool:
    sessions = schedule.of(hours)
    now, grace = bar_ends.naive(at), np.timedelta64(AFTERWARDS)
    last = int(np.searchsorted(sessions.starts, now, "right")) - 1
    return last >= 0 and bool(now <= sessions.ends[last] + grace)
