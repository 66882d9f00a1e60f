"""
The membership file of [universe]: which symbols belonged to a universe, and when.

    symbol,from,until
    SIVB,2018-03-19,2023-03-14
    UBER,2023-12-18,
"""

from __future__ import annotations

import csv
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = ["symbol", "from", "until"]
Spans = dict[str, dict[str, str]]  # symbol -> first day -> last day, empty while it belongs


def read(path: Path) -> tuple[Spans, list[str]]:
    """The spans of each symbol, and the mistakes of the file."""
    spans: Spans = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        return {}, [f"[universe] members = {path}: cannot be read: {reason}"]
    if not rows or rows[0] != COLUMNS:
        got = ",".join(rows[0]) if rows else "an empty file"
        return {}, [f"[universe] members: {path.name} line 1: expected {','.join(COLUMNS)}, got {got}"]
    mistakes = []
    for number, row in enumerate(rows[1:], 2):
        if not any(row):
            continue
        if reason := _add(spans, row):
            mistakes.append(f"[universe] members: {path.name} line {number}: {reason}")
    return spans, mistakes


def _add(spans: Spans, row: list[str]) -> str:
    """Adds a row to ``spans``, or returns what is wrong with it."""
    if len(row) != len(COLUMNS):
        return f"expected {len(COLUMNS)} cells, got {len(row)}"
    symbol, since, until = row
    try:
        first, last = date.fromisoformat(since), _day(until)
    except ValueError:
        return f"expected dates such as 2023-03-14, got {since} and {until}"
    if last < first:
        return f"until {until} is before from {since}"
    earlier = spans.setdefault(symbol, {})
    if any(first <= _day(end) and date.fromisoformat(begin) <= last for begin, end in earlier.items()):
        return f"{symbol} belongs to it already then"
    earlier[since] = until
    return ""


def _day(text: str) -> date:
    return date.fromisoformat(text) if text else date.max
