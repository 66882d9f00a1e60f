"""
An instrument's trading hours as config.ini writes them; ``schedule`` lays them over a calendar.

    session = 09:00-17:30                               ; local to the exchange
    session = 08:30-15:15, 2008-07-07: 17:00-15:15      ; another from a date on; this one opens on the evening before
    breaks = 11:30-13:00, 15:00-15:15                   ; none: not even those that the calendar knows
    daily_stamp = last, 2015-01-01: settlement 15:15    ; when a day's bar is complete
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TypeVar

Span = tuple[int, int]  # minutes after midnight: from, to
Item = TypeVar("Item")
ALWAYS = date.min


@dataclass(frozen=True, order=True)
class Hours:
    """A calendar of exchange_calendars and what an instrument changes in it; empty texts change nothing."""

    calendar: str
    session: str = ""
    breaks: str = ""
    daily_stamp: str = ""
    zone: str = ""  # of the times above; the calendar's own when empty

    def __str__(self) -> str:
        """The calendar, and what differs from it, for messages."""
        own = [self.session, self.breaks and f"breaks {self.breaks}", self.daily_stamp, self.zone]
        return f"{self.calendar} ({'; '.join(filter(None, own))})" if any(own) else self.calendar


def sessions(text: str) -> list[tuple[date, Span]]:
    """From each date on, the session's hours; its end lies at or before its start where it opens the evening before."""
    found = []
    for since, items in _dated(text, _span):
        if len(items) != 1:
            raise ValueError(f"one session a day, got {len(items)} from {since}; what lies between two is a break")
        found.append((since, items[0]))
    return found


def breaks(text: str) -> list[tuple[date, list[Span]]]:
    """From each date on, the breaks within a session; ``none`` is a list of none."""
    if text.strip() == "none":
        return [(ALWAYS, [])]
    found = []
    for since, items in _dated(text, lambda item: None if item == "none" else _span(item)):
        spans = sorted(span for span in items if span is not None)
        if len(spans) < len(items) and len(items) > 1:
            raise ValueError("`none` stands alone")
        if any(a == b for a, b in spans) or any(b > c for (_, b), (c, _) in pairwise(spans)):
            raise ValueError("breaks must last some time and not overlap")
        found.append((since, spans))
    return found


def daily_stamps(text: str) -> list[tuple[date, int | None]]:
    """From each date on, the minute of the settlement that completes a day's bar; None: the session's close does."""
    found = []
    for since, items in _dated(text, _stamp):
        if len(items) != 1:
            raise ValueError(f"one stamp a day, got {len(items)} from {since}")
        found.append((since, items[0]))
    return found


def written(check: Callable[[str], object]) -> Callable[[str], str]:
    """A validator that leaves the text as it is, for settings are stored as they were written; empty: not given."""

    def validate(text: str) -> str:
        if text:
            check(text)
        return text

    return validate


def _dated(text: str, read: Callable[[str], Item]) -> list[tuple[date, list[Item]]]:
    found: list[tuple[date, list[Item]]] = []
    for item in (piece.strip() for piece in text.split(",")):
        if match := re.match(r"(\d{4}-\d\d-\d\d)\s*:\s*(.*)", item):
            since = date.fromisoformat(match[1])
            if found and since <= found[-1][0]:
                raise ValueError(f"dates must ascend, but {since} follows {found[-1][0]}")
            found.append((since, [read(match[2])]))
        elif found:
            found[-1][1].append(read(item))
        else:
            found.append((ALWAYS, [read(item)]))
    return found


def _span(text: str) -> Span:
    match = re.fullmatch(r"(\d\d:\d\d)\s*-\s*(\d\d:\d\d)", text)
    if match is None:
        raise ValueError(f"`{text}` should be hours such as 09:00-17:30, or from a date on 2008-07-07: 09:00-17:30")
    return _minute(match[1]), _minute(match[2])


def _stamp(text: str) -> int | None:
    if text == "last":
        return None
    match = re.fullmatch(r"settlement (\d\d:\d\d)", text)
    if match is None:
        raise ValueError(f"`{text}` should be last, or settlement and its time, such as settlement 15:15")
    return _minute(match[1])


def _minute(text: str) -> int:
    hour, minute = int(text[:2]), int(text[3:])
    if minute > 59 or hour * 60 + minute > 24 * 60:
        raise ValueError(f"{text} is no time of day")
    return hour * 60 + minute
