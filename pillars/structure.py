"""Structure: the shape of the market's moves, and the map of its past levels."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from pillars.base import Column, Features, Panel, Parts, Pillar
from pillars.indicators import atr, before, change, deviation, extremes, mean, ramp, ratio
from pillars.kit import levels


class Structure(Pillar):
    """
    The shape of the market's moves: a market that rises in small steps and falls in large ones pays for that risk. Two
    parts of 50 points each, over ``window`` and over twice as many bars:

    - *asymmetry*: minus the skewness of the one-bar changes, in full from ``full`` on (Fernandez-Perez, Frijns, Fuertes
      and Miffre, The skewness of commodity futures returns, 2018; Carver, Advanced Futures Trading Strategies, 2023,
      strategy 24). Changes are in deviations of the ``volatility`` ones before them and cut at ``cut``: a third moment
      would otherwise be that of one bar.

    Past levels are a map for rules: the last confirmed swing highs and lows (a high above the ``swing`` highs before it
    and not below the ``swing`` after it, Williams' fractal; known once those are complete, forgotten when ``memory``
    bars old), the nearest above and below, the volume profile of ``profile`` bars with point of control and value area
    (Steidlmayer, CBOT Market Profile, 1984; of time without volume), and breakouts that hold for ``hold`` bars or fail
    within ``fail``. They do not score: docs/pillars.md says what was looked at.

    Closes only. Unknown (null) until the longest window is full and again after a gap in the closes; 0 where the price
    has not moved for ``volatility`` bars. Only differences of prices are used: adjusted and negative ones work, and a
    mirrored path mirrors the score.
    """

    name: ClassVar[str] = "structure"

    window: int = Field(180, ge=20, le=1000, description="changes behind the first skewness, bars; the second: twice")
    volatility: int = Field(40, gt=1, le=1000, description="one-bar changes that scale each change, bars before it")
    cut: float = Field(6, gt=1, le=100, description="largest change that counts, deviations")
    full: float = Field(1, gt=0, le=20, description="skewness that counts in full")
    swing: int = Field(3, ge=1, le=50, description="bars on each side of a swing point, and until it is confirmed")
    memory: int = Field(120, ge=10, le=2000, description="a swing point is forgotten after so many bars")
    profile: int = Field(60, ge=5, le=1000, description="volume profile, bars")
    bins: int = Field(30, ge=5, le=200, description="prices in the volume profile")
    value_share: float = Field(0.7, gt=0, lt=1, description="volume within the value area, as a share")
    hold: int = Field(10, ge=1, le=200, description="a breakout counts for so many bars")
    fail: int = Field(5, ge=1, le=100, description="a close back within so many bars is a failed breakout")
    atr: int = Field(14, gt=1, le=200, description="Wilder's period of the ATR, a feature for rules, bars")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.memory <= 2 * self.swing:
            raise ValueError(f"memory > 2 x swing expected, got {self.memory} and {self.swing}")
        return self

    @property
    def history(self) -> int:
        remembered = self.memory + self.swing + self.hold + self.fail + 2
        return max(2 * self.window + self.volatility + 2, remembered, self.profile, 20 * self.atr)

    def parts(self, bars: Panel) -> Parts:
        step = change(bars, bars.close)
        usual = deviation(bars, step, self.volatility)
        quiet = np.where(np.isnan(usual), np.nan, usual == 0)
        moved = np.clip(ratio(step, before(bars, usual)), -self.cut, self.cut)
        high, low = extremes(bars)
        close = bars.close
        profile, swings = ("poc", "value_low", "value_high"), ("swing_high", "swing_low", "resistance", "support")
        return Parts(
            parts={
                name: -50 * np.where(quiet == 1, 0.0, ramp(_skewness(bars, moved, n), self.full, quiet == 1))
                for name, n in (("asymmetry", self.window), ("asymmetry_slow", 2 * self.window))
            },
            features=Features(
                {
                    "open": bars.open,
                    "high": high,
                    "low": low,
                    "close": close,
                    swings: lambda: tuple(self._swings(bars, high, low)[i] for i in (0, 2, 4, 5)),
                    profile: lambda: self._profile(bars, high, low),
                    ("breakout", "breakout_age"): lambda: self._breakouts(bars, high, low),
                    "atr": lambda: atr(bars, self.atr),
                }
            ),
        )

    def _swings(self, bars: Panel, high: Column, low: Column) -> Any:
        return bars.each(levels.swings, high, low, bars.close, span=self.swing, memory=self.memory)

    def _profile(self, bars: Panel, high: Column, low: Column) -> tuple[Column, ...]:
        """The profile by volume, or by time where volume is unknown."""
        size = {"window": self.profile, "bins": self.bins, "share": self.value_share}
        traded = bars.each(levels.profile, high, low, bars.volume, bars.wanted, **size)
        if not (np.isnan(traded[0]) & (bars.wanted == 1)).any():
            return tuple(traded)
        time = np.where(np.isnan(bars.close), np.nan, 1.0)
        timed = bars.each(levels.profile, high, low, time, bars.wanted, **size)
        return tuple(np.where(np.isnan(a), b, a) for a, b in zip(traded, timed, strict=True))

    def _breakouts(self, bars: Panel, high: Column, low: Column) -> Any:
        top, _, bottom, *_ = self._swings(bars, high, low)
        # an unknown swing is a level that cannot be broken, not a gap
        nowhere = np.finfo(np.float64).max
        ceiling, floor = np.where(np.isnan(top), nowhere, top), np.where(np.isnan(bottom), -nowhere, bottom)
        return bars.each(levels.breakouts, bars.close, ceiling, floor, hold=self.hold, fail=self.fail)


def _skewness(bars: Panel, values: Column, n: int) -> Column:
    """The third central moment over the cube of the deviation, of the last n values; 0 where they are all equal."""
    middle = mean(bars, values, n)
    square, cube = mean(bars, values**2, n), mean(bars, values**3, n)
    variance = square - middle**2
    variance = np.where(variance < 1e-12, 0.0 * variance, variance)  # below it there is only rounding
    return ratio(cube - 3 * middle * square + 2 * middle**3, variance * np.sqrt(np.abs(variance)))
