"""Exact price arithmetic: Decimal, on the tick."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal


def to_tick(price: Decimal, tick: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """``price`` rounded to a multiple of ``tick`` in the direction of ``rounding``."""
    return (price / tick).to_integral_value(rounding) * tick
