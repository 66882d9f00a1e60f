"""
When a futures contract must be left: by rules or dates from config.ini, or as files of rolls say.

    last_trade = third friday                   ; a day without a session means the session before it
    last_trade = last session - 1               ; the session before the month's last
    first_notice = last session of month -1     ; of the month before the contract's own
    last_trade = day 25 - 3 of month -1

Sessions are the calendar's: where an exchange's rule counts a short holiday session as none, give dates instead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from alphapivot.calendar import schedule

if TYPE_CHECKING:
    from alphapivot.calendar.schedule import Calendar

ORDER = ("first", "second", "third", "fourth", "last")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
RULE = re.compile(
    rf"(?:(?P<nth>{'|'.join(ORDER)}) (?P<what>{'|'.join(WEEKDAYS)}|session)|day (?P<day>\d\d?))"
    r"(?: - (?P<back>\d+))?(?: of month -(?P<months>\d+))?"
)
NEVER = np.datetime64("NaT")


def rule(text: str) -> str:
    """``text`` if it is a rule; ValueError with an example otherwise."""
    found = RULE.fullmatch(text)
    if found is None or (found["day"] is not None and not 1 <= int(found["day"]) <= 31):
        raise ValueError("should be a rule such as third friday, last session - 1, or day 25 - 3 of month -1")
    return text


def roll_file(text: str) -> tuple[str, str, str]:
    """``prices.csv: DATETIME + CONTRACT`` -> the file, its column of stamps, its column of contracts."""
    found = re.fullmatch(r"(.+?)\s*:\s*([^:+]+?)\s*\+\s*([^:+]+?)", text)
    if found is None:
        raise ValueError("should be a file and two of its columns, such as rolls.csv: DATE_TIME + next_contract")
    return found[1], found[2], found[3]


def day(text: str, month: int, calendar: Calendar) -> np.datetime64:
    """
    The session that a rule names for a contract's ``month`` (12 * year + month - 1), as its date.

    NaT where the calendar does not reach.
    """
    found = RULE.fullmatch(rule(text))
    assert found is not None  # noqa: S101 - rule() has seen to it
    labels = schedule.of(calendar).labels.astype("datetime64[D]")
    begins = np.datetime64(month - 1970 * 12 - int(found["months"] or 0), "M")
    first, following = begins.astype("datetime64[D]"), (begins + 1).astype("datetime64[D]")
    if labels[0] > first or labels[-1] < following:
        return NEVER
    if found["what"] == "session":
        low, high = np.searchsorted(labels, [first, following])
        at = high - 1 if found["nth"] == "last" else low + ORDER.index(found["nth"])
    else:
        at = np.searchsorted(labels, _date(found, first, following), "right") - 1
    return labels[at - int(found["back"] or 0)]  # type: ignore[no-any-return]


def _date(found: re.Match[str], first: np.datetime64, following: np.datetime64) -> np.datetime64:
    if found["day"] is not None:
        return min(first + int(found["day"]) - 1, following - 1)
    mask = found["what"][:3].capitalize()
    if found["nth"] == "last":
        return np.busday_offset(following, -1, roll="forward", weekmask=mask)
    return np.busday_offset(first, ORDER.index(found["nth"]), roll="forward", weekmask=mask)
