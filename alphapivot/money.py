"""Exact price arithmetic: Decimal, on the tick; and prices as people read them."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

NOISE = Decimal("1e-12")  # share of a price that may be noise of floats; the screening kernel's too


def to_tick(price: Decimal, tick: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """``price`` rounded to a multiple of ``tick`` in the direction of ``rounding``."""
    return (price / tick).to_integral_value(rounding) * tick


def to_level(price: Decimal, tick: Decimal, rounding: str) -> Decimal:
    """
    ``to_tick`` of a price that rests on floats, such as an ATR: one that is a multiple but for their noise is that one.
    """
    steps = price / tick
    nearest = steps.to_integral_value(ROUND_HALF_EVEN)
    if abs(steps - nearest) > NOISE * max(Decimal(1), abs(steps)):
        return to_tick(price, tick, rounding)
    return nearest * tick


def price_text(price: Decimal | float, tick: Decimal | None = None) -> str:
    """
    A price as text: to the decimals of its tick (4 if it is unknown), and never to less than 6 significant digits. No
    trailing zeros, no exponent.
    """
    value = Decimal(str(price))
    return f"{round(value, decimals(value, tick)).normalize() if value.is_finite() else value:f}"


def decimals(price: Decimal | float, tick: Decimal | None = None) -> int:
    """The decimals to which ``price_text`` shows a price."""
    fixed = 4 if tick is None else -int(tick.normalize().as_tuple().exponent)
    return max(fixed, 5 - Decimal(str(price)).adjusted(), 0)
