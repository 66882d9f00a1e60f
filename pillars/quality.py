"""Quality: are this market and its data fit to trade?"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from pillars.base import Features, Panel, Parts, Pillar
from pillars.indicators import before, change, deviation, extremes, gate, grade, share, total


class Quality(Pillar):
    """
    Are this market and its data fit to trade? A gate from 0 (closed) to 1 (open) and no direction, which knows nothing
    of how strong a trend is; the product, over four measures of ``window`` bars from 0 to 1, of
    1 - strength x (1 - measure):

    - *idle*: the share of bars whose close did not change (Lesmond, Ogden and Trzcinka's zero-return measure of
      illiquidity, 1999): 1 at ``idle_good`` and less, 0 at ``idle_bad``. Prices that nobody trades cannot be had.
    - *wicks*: the share of the bars' ranges outside open and close, sum of wicks over sum of ranges: 1 at
      ``wicks_good`` and less, 0 at ``wicks_bad``.
    - *gaps*: the root mean square of the steps from close to next open, over that of the changes from close to close: 1
      at ``gaps_good`` and less, 0 at ``gaps_bad``. Prices that gap through stops cannot be managed.
    - *volume*: the standard deviation of the volume over its mean (the coefficient of variation): 1 at ``volume_good``
      and less, 0 at ``volume_bad``.

    Unknown measures do not count: wicks and gaps of a close-only series, volume that is missing or all zero. Null until
    ``window`` bars are known. Only ratios of differences are used: adjusted and negative prices work, and a mirrored
    path has the same gate.
    """

    name: ClassVar[str] = "quality"
    directional: ClassVar[bool] = False
    gating: ClassVar[bool] = True

    window: int = Field(40, gt=1, le=1000, description="window of all measures, bars")
    idle_good: float = Field(0.1, ge=0, le=1, description="harmless share of bars without a change")
    idle_bad: float = Field(0.5, ge=0, le=1, description="share of bars without a change that makes signals useless")
    wicks_good: float = Field(0.6, ge=0, le=1, description="harmless wicks, share of the ranges")
    wicks_bad: float = Field(0.9, ge=0, le=1, description="wicks that make signals useless, share of the ranges")
    gaps_good: float = Field(0.7, ge=0, le=5, description="harmless gaps, in deviations of the changes")
    gaps_bad: float = Field(1.4, ge=0, le=5, description="gaps that make signals useless, in deviations of the changes")
    volume_good: float = Field(1, ge=0, le=10, description="harmless variation of volume, over its mean")
    volume_bad: float = Field(
        3, ge=0, le=10, description="variation of volume that makes signals useless, over its mean"
    )
    idle_strength: float = Field(1, ge=0, le=1, description="how far bars without a change alone can close the gate")
    wicks_strength: float = Field(0.4, ge=0, le=1, description="how far wicks alone can close the gate")
    gaps_strength: float = Field(0.4, ge=0, le=1, description="how far gaps alone can close the gate")
    volume_strength: float = Field(0.4, ge=0, le=1, description="how far unsteady volume alone can close the gate")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("idle", "wicks", "gaps", "volume"):
            good, bad = getattr(self, f"{name}_good"), getattr(self, f"{name}_bad")
            if not good < bad:
                raise ValueError(f"{name}_good < {name}_bad expected, got {good}, {bad}")
        return self

    @property
    def history(self) -> int:
        return self.window + 1

    def parts(self, bars: Panel) -> Parts:
        high, low = extremes(bars)
        step = change(bars, bars.close)
        idle = total(bars, np.where(np.isnan(step), np.nan, step == 0), self.window) / self.window
        range_ = high - low
        wicks = share(
            total(bars, range_ - np.abs(bars.close - bars.open), self.window), total(bars, range_, self.window)
        )
        gap = bars.open - before(bars, bars.close)
        gaps = share(deviation(bars, gap, self.window), deviation(bars, step, self.window))
        mean = total(bars, bars.volume, self.window) / self.window
        square = total(bars, bars.volume * bars.volume, self.window) / self.window
        variation = share(np.sqrt(np.maximum(square - mean * mean, 0.0)), mean)
        measures = (
            (self.idle_strength, grade(idle, self.idle_bad, self.idle_good)),
            (self.wicks_strength, grade(wicks, self.wicks_bad, self.wicks_good)),
            (self.gaps_strength, grade(gaps, self.gaps_bad, self.gaps_good)),
            (self.volume_strength, grade(variation, self.volume_bad, self.volume_good)),
        )
        return Parts(
            gate=np.where(np.isnan(idle), np.nan, gate(measures)),
            features=Features(
                {
                    "open": bars.open,
                    "high": high,
                    "low": low,
                    "close": bars.close,
                    "volume": bars.volume,
                    "idle": idle,
                    "wicks": wicks,
                    "gaps": gaps,
                    "volume_variation": variation,
                }
            ),
        )
