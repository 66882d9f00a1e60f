"""
Target positions with a buffer (Carver, Systematic Trading, 2015), with the formulas of pysystemtrade: pure and exact.

    average    target volatility x equity x weight x diversification / (annual volatility x unit value)
    forecast   10 x score / typical score, within -cap and cap
    target     average x forecast / 10
    band       target - buffer x average to target + buffer x average, its edges rounded to the lot; where a limit is
               below the average position, buffer x limit

Carver's daily cash volatility x 16 is the annual one, which is known here by the market's own bars a year. Nothing is
traded within the band, and from outside only to its nearer edge. Quantities are signed: shorts are negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from alphapivot.money import to_tick

AVERAGE = Decimal(10)  # the mean size of a forecast
PLACES = Decimal("0.01")
BPS = Decimal(10_000)


@dataclass(frozen=True)
class Band:
    """
    Where a position may stay: from ``low`` to ``high``, both whole lots. ``most``: its largest size, and ``capped_by``
    the limit that says so; None if no limit is below the target.
    """

    forecast: Decimal
    average: Decimal
    target: Decimal
    low: Decimal
    high: Decimal
    capped_by: str | None = None

    def nearest(self, qty: Decimal) -> Decimal:
        """``qty`` if it is within the band, otherwise the nearer edge."""
        return min(max(qty, self.low), self.high)

    def __str__(self) -> str:
        capped = "" if self.capped_by is None else f", capped by {self.capped_by}"
        return (
            f"{self.target.quantize(PLACES):f} (forecast {self.forecast.quantize(PLACES):f} of an average"
            f" {self.average.quantize(PLACES):f}{capped})"
        )


def forecast(score: float, typical: float, cap: Decimal) -> Decimal:
    """The score scaled so that an average one is 10, within -``cap`` and ``cap``."""
    # scores are stored as 4-byte floats: here the number that was rounded
    scaled = AVERAGE * Decimal(repr(round(score, 2))) / Decimal(repr(typical))
    return min(max(scaled, -cap), cap)


def average(
    equity: Decimal,
    *,
    target_volatility: Decimal,
    weight: Decimal,
    diversification: Decimal,
    volatility: Decimal,
    unit: Decimal,
) -> Decimal:
    """
    The position of an average forecast. ``volatility``: of the price, annual, in quoted units; ``unit``: book currency
    per one quoted unit of price and one of quantity.
    """
    return target_volatility * max(equity, Decimal(0)) * weight * diversification / (volatility * unit)


def cost(worth: Decimal, *, bps: Decimal, turnover: Decimal, volatility: Decimal) -> Decimal:
    """
    The expected cost of a year of trading as a share of the market's annual volatility: what its Sharpe ratio loses.
    ``worth``: ``Instrument.worth``; ``bps``: of the notional of each fill; ``turnover``: average positions bought and
    sold again in a year.
    """
    return 2 * turnover * worth * bps / BPS / volatility


def band(
    forecast_: Decimal, average_: Decimal, *, buffer: Decimal, lot: Decimal, most: tuple[str, Decimal] | None = None
) -> Band:
    """The band around a forecast's target. ``most``: the tightest limit on a position's size, and its quantity."""
    ideal = average_ * abs(forecast_) / AVERAGE
    capped = most is not None and most[1] < ideal
    target = most[1] if most is not None and capped else ideal
    # a share of the average position that the limit allows, else the band of a strongly capped market has 0 in it
    width = buffer * (average_ if most is None else min(average_, most[1]))
    # in the forecast's direction; the far side of a band around 0 has a limit too
    near, far = (to_tick(target + side * width, lot, ROUND_HALF_EVEN) for side in (-1, 1))
    if most is not None:
        largest = to_tick(most[1], lot, ROUND_FLOOR)
        near, far = max(min(near, largest), -largest), min(far, largest)
    sign = -1 if forecast_ < 0 else 1
    low, high = sorted((sign * near, sign * far))
    return Band(forecast_, average_, sign * target, low, high, most[0] if most is not None and capped else None)
