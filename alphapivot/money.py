"""Exact arithmetic of prices: Decimal, on the tick."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal


def to_tick(price: Decimal, tick: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """The multiple of ``tick`` that ``rounding`` leads to."""
    return (price / tick).to_integral_value(rounding) * tick
