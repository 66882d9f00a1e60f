"""Trend: which way the market goes, and how strongly."""

from __future__ import annotations

from typing import ClassVar, Self

import talib
from pydantic import Field, model_validator

from pillars.base import Panel, Parts, Pillar
from pillars.indicators import atr, extremes, ramp, still


class Trend(Pillar):
    """
    Which way the market goes, and how strongly. Four parts, each at most its weight in points; the weights sum to 100:

    - *stack*: the order of three exponential means. Half for fast - mid, half for mid - slow, each in full from
      ``stack_full`` ATR on (the moving-average crossover, graded instead of a sign).
    - *strength*: (+DI - -DI) in full from ``di_full`` points on, times ADX in full from ``adx_full`` on
      (Wilder, New Concepts in Technical Trading Systems, 1978).
    - *breakout*: the position of the close in its Donchian channel, 2 (close - lowest) / (highest - lowest) - 1, the
      bar itself included (Donchian's four-week rule).
    - *distance*: close - slow mean in ATR, in full from ``distance_full`` on.

    Uses prices only; in a close-only series high and low are the close. Unknown (null) until the longest window is full
    and again after a gap in the closes; 0 where the price has not moved for ``channel`` bars. Only differences and
    their ratios are used: adjusted and negative prices work, and a mirrored path mirrors the score.
    """

    name: ClassVar[str] = "trend"

    fast: int = Field(10, gt=1, le=1000, description="fast EMA, bars")
    mid: int = Field(20, gt=1, le=1000, description="middle EMA, bars")
    slow: int = Field(50, gt=1, le=1000, description="slow EMA, bars")
    adx: int = Field(14, gt=1, le=200, description="Wilder's period of DI and ADX, bars")
    channel: int = Field(20, gt=1, le=1000, description="Donchian channel, bars")
    atr: int = Field(14, gt=1, le=200, description="Wilder's period of the ATR, bars")
    stack_full: float = Field(0.5, gt=0, le=20, description="gap between two means that counts in full, ATR")
    di_full: float = Field(20, gt=0, le=100, description="difference of the DIs that counts in full, points")
    adx_full: float = Field(30, gt=0, le=100, description="ADX that counts in full, points")
    distance_full: float = Field(4, gt=0, le=50, description="distance from the slow mean that counts in full, ATR")
    stack_weight: float = Field(30, ge=0, le=100, description="points of the EMA stack")
    strength_weight: float = Field(25, ge=0, le=100, description="points of ADX and DI")
    breakout_weight: float = Field(25, ge=0, le=100, description="points of the position in the channel")
    distance_weight: float = Field(20, ge=0, le=100, description="points of the distance from the slow mean")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.fast < self.mid < self.slow:
            raise ValueError(f"fast < mid < slow expected, got {self.fast}, {self.mid}, {self.slow}")
        total = self.stack_weight + self.strength_weight + self.breakout_weight + self.distance_weight
        if abs(total - 100) > 1e-9:
            raise ValueError(f"the weights of the parts must sum to 100, they sum to {total:g}")
        return self

    @property
    def history(self) -> int:
        return max(11 * self.slow, 25 * self.adx, 20 * self.atr, self.channel + 1)

    def parts(self, bars: Panel) -> Parts:
        high, low = extremes(bars)
        fast, mid, slow = (bars.each(talib.EMA, bars.close, timeperiod=n) for n in (self.fast, self.mid, self.slow))
        plus, minus, adx = (
            bars.each(f, high, low, bars.close, timeperiod=self.adx) for f in (talib.PLUS_DI, talib.MINUS_DI, talib.ADX)
        )
        top = bars.each(talib.MAX, high, timeperiod=self.channel)
        bottom = bars.each(talib.MIN, low, timeperiod=self.channel)
        quiet, range_, close = still(bars, self.channel), atr(bars, self.atr), bars.close
        stack = ramp(fast - mid, self.stack_full * range_, quiet) + ramp(mid - slow, self.stack_full * range_, quiet)
        return Parts(
            parts={
                "stack": self.stack_weight / 2 * stack,
                "strength": self.strength_weight
                * ramp(plus - minus, self.di_full, quiet)
                * ramp(adx, self.adx_full, quiet),
                "breakout": self.breakout_weight * ramp((close - bottom) - (top - close), top - bottom, quiet),
                "distance": self.distance_weight * ramp(close - slow, self.distance_full * range_, quiet),
            },
            features={
                "open": bars.open,
                "high": high,
                "low": low,
                "close": close,
                "ema_fast": fast,
                "ema_mid": mid,
                "ema_slow": slow,
                "plus_di": plus,
                "minus_di": minus,
                "adx": adx,
                "atr": range_,
                "channel_high": top,
                "channel_low": bottom,
            },
        )
