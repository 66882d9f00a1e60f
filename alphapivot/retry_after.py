"""The Retry-After header of a "too many requests" response (RFC 9110, 10.2.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds(header: str | None, otherwise: float, now: datetime | None = None) -> float:
    """Seconds to wait, never below 0: the number in the header, or the time until its date; ``otherwise`` if it is
    missing or cannot be parsed."""
    text = (header or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return otherwise
    # a date in zone -0000 is parsed as naive, but is UTC
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((until - (now or datetime.now(UTC))).total_seconds(), 0.0)
