"""How far before a cut scores are compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from alphapivot.research.backtest import cuts

MONDAY = datetime(2025, 6, 23, 20, tzinfo=UTC)  # the close in New York


@pytest.mark.parametrize(
    ("interval", "calendar", "cut", "after"),
    [
        ("1m", "24/7", MONDAY, MONDAY - timedelta(minutes=5)),
        ("1h", "24/7", MONDAY, MONDAY - timedelta(hours=5)),
        # Thursday the 19th is a holiday: 23, 20, 18, 17 and 16 are compared
        ("1d", "XNYS", MONDAY, datetime(2025, 6, 14, 20, tzinfo=UTC)),
        ("1m", "XNYS", MONDAY.replace(hour=13, minute=32), datetime(2025, 6, 20, 19, 57, tzinfo=UTC)),
    ],
)
def test_the_last_five_bars_of_a_market_are_compared_whenever_they_ended(interval, calendar, cut, after):
    assert cuts.since(cut, interval, calendar) == after


def test_what_is_common_to_several_markets_is_compared_over_days():
    assert cuts.since(MONDAY, "1m") == MONDAY - timedelta(days=4, minutes=5)
