"""What a split or a dividend makes of a position and of the orders that protect it. Pure; rule 10."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from alphapivot.brokers.base import Leg, Side
from alphapivot.money import to_tick

EXACT = Decimal("1e-9")  # ratios come as floats: 0.3333333333333333 of 30 shares is 10


def whole(qty: Decimal, value: Decimal, lot: Decimal) -> tuple[Decimal, Decimal]:
    """(whole lots, the fraction that is paid out) that a split makes of ``qty``, which may be short."""
    exact = (abs(qty) * value).quantize(EXACT)
    kept = to_tick(exact, lot, ROUND_FLOOR)
    sign = -1 if qty < 0 else 1
    return sign * kept, sign * (exact - kept)


def inward(leg: Leg, out: Side, price: Decimal, tick: Decimal) -> Decimal:
    """
    A protective price on the tick, rounded towards the market, so that neither risk nor hoped-for reward grows.

    ``out``: the side of the protective order.
    """
    up = (leg == "STOP") == (out == "SELL")
    return to_tick(price.quantize(EXACT), tick, ROUND_CEILING if up else ROUND_FLOOR)
