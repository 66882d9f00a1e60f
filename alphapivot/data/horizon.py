"""
Where the instruments' calendars end: which instruments take no more entries, now or soon.

The sessions that ``calendar.schedule`` assumes after a calendar's last one are good enough to manage open trades, but
not to open new ones.
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

WARNED = timedelta(days=62)  # ahead of the end: a release of exchange_calendars may take some weeks
CODE = "calendar_ended"


@dataclass(frozen=True)
class Ending:
    """A calendar that ends soon or has ended: its last session, and its instruments."""

    calendar: str
    last: date
    symbols: tuple[str, ...]
    ended: bool

    def __str__(self) -> str:
        names = ", ".join(self.symbols[:5]) + (", ..." if len(self.symbols) > 5 else "")
        effect = (
            "no new entries; open trades are still protected and exited, on assumed weekday sessions"
            if self.ended
            else "no new entries after that"
        )
        upgrade = ".venv/bin/pip install --upgrade exchange_calendars"
        return f"calendar {self.calendar} ({names}) ends on {self.last}: {effect}. Upgrade it: {upgrade}"


def closed(instruments: Mapping[str, Instrument], at: datetime) -> dict[str, str]:
    """symbol -> reason, for those that take no entry at ``at`` because their calendar has ended."""
    ends = {symbol: end(i.trading_hours) for symbol, i in instruments.items()}
    return {
        symbol: f"{CODE}: {instruments[symbol].calendar} ended on {last}"
        for symbol, (closes, last) in ends.items()
        if at >= closes
    }


@lru_cache
def end(calendar: Calendar) -> tuple[datetime, date]:
    """The close of the last session that the calendar names, and its date."""
    timetable = schedule.of(calendar)
    closes, label = (pd.Timestamp(column[timetable.named - 1]) for column in (timetable.closes, timetable.labels))
    return closes.tz_localize("UTC").to_pydatetime(), label.date()


def endings(instruments: Iterable[Instrument], at: datetime) -> list[Ending]:
    """The calendars that end within two months of ``at`` or have ended, earliest first."""
    symbols: dict[str, list[str]] = defaultdict(list)
    hours: dict[str, Calendar] = {}
    for instrument in instruments:
        symbols[instrument.calendar].append(instrument.symbol)
        hours.setdefault(instrument.calendar, instrument.trading_hours)
    ends = sorted((*end(hours[name]), name) for name in symbols)
    return [
        Ending(calendar=name, last=last, symbols=tuple(sorted(symbols[name])), ended=at >= closes)
        for closes, last, name in ends
        if at >= closes - WARNED
    ]
