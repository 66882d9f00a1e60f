"""Reversion: is the price far from where it usually is, and has it come back before?"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from pillars.base import Column, Features, Panel, Parts, Pillar
from pillars.indicators import atr, ramp
from pillars.kit.compiled import compiled


class Reversion(Pillar):
    """
    Is the price far from where it usually is, and has it come back before? Made for spreads: `legs` in docs/data.md.
    Two parts of 50 points each, over ``length`` and over twice as many bars:

    - *distance*: minus the close's distance from the mean of the closes before it, in their deviations, in full from
      ``full`` on (Gatev, Goetzmann and Rouwenhorst, Pairs trading, 2006, who open at 2), times *pull*, which grows from
      0 to 1 as Dickey and Fuller's t (1979) of the same closes falls from ``weak`` to ``strong``: the slope of a
      close's next change on the close, over its error. -1.5 is what a random walk shows on average, -2.9 what one in
      twenty of them falls below. Only a price that is drawn to its mean has one to come back to (Avellaneda and Lee,
      Statistical arbitrage in the US equities market, 2010, trade only what returns fast).

    Closes only. Unknown (null) until the longest window is full and again after a gap in the closes; 0 where the price
    has not moved. Only differences of prices are used: adjusted, zero and negative ones work, and a mirrored path
    mirrors the score.
    """

    name: ClassVar[str] = "reversion"

    length: int = Field(120, ge=20, le=1000, description="closes behind the first distance, bars; the second: twice")
    full: float = Field(2, gt=0, le=20, description="distance that counts in full, deviations")
    weak: float = Field(-1.5, ge=-20, le=20, description="Dickey-Fuller t from which the price is not drawn back")
    strong: float = Field(-2.9, ge=-20, le=20, description="Dickey-Fuller t from which it is in full")
    atr: int = Field(14, gt=1, le=200, description="Wilder's period of the ATR, a feature for rules, bars")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.strong < self.weak:
            raise ValueError(f"strong < weak expected, got {self.strong:g}, {self.weak:g}")
        return self

    @property
    def history(self) -> int:
        return max(2 * self.length, 20 * self.atr)

    def parts(self, bars: Panel) -> Parts:
        fast, slow = (bars.each(_drawn, bars.close, n=n) for n in (self.length, 2 * self.length))
        return Parts(
            parts={"distance": 50 * self._score(*fast), "distance_slow": 50 * self._score(*slow)},
            features=Features(
                {
                    "close": bars.close,
                    "distance": fast[0],
                    "distance_slow": slow[0],
                    "drawn": fast[1],
                    "drawn_slow": slow[1],
                    "atr": lambda: atr(bars, self.atr),
                }
            ),
        )

    def _score(self, distance: Column, drawn: Column) -> Column:
        pull = np.clip((self.weak - drawn) / (self.weak - self.strong), 0.0, 1.0)
        return -ramp(distance, self.full, np.zeros(len(distance), np.bool_)) * pull


def _drawn(close: Column, n: int) -> Any:
    """(distance, Dickey-Fuller t) of each close and the n before it; 0 where those do not move."""
    return compiled(_loop)(close, n)


def _loop(close: Column, n: int) -> tuple[Column, Column]:
    count = len(close)
    distance, drawn = np.full(count, np.nan), np.full(count, np.nan)
    for i in range(n, count):
        # sums about the window's own means, afresh: running sums would lose a small spread at a high price
        mean = 0.0
        for k in range(i - n, i):
            mean += (close[k] - close[i]) / n
        step = (close[i] - close[i - n]) / n  # mean change
        level, moved, both = 0.0, 0.0, 0.0
        for k in range(i - n, i):
            x, y = close[k] - close[i] - mean, close[k + 1] - close[k] - step
            level, moved, both = level + x * x, moved + y * y, both + x * y
        if level <= 0.0:  # nowhere to come back from: the close before, too, was where all were
            distance[i], drawn[i] = 0.0, 0.0
            continue
        distance[i] = -mean / np.sqrt(level / n)
        slope = both / level
        rest = max(moved - slope * both, 1e-12 * moved)  # a perfect fit leaves rounding
        drawn[i] = slope / np.sqrt(rest / (n - 2) / level) if rest > 0.0 else 0.0
    return distance, drawn
