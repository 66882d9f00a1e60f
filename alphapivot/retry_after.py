"""The header Retry-After of an answer that says "too many requests" (RFC 9110, 10.2.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds(header: str | None, otherwise: float, now: datetime | None = None) -> float:
    """How long to wait: as many seconds as it says, or until the date that it names; ``otherwise`` if it says nothing
    that can be read. Never below 0."""
    text = (header or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return otherwise
    # a date in -0000 comes without a zone: it is UTC all the same
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((until - (now or datetime.now(UTC))).total_seconds(), 0.0)
