"""The delay that a rate-limited server requests."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from alphapivot import retry_after

NOW = datetime(1999, 12, 31, 23, 59, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", 120),
        (" 0.5 ", 0.5),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 59),  # the RFC's own example
        ("Fri, 31 Dec 1999 23:59:59 -0000", 59),
        ("Saturday, 01-Jan-00 00:00:10 GMT", 70),  # the two obsolete formats that it still allows
        ("Sat Jan  1 00:00:10 2000", 70),
        ("Fri, 31 Dec 1999 23:58:00 GMT", 0),  # already past
        (None, 7),
        ("", 7),
        ("soon", 7),
        ("-5", 7),
        ("nan", 7),
    ],
)
def test_seconds_or_a_date_say_how_long_and_what_cannot_be_read_says_nothing(header, wait):
    assert retry_after.seconds(header, 7, NOW) == wait
