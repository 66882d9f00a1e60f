"""Prices as text: what a trader reads is what was traded."""

from __future__ import annotations

from decimal import Decimal

import pytest

from alphapivot.money import price_text


@pytest.mark.parametrize(
    ("price", "tick", "text"),
    [
        (0.00001234, None, "0.00001234"),
        (Decimal("0.00001234"), Decimal("0.00000001"), "0.00001234"),
        (Decimal("0.000012345678"), None, "0.0000123457"),
        (Decimal("0.123456789"), Decimal("0.00000001"), "0.12345679"),
        (Decimal("45123.253333333333"), Decimal("0.25"), "45123.25"),
        (Decimal("45123.25"), None, "45123.25"),
        (Decimal("4321.03125"), Decimal("0.03125"), "4321.03125"),
        (Decimal("100.333333333333"), Decimal("0.01"), "100.333"),
        (Decimal("1234567.89"), Decimal(1), "1234568"),
        (Decimal("0.0123"), Decimal("0.01"), "0.0123"),  # the tick is wrong: it hides nothing
        (Decimal("100.5000"), Decimal("0.01"), "100.5"),
        (Decimal("-37.63"), Decimal("0.01"), "-37.63"),
        (Decimal("1E+7"), None, "10000000"),
        (Decimal("0.00"), Decimal("0.01"), "0"),
    ],
)
def test_a_price_is_shown_to_its_tick_and_never_to_less_than_six_digits(price, tick, text):
    assert price_text(price, tick) == text
