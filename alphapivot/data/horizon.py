"""
How far the instruments' calendars are known: who takes no entries any more, and who will not soon.

What ``calendar.schedule`` assumes after a calendar's last session is good enough to look after what is open, and
never for a new risk.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.calendar import schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alphapivot.calendar.schedule import Calendar
    from alphapivot.config.sections.instrument import Instrument

WARNED = timedelta(days=62)  # ahead: a release of exchange_calendars may take some weeks
CODE = "calendar_ended"


@dataclass(frozen=True)
class Ending:
    """A calendar that ends soon or has ended: its last known session, and the instruments that it concerns."""

    calendar: str
    last: date
    symbols: tuple[str, ...]
    ended: bool

    def __str__(self) -> str:
        names = ", ".join(self.symbols[:5]) + (", ..." if len(self.symbols) > 5 else "")
        found = f"calendar {self.calendar} ({names}) is known to {self.last}"
        what = (
            "no entries are made there; open trades are still protected and exited, on assumed weekday sessions"
            if self.ended
            else "after it no entries are made there"
        )
        return f"{found}: {what}. Upgrade its source: .venv/bin/pip install --upgrade exchange_calendars"


def closed(instruments: Mapping[str, Instrument], at: datetime) -> dict[str, str]:
    """symbol -> why it takes no entry at ``at``: no later session of its calendar is known."""
    ends = {symbol: end(i.hours) for symbol, i in instruments.items()}
    return {
        symbol: f"{CODE}: {instruments[symbol].calendar} is known to {last}"
        for symbol, (closes, last) in ends.items()
        if at >= closes
    }


@lru_cache
def end(calendar: Calendar) -> tuple[datetime, date]:
    """When the last session that the calendar names closes, and its date."""
    known = schedule.of(calendar)
    closes, label = (pd.Timestamp(column[known.named - 1]) for column in (known.closes, known.labels))
    return closes.tz_localize("UTC").to_pydatetime(), label.date()


def endings(instruments: Iterable[Instrument], at: datetime) -> list[Ending]:
    """The calendars that end within two months of ``at``, or have ended, the first one first."""
    symbols: dict[str, list[str]] = defaultdict(list)
    for instrument in instruments:
        symbols[instrument.calendar].append(instrument.symbol)
    ends = sorted((*end(name), name) for name in symbols)
    return [
        Ending(name, last, tuple(sorted(symbols[name])), ended=at >= closes)
        for closes, last, name in ends
        if at >= closes - WARNED
    ]
