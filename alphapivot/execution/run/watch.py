"""Is there anything to manage now: is a trade open or an entry waiting, and does its market trade?"""

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
AFTERWARDS = timedelta(minutes=10)  # after a close its last fills are still to be read


def idle(hub: Hub, settings: Settings, at: datetime) -> str:
    """
    Why there is nothing to manage at ``at``; empty where there is something: a market that trades, or, at any hour, an
    entry that rests at the broker of a book that was halted.
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
    known = [settings.instruments[s].hours for s in symbols if s in settings.instruments]
    if len(known) < len(symbols) or any(_trades(hours, at) for hours in set(known)):
        return ""
    return f"the markets of what is open in book {book} are closed: {', '.join(symbols)}"


def _trades(hours: schedule.Calendar, at: datetime) -> bool:
    found = schedule.of(hours)
    now, late = bar_ends.naive(at), np.timedelta64(AFTERWARDS)
    last = int(np.searchsorted(found.starts, now, "right")) - 1
    return last >= 0 and bool(now <= found.ends[last] + late)
