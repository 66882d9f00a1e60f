"""Arithmetic of splits and distributions on positions and protective prices: docs/execution.md, rule 10. Pure."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from alphapivot.brokers.base import Event, Leg, Side
from alphapivot.money import to_tick

EXACT = Decimal("1e-9")  # ratios are floats: 0.3333333333333333 of 30 shares is 10


def whole(qty: Decimal, value: Decimal, lot: Decimal) -> tuple[Decimal, Decimal]:
    """Returns (whole lots, the fraction paid out in cash) of the signed ``qty`` after a split."""
    exact = (abs(qty) * value).quantize(EXACT)
    kept = to_tick(exact, lot, ROUND_FLOOR)
    sign = -1 if qty < 0 else 1
    return sign * kept, sign * (exact - kept)


def after(event: Event, leg: Leg, side: Side, price: Decimal, tick: Decimal) -> Decimal:
    """A protective price after an event: in new shares, or less what each share gave away. A dividend moves none."""
    if event.kind == "split":
        return inward(leg, side, price / event.value, tick)
    if event.kind == "distribution":
        return max(inward(leg, side, price - event.value, tick), tick)
    return price


def inward(leg: Leg, side: Side, price: Decimal, tick: Decimal) -> Decimal:
    """
    A protective price on the tick, rounded towards the market, so that neither risk nor expected reward grows.

    ``side``: of the protective order.
    """
    up = (leg == "STOP") == (side == "SELL")
    return to_tick(price.quantize(EXACT), tick, ROUND_CEILING if up else ROUND_FLOOR)
