"""Momentum: is the trend speeding up or slowing down?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import talib
from pydantic import Field

from pillars.base import Column, Features, Panel, Parts, Pillar
from pillars.indicators import atr, change, crossover, deviation, extremes, ramp


class Momentum(Pillar):
    """
    Is the trend speeding up or slowing down? What trend does not say: the change of its crossovers. Two parts of 50
    points each, at ``fast`` and at twice that:

    - *acceleration*: the crossover of ``fast`` and 4 x ``fast`` closes (see trend) minus what it was ``fast`` bars ago,
      in full from ``full`` on (Carver, Advanced Futures Trading Strategies, 2023, strategy 23: acceleration). Both in
      today's deviation of a change, so that a calmer market alone is no acceleration.

    The return of twelve months without the last one (Jegadeesh and Titman, 1993) says what trend says (correlation
    0.9) and is not used; short oscillators (RSI, MACD) are features for rules: docs/pillars.md says what was looked
    at. Closes only. Unknown (null) until the longest window is full and again after a gap in the closes; 0 where the
    price has not moved for ``volatility`` bars. A mirrored path mirrors the score.
    """

    name: ClassVar[str] = "momentum"

    fast: int = Field(32, gt=1, le=500, description="faster mean of the first crossover, bars; the second: twice that")
    volatility: int = Field(40, gt=1, le=1000, description="one-bar changes that scale the crossovers")
    full: float = Field(1.1, gt=0, le=20, description="change of a crossover that counts in full, see trend")
    rsi: int = Field(14, gt=1, le=200, description="Wilder's period of RSI, a feature for rules, bars")
    macd_fast: int = Field(12, gt=1, le=500, description="fast EMA of MACD, a feature for rules, bars")
    macd_slow: int = Field(26, gt=1, le=500, description="slow EMA of MACD, bars")
    macd_signal: int = Field(9, gt=1, le=500, description="EMA of MACD that is its signal, bars")
    atr: int = Field(14, gt=1, le=200, description="Wilder's period of the ATR, a feature for rules, bars")

    @property
    def history(self) -> int:
        smoothed = max(25 * self.rsi, 20 * self.atr, 10 * (self.macd_slow + self.macd_signal))
        return max(smoothed, 10 * self.fast, self.volatility + 1)

    def parts(self, bars: Panel) -> Parts:
        high, low = extremes(bars)
        usual = deviation(bars, change(bars, bars.close), self.volatility)
        return Parts(
            parts={
                "acceleration": 50 * self._acceleration(bars, self.fast, usual),
                "acceleration_slow": 50 * self._acceleration(bars, 2 * self.fast, usual),
            },
            features=Features(
                {
                    "open": bars.open,
                    "high": high,
                    "low": low,
                    "close": bars.close,
                    "rsi": lambda: bars.each(talib.RSI, bars.close, timeperiod=self.rsi),
                    ("macd", "macd_signal", "macd_histogram"): lambda: bars.each(
                        talib.MACD,
                        bars.close,
                        fastperiod=self.macd_fast,
                        slowperiod=self.macd_slow,
                        signalperiod=self.macd_signal,
                    ),
                    "change": lambda: change(bars, bars.close, self.fast),
                    "atr": lambda: atr(bars, self.atr),
                }
            ),
        )

    def _acceleration(self, bars: Panel, fast: int, usual: Column) -> Column:
        gained = change(bars, crossover(bars, fast, np.ones(len(usual))), fast)
        return ramp(gained, self.full * usual, usual == 0)
