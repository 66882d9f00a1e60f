"""
Expiry rules of futures contracts, as config.ini writes them.

    last_trade = third friday                   ; without a session on that day, the session before it
    last_trade = last session - 1               ; the session before the month's last
    first_notice = last session of month -1     ; of the month before the contract month
    last_trade = day 25 - 3 of month -1
    last_trade = last thursday, 2025-09-01: last tuesday    ; changed for the contracts of that month and later ones

Sessions are the calendar's: where an exchange's rule does not count a short holiday session, give dates instead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from alphapivot.calendar import hours, schedule

if TYPE_CHECKING:
    from datetime import date

    from alphapivot.calendar.schedule import Calendar

ORDER = ("first", "second", "third", "fourth", "last")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
RULE = re.compile(
    rf"(?:(?P<nth>{'|'.join(ORDER)}) (?P<unit>{'|'.join(WEEKDAYS)}|session)|day (?P<day>\d\d?))"
    r"(?: - (?P<back>\d+))?(?: of month -(?P<months>\d+))?"
)
NEVER = np.datetime64("NaT")


def rule(text: str) -> str:
    """``text`` if it is a rule, or rules by date; ValueError with an example otherwise."""
    _rules(text)
    return text


def _rules(text: str) -> list[tuple[date, re.Match[str]]]:
    periods = []
    for since, rules in hours.dated(text, _match):
        if len(rules) != 1:
            raise ValueError(f"expected one rule a date, got {len(rules)} from {since}")
        periods.append((since, rules[0]))
    if periods[0][0] != hours.ALWAYS:
        raise ValueError(f"the first rule has a date, {periods[0][0]}: begin with the rule before it")
    return periods


def _match(text: str) -> re.Match[str]:
    match = RULE.fullmatch(text)
    if match is None or (match["day"] is not None and not 1 <= int(match["day"]) <= 31):
        raise ValueError("should be a rule such as third friday, last session - 1, or day 25 - 3 of month -1")
    return match


def roll_file(text: str) -> tuple[str, str, str]:
    """``prices.csv: DATETIME + CONTRACT`` -> (file, timestamp column, contract column)."""
    match = re.fullmatch(r"(.+?)\s*:\s*([^:+]+?)\s*\+\s*([^:+]+?)", text)
    if match is None:
        raise ValueError("should be a file and two of its columns, such as rolls.csv: DATE_TIME + next_contract")
    return match[1], match[2], match[3]


def day(text: str, month: int, calendar: Calendar) -> np.datetime64:
    """
    The date of the session that a rule names for a contract ``month`` (12 * year + month - 1).

    NaT beyond the ends of the calendar.
    """
    match = [m for since, m in _rules(text) if since.year * 12 + since.month - 1 <= month or since == hours.ALWAYS][-1]
    labels = schedule.of(calendar).labels.astype("datetime64[D]")
    begins = np.datetime64(month - 1970 * 12 - int(match["months"] or 0), "M")
    first, following = begins.astype("datetime64[D]"), (begins + 1).astype("datetime64[D]")
    if labels[0] > first or labels[-1] < following:
        return NEVER
    if match["unit"] == "session":
        low, high = np.searchsorted(labels, [first, following])
        at = high - 1 if match["nth"] == "last" else low + ORDER.index(match["nth"])
    else:
        at = np.searchsorted(labels, _date(match, first, following), "right") - 1
    return labels[at - int(match["back"] or 0)]  # type: ignore[no-any-return]


def _date(match: re.Match[str], first: np.datetime64, following: np.datetime64) -> np.datetime64:
    if match["day"] is not None:
        return min(first + int(match["day"]) - 1, following - 1)
    mask = match["unit"][:3].capitalize()
    if match["nth"] == "last":
        return np.busday_offset(following, -1, roll="forward", weekmask=mask)
    return np.busday_offset(first, ORDER.index(match["nth"]), roll="forward", weekmask=mask)
