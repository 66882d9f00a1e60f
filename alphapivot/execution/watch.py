"""Is there anything to manage now: is a trade open or an entry waiting, and does its market trade?"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from alphapivot import calendars, schedule

if TYPE_CHECKING:
    from alphapivot.hub import Hub
    from alphapivot.settings import Settings

AFTERWARDS = timedelta(minutes=10)  # after a close its last fills are still to be read


def idle(hub: Hub, settings: Settings, at: datetime) -> str:
    """Why there is nothing to manage at ``at``, in one query; empty where there is something."""
    book = settings.execution.book
    with hub.engine.connect() as conn:
        query = text("SELECT DISTINCT symbol FROM trading.trade WHERE book = :book AND state <> 'CLOSED'")
        symbols = sorted(conn.execute(query, {"book": book}).scalars())
    if not symbols:
        return f"nothing is open in book {book}"
    known = [settings.instruments[s].hours for s in symbols if s in settings.instruments]
    if len(known) < len(symbols) or any(_trades(hours, at) for hours in set(known)):
        return ""
    return f"the markets of what is open in book {book} are closed: {', '.join(symbols)}"


def _trades(hours: schedule.Calendar, at: datetime) -> bool:
    found = schedule.of(hours)
    now, late = calendars.naive(at), np.timedelta64(AFTERWARDS)
    last = int(np.searchsorted(found.starts, now, "right")) - 1
    return last >= 0 and bool(now <= found.ends[last] + late)
