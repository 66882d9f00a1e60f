"""Trend: which way the market goes, at several slow speeds."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import talib
from pydantic import Field, model_validator

from pillars.base import Column, Features, Panel, Parts, Pillar
from pillars.indicators import atr, change, crossover, deviation, extremes, mean, ramp

SPEEDS = {"fast": 1, "mid": 2, "slow": 4}


class Trend(Pillar):
    """
    Which way the market goes. Two rules at three speeds each, the second twice and the third four times as slow as the
    first; each of the six parts is at most a third of its rule's weight, and the weights sum to 100:

    - *cross*: the mean of ``fast`` closes against that of 4 x ``fast``: their difference in deviations of a change x
      sqrt(fast), in full from ``cross_full`` on (Carver's EWMAC family 16/64, 32/128, 64/256, Systematic Trading, 2015,
      with simple means, see ``indicators.crossover``). The deviation is the root mean square of ``volatility`` changes.
    - *breakout*: the place of the close among the closes of ``channel`` bars, -1 at the lowest and +1 at the highest
      (Donchian), averaged over a quarter of ``channel`` (Carver's breakout 80, 160, 320, Advanced Futures Trading
      Strategies, 2023, strategy 9).

    Several speeds, because nobody knows next year's; slow ones, because fast ones lose their gain to costs:
    docs/evidence.md. Closes only, so that a close-only series is scored like any other. Unknown (null) until the
    longest window is full and again after a gap in the closes; 0 where the price has not moved for ``volatility`` bars.
    Only differences and their ratios are used: adjusted and negative prices work, and a mirrored path mirrors the
    score.
    """

    name: ClassVar[str] = "trend"

    fast: int = Field(16, gt=1, le=500, description="shortest mean, bars; its counterparts are 4 times as long")
    channel: int = Field(80, ge=8, le=1000, description="shortest channel, bars; the others twice and 4 times as long")
    volatility: int = Field(40, gt=1, le=1000, description="one-bar changes that scale the crossovers")
    cross_full: float = Field(1.4, gt=0, le=20, description="crossover that counts in full, deviations x root of fast")
    adx: int = Field(14, gt=1, le=200, description="Wilder's period of ADX and DI, features for rules, bars")
    atr: int = Field(14, gt=1, le=200, description="Wilder's period of the ATR, a feature for rules, bars")
    cross_weight: float = Field(60, ge=0, le=100, description="points of the crossovers")
    breakout_weight: float = Field(40, ge=0, le=100, description="points of the channel breakouts")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        total = self.cross_weight + self.breakout_weight
        if abs(total - 100) > 1e-9:
            raise ValueError(f"the weights of the parts must sum to 100, they sum to {total:g}")
        return self

    @property
    def history(self) -> int:
        slowest = max(SPEEDS.values())
        rules = max(4 * slowest * self.fast, slowest * (self.channel + self.channel // 4), self.volatility + 1)
        return max(rules, 25 * self.adx, 20 * self.atr)

    def parts(self, bars: Panel) -> Parts:
        high, low = extremes(bars)
        usual = deviation(bars, change(bars, bars.close), self.volatility)
        quiet = usual == 0
        crosses = {
            f"cross_{name}": self.cross_weight / 3 * ramp(crossover(bars, k * self.fast, usual), self.cross_full, quiet)
            for name, k in SPEEDS.items()
        }
        breakouts = {
            f"breakout_{name}": self.breakout_weight / 3 * np.where(quiet, 0.0, self._place(bars, k * self.channel))
            for name, k in SPEEDS.items()
        }
        known = np.where(np.isnan(usual), np.nan, 0.0)
        return Parts(
            parts={name: part + known for name, part in {**crosses, **breakouts}.items()},
            features=Features(
                {
                    "open": bars.open,
                    "high": high,
                    "low": low,
                    "close": bars.close,
                    "mean_fast": lambda: mean(bars, bars.close, self.fast),
                    "mean_mid": lambda: mean(bars, bars.close, 4 * self.fast),
                    "mean_slow": lambda: mean(bars, bars.close, 16 * self.fast),
                    "plus_di": lambda: bars.each(talib.PLUS_DI, high, low, bars.close, timeperiod=self.adx),
                    "minus_di": lambda: bars.each(talib.MINUS_DI, high, low, bars.close, timeperiod=self.adx),
                    "adx": lambda: bars.each(talib.ADX, high, low, bars.close, timeperiod=self.adx),
                    "atr": lambda: atr(bars, self.atr),
                    "channel_high": lambda: bars.each(talib.MAX, high, timeperiod=self.channel),
                    "channel_low": lambda: bars.each(talib.MIN, low, timeperiod=self.channel),
                }
            ),
        )

    def _place(self, bars: Panel, n: int) -> Column:
        top, bottom = bars.each(talib.MAX, bars.close, timeperiod=n), bars.each(talib.MIN, bars.close, timeperiod=n)
        place = ramp((bars.close - bottom) - (top - bars.close), top - bottom, top == bottom)
        return mean(bars, place, n // 4)
