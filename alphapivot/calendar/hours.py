"""
An instrument's trading hours as config.ini writes them; ``schedule`` applies them to a calendar.

    session = 09:00-17:30                               ; exchange time
    session = 08:30-15:15, 2008-07-07: 17:00-15:15      ; changed on a date; the second one opens the evening before
    breaks = 11:30-13:00, 15:00-15:15                   ; `none` also removes the calendar's breaks
    daily_stamp = last, 2015-01-01: settlement 15:15    ; when the daily bar is complete
    open = 2025-02-01 09:15-15:30, 2024-03-02 09:15-10:00 + 11:30-12:30     ; special sessions, with these hours
    closed = 2026-01-15                                 ; days without a session
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
    """A calendar of exchange_calendars and an instrument's changes to it; empty texts change nothing."""

    calendar: str
    session: str = ""
    breaks: str = ""
    daily_stamp: str = ""
    zone: str = ""  # of the times above; the calendar's zone when empty
    open: str = ""
    closed: str = ""
    name: str = ""  # of its [calendar.NAME]

    def __str__(self) -> str:
        """The calendar and the changes to it, for messages."""
        changes = [self.session, self.breaks and f"breaks {self.breaks}", self.daily_stamp, self.zone]
        calendar = self.name or self.calendar
        return f"{calendar} ({'; '.join(filter(None, changes))})" if any(changes) and not self.name else calendar


def sessions(text: str) -> list[tuple[date, Span]]:
    """(date, hours) of each change of session; one whose end is at or before its start opens the evening before."""
    periods = []
    for since, items in dated(text, _span):
        if len(items) != 1:
            raise ValueError(f"expected one session a day, got {len(items)} from {since}; write the gap as a break")
        periods.append((since, items[0]))
    return periods


def breaks(text: str) -> list[tuple[date, list[Span]]]:
    """(date, breaks within a session) of each change; ``none`` is an empty list."""
    if text.strip() == "none":
        return [(ALWAYS, [])]
    periods = []
    for since, items in dated(text, lambda item: None if item == "none" else _span(item)):
        spans = sorted(span for span in items if span is not None)
        if len(spans) < len(items) and len(items) > 1:
            raise ValueError("`none` cannot be combined with breaks")
        if any(a == b for a, b in spans) or any(b > c for (_, b), (c, _) in pairwise(spans)):
            raise ValueError("breaks must have a length and must not overlap")
        periods.append((since, spans))
    return periods


def daily_stamps(text: str) -> list[tuple[date, int | None]]:
    """(date, minute of the settlement that completes the daily bar) of each change; None: the session's close."""
    periods = []
    for since, items in dated(text, _stamp):
        if len(items) != 1:
            raise ValueError(f"expected one stamp a day, got {len(items)} from {since}")
        periods.append((since, items[0]))
    return periods


def special(text: str) -> dict[date, list[Span]]:
    """Date -> the open periods of a special session, which replaces the calendar's own one if there is one."""
    days: dict[date, list[Span]] = {}
    for item in (piece.strip() for piece in text.split(",")):
        match = re.fullmatch(r"(\d{4}-\d\d-\d\d)\s*:?\s*(.+)", item)
        if match is None:
            raise ValueError(f"`{item}` should be a date and its hours, such as 2025-02-01 09:15-15:30")
        spans = [_span(part.strip()) for part in match[2].split("+")]
        day = date.fromisoformat(match[1])
        if day in days:
            raise ValueError(f"{day} appears twice; join its hours with +, such as {day} 09:15-10:00 + 11:30-12:30")
        if any(a >= b for a, b in spans) or any(b > c for (_, b), (c, _) in pairwise(spans)):
            raise ValueError(f"the hours of {day} must ascend within the day")
        days[day] = spans
    return days


def dates(text: str) -> list[date]:
    """Dates, separated by commas."""
    return [date.fromisoformat(item.strip()) for item in text.split(",")]


def validator(check: Callable[[str], object]) -> Callable[[str], str]:
    """A validator that returns the text unchanged, since settings are stored as written; empty text is not checked."""

    def validate(text: str) -> str:
        if text:
            check(text)
        return text

    return validate


def dated(text: str, read: Callable[[str], Item]) -> list[tuple[date, list[Item]]]:
    """``A, 2008-07-07: B, C`` -> (date, items from it on), the first one ALWAYS if it has no date; dates ascend."""
    periods: list[tuple[date, list[Item]]] = []
    for item in (piece.strip() for piece in text.split(",")):
        if match := re.match(r"(\d{4}-\d\d-\d\d)\s*:\s*(.*)", item):
            since = date.fromisoformat(match[1])
            if periods and since <= periods[-1][0]:
                raise ValueError(f"dates must ascend, but {since} follows {periods[-1][0]}")
            periods.append((since, [read(match[2])]))
        elif periods:
            periods[-1][1].append(read(item))
        else:
            periods.append((ALWAYS, [read(item)]))
    return periods


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
        raise ValueError(f"`{text}` should be last, or settlement and a time, such as settlement 15:15")
    return _minute(match[1])


def _minute(text: str) -> int:
    hour, minute = int(text[:2]), int(text[3:])
    if minute > 59 or hour * 60 + minute > 24 * 60:
        raise ValueError(f"{text} is not a time of day")
    return hour * 60 + minute
