"""Momentum: how fast the market goes, and whether it is speeding up."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import talib
from pydantic import Field, model_validator

from pillars.base import Column, Panel, Parts, Pillar
from pillars.indicators import atr, bars_since, extremes, ramp, still


class Momentum(Pillar):
    """
    How fast the market goes, and whether it speeds up. Four parts, each at most its weight; the weights sum to 100:

    - *rsi*: RSI - 50, in full from ``rsi_full`` points on (Wilder, New Concepts in Technical Trading Systems, 1978).
    - *macd*: the MACD histogram over ATR, in full from ``macd_full`` on (Appel; the histogram is Aspray's, 1986).
    - *roc*: the change of the close over ``roc`` bars in standard deviations of such a change: over the root mean
      square of ``volatility`` one-bar changes times sqrt(roc) (the scaling of Moskowitz, Ooi and Pedersen, Time Series
      Momentum, 2012); in full from ``roc_full`` on.
    - *release*: a squeeze is on while the half-width of the Bollinger bands (``squeeze_deviations`` deviations) is
      below that of the Keltner channel (``squeeze_atr`` ATR), both over ``squeeze`` bars (Carter, Mastering the Trade,
      2005). When it ends, the distance of the close from the middle of its channel and mean, in full from
      ``release_full`` ATR on, counts for ``release`` bars, less with each one; 0 otherwise.

    Uses prices only; in a close-only series high and low are the close. Unknown (null) until the longest window is full
    and again after a gap in the closes; 0 where the price has not moved for ``roc`` bars. Only differences and their
    ratios are used: adjusted and negative prices work, and a mirrored path mirrors the score.
    """

    name: ClassVar[str] = "momentum"

    rsi: int = Field(14, gt=1, le=200, description="Wilder's period of the RSI, bars")
    rsi_full: float = Field(20, gt=0, le=50, description="RSI beyond 50 that counts in full, points")
    macd_fast: int = Field(12, gt=1, le=500, description="fast EMA of the MACD, bars")
    macd_slow: int = Field(26, gt=1, le=500, description="slow EMA of the MACD, bars")
    macd_signal: int = Field(9, gt=1, le=500, description="EMA of the MACD line, bars")
    macd_full: float = Field(0.4, gt=0, le=10, description="MACD histogram that counts in full, ATR")
    roc: int = Field(20, gt=1, le=1000, description="change of the close over so many bars")
    volatility: int = Field(60, gt=1, le=1000, description="window of one-bar changes behind the scaling, bars")
    roc_full: float = Field(2, gt=0, le=10, description="change that counts in full, standard deviations")
    squeeze: int = Field(20, gt=1, le=500, description="Bollinger bands and Keltner channel, bars")
    squeeze_deviations: float = Field(2, gt=0, le=10, description="half-width of the Bollinger bands, deviations")
    squeeze_atr: float = Field(1.5, gt=0, le=10, description="half-width of the Keltner channel, ATR")
    release: int = Field(8, gt=0, le=100, description="a release counts for so many bars")
    release_full: float = Field(1.5, gt=0, le=10, description="distance from the middle that counts in full, ATR")
    atr: int = Field(14, gt=1, le=200, description="Wilder's period of the ATR, bars")
    rsi_weight: float = Field(30, ge=0, le=100, description="points of the RSI")
    macd_weight: float = Field(25, ge=0, le=100, description="points of the MACD histogram")
    roc_weight: float = Field(30, ge=0, le=100, description="points of the rate of change")
    release_weight: float = Field(15, ge=0, le=100, description="points of the squeeze's release")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.macd_fast < self.macd_slow:
            raise ValueError(f"macd_fast < macd_slow expected, got {self.macd_fast}, {self.macd_slow}")
        total = self.rsi_weight + self.macd_weight + self.roc_weight + self.release_weight
        if abs(total - 100) > 1e-9:
            raise ValueError(f"the weights of the parts must sum to 100, they sum to {total:g}")
        return self

    @property
    def history(self) -> int:
        smoothed = max(25 * self.rsi, 20 * self.atr, 10 * (self.macd_slow + self.macd_signal))
        return max(smoothed, self.volatility + 1, self.roc + 1, 20 * self.squeeze + self.release)

    def parts(self, bars: Panel) -> Parts:
        high, low = extremes(bars)
        range_, quiet = atr(bars, self.atr), still(bars, self.roc)
        rsi = bars.each(talib.RSI, bars.close, timeperiod=self.rsi)
        macd, signal, histogram = bars.each(
            talib.MACD, bars.close, fastperiod=self.macd_fast, slowperiod=self.macd_slow, signalperiod=self.macd_signal
        )
        change = bars.each(talib.MOM, bars.close, timeperiod=1)
        # a running sum may end slightly below zero after a shock has left the window
        variance = np.maximum(bars.each(talib.SMA, change * change, timeperiod=self.volatility), 0.0)
        roc = bars.each(talib.MOM, bars.close, timeperiod=self.roc)
        deviation = bars.each(talib.STDDEV, bars.close, timeperiod=self.squeeze)
        narrow, wide = self.squeeze_deviations * deviation, self.squeeze_atr * atr(bars, self.squeeze)
        squeezed = np.where(np.isnan(narrow) | np.isnan(wide), np.nan, narrow < wide)
        top = bars.each(talib.MAX, high, timeperiod=self.squeeze)
        bottom = bars.each(talib.MIN, low, timeperiod=self.squeeze)
        middle = (top + bottom) / 4 + bars.each(talib.SMA, bars.close, timeperiod=self.squeeze) / 2
        return Parts(
            parts={
                "rsi": self.rsi_weight * ramp(rsi - 50, self.rsi_full, quiet),
                "macd": self.macd_weight * ramp(histogram, self.macd_full * range_, quiet),
                "roc": self.roc_weight * ramp(roc, self.roc_full * np.sqrt(variance * self.roc), quiet),
                "release": self.release_weight
                * self._freshness(bars, squeezed)
                * ramp(bars.close - middle, self.release_full * range_, quiet),
            },
            features={
                "open": bars.open,
                "high": high,
                "low": low,
                "close": bars.close,
                "rsi": rsi,
                "macd": macd,
                "macd_signal": signal,
                "macd_histogram": histogram,
                "change": roc,
                "squeezed": squeezed,
                "atr": range_,
            },
        )

    def _freshness(self, bars: Panel, squeezed: Column) -> Column:
        """1 on the first bar after a squeeze, falling linearly to 0 in ``release`` bars; else 0."""
        age = bars.each(bars_since, squeezed)
        fresh = np.clip((self.release + 1 - age) / self.release, 0.0, 1.0) * (squeezed == 0)
        return np.where(np.isnan(age) & ~np.isnan(squeezed), 0.0, np.where(np.isnan(squeezed), np.nan, fresh))
