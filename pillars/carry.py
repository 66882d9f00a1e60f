"""Carry: what a position earns if the price stands still."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from pillars.base import Column, Features, Panel, Parts, Pillar
from pillars.indicators import change, deviation, ratio, share, total

INPUTS = ("spot_close", "futures_close", "other_close", "other_months", "front_months")
YEAR = 365.25 * 86_400_000_000  # microseconds


class Carry(Pillar):
    """
    What a position earns if the price stands still: long what is cheaper for later delivery, short what is dearer
    (Koijen, Moskowitz, Pedersen and Vrugt, Carry, 2018; Carver, Systematic Trading, 2015, appendix B). One view, by the
    better of two sources:

    - *roll_yield*: (front - other) / years between their deliveries, traded closes of two contracts at one instant;
      the other is the contract nearest to the front one that traded.
    - *basis*, where there is no second contract: (spot - front) / years to the front's delivery, at least ``nearest``
      months of it: in the last days before delivery a tick becomes a large yield.

    The yield is in annual deviations of the price (the root mean square of ``volatility`` changes, times the root of
    the bars a year at their pace); the mean of ``smooth`` bars, of which at least half are known, counts in full from
    ``full`` on. Unknown (null) for a market without dated contracts: list carry in [composite] optional, so that the
    other pillars decide there. 0 where the price has not moved for ``volatility`` bars. The carry of seasonal goods
    swings with the season; ``smooth`` does not remove that.
    """

    name: ClassVar[str] = "carry"
    inputs: ClassVar[tuple[str, ...]] = INPUTS

    smooth: int = Field(90, ge=2, le=1000, description="mean of the yield, bars")
    volatility: int = Field(40, gt=1, le=1000, description="one-bar changes that scale the yield")
    full: float = Field(1, gt=0, le=20, description="yield that counts in full, annual deviations of the price")
    nearest: float = Field(0.5, gt=0, le=12, description="least time to delivery for a basis, months")

    @property
    def history(self) -> int:
        return self.smooth + self.volatility + 1

    def parts(self, bars: Panel) -> Parts:
        front, other, spot = (bars.other(name) for name in ("futures_close", "other_close", "spot_close"))
        away, left = bars.other("other_months") / 12, bars.other("front_months") / 12
        roll = (front - other) / np.where(away == 0, np.nan, away)
        basis = (spot - front) / np.where(left < self.nearest / 12, np.nan, left)
        earned = np.where(np.isnan(roll), basis, roll)

        annual = self._annual_deviation(bars)
        scaled = ratio(earned + 0 * annual, annual)
        known, by_roll = (total(bars, (~np.isnan(y + annual)).astype(float), self.smooth) for y in (earned, roll))
        smoothed = share(total(bars, np.nan_to_num(scaled), self.smooth), known)
        smoothed = np.where(known < self.smooth / 2, np.nan, np.where(annual == 0, 0.0, smoothed))
        score = 100 * np.clip(smoothed / self.full, -1.0, 1.0)
        return Parts(
            parts={"roll_yield": score * share(by_roll, known), "basis": score * (1 - share(by_roll, known))},
            features=Features(
                {
                    "close": bars.close,
                    "earned": earned,
                    "annual_yield": smoothed,
                    "premium": lambda: np.where(spot > 0, share(front, spot) - 1, np.nan),
                }
            ),
        )

    def _annual_deviation(self, bars: Panel) -> Column:
        """Of the price: one-bar changes, and the bars a year at the pace of the last ``volatility`` bars."""
        usual = deviation(bars, change(bars, bars.close), self.volatility)
        years = change(bars, bars.ts.astype(np.int64) / YEAR, self.volatility)
        return usual * np.sqrt(share(np.full(len(years), float(self.volatility)), years))
