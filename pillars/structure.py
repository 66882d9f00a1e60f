"""Structure: where the market is relative to its own past levels."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from pillars.base import Column, Panel, Parts, Pillar
from pillars.indicators import atr, extremes, ramp, still
from pillars.kit import levels


class Structure(Pillar):
    """
    Where the market is relative to its own past levels. Four parts, each at most its weight; the weights sum to 100:

    - *swings*: half for the last swing high over the one before it, half for the last swing low over the one before,
      each in full from ``swings_full`` ATR on: higher highs and higher lows are a rise (Dow). A swing high is a high
      above the ``swing`` highs before it and not below the ``swing`` after it (Williams' fractal, Trading Chaos, 1995);
      it is known once those are complete, and forgotten when it is ``memory`` bars old.
    - *value*: the distance of the close from the point of control, over the distance to the value area's near end:
      +-1 at its ends and beyond. The volume profile of the last ``profile`` bars has ``bins`` prices; its value area
      holds ``value_share`` of the volume (Steidlmayer, CBOT Market Profile, 1984). Acceptance beyond value is trend.
    - *breakout*: a close beyond the last known swing high counts up, below the last swing low down, for ``hold`` bars,
      less with each one. If the close comes back within ``fail`` bars the breakout has failed, and counts as much the
      other way (Raschke and Connors' turtle soup, Street Smarts, 1995).
    - *room*: (up - down) / (up + down): the distances to the nearest remembered swing point above and below the close,
      each at most ``room_full`` ATR (that much where there is none): long with no resistance above and support near.

    Swings that do not exist yet count 0. Without volume the profile is one of time (all bars count the same), like
    Steidlmayer's; in a close-only series high and low are the close. Unknown (null) until ``profile`` bars exist
    and again after a gap in the closes; 0 where the price has not moved for ``profile`` bars. Only differences of
    prices are used: adjusted and negative ones work, and a mirrored path mirrors the score.
    """

    name: ClassVar[str] = "structure"

    swing: int = Field(3, ge=1, le=50, description="bars on each side of a swing point, and until it is confirmed")
    memory: int = Field(120, ge=10, le=2000, description="a swing point is forgotten after so many bars")
    profile: int = Field(60, ge=5, le=1000, description="volume profile, bars")
    bins: int = Field(30, ge=5, le=200, description="prices in the volume profile")
    value_share: float = Field(0.7, gt=0, lt=1, description="volume within the value area, as a share")
    hold: int = Field(10, ge=1, le=200, description="a breakout counts for so many bars")
    fail: int = Field(5, ge=1, le=100, description="a close back within so many bars is a failed breakout")
    atr: int = Field(14, gt=1, le=200, description="Wilder's period of the ATR, bars")
    swings_full: float = Field(2, gt=0, le=50, description="gap between two swing points that counts in full, ATR")
    room_full: float = Field(5, gt=0, le=100, description="largest distance of a level that counts, ATR")
    swings_weight: float = Field(30, ge=0, le=100, description="points of higher highs and lows")
    value_weight: float = Field(25, ge=0, le=100, description="points of the position relative to the value area")
    breakout_weight: float = Field(25, ge=0, le=100, description="points of breakouts, failed ones included")
    room_weight: float = Field(20, ge=0, le=100, description="points of the room to the next levels")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.memory <= 2 * self.swing:
            raise ValueError(f"memory > 2 x swing expected, got {self.memory} and {self.swing}")
        total = self.swings_weight + self.value_weight + self.breakout_weight + self.room_weight
        if abs(total - 100) > 1e-9:
            raise ValueError(f"the weights of the parts must sum to 100, they sum to {total:g}")
        return self

    @property
    def history(self) -> int:
        remembered = self.memory + self.swing + self.hold + self.fail + 2
        return max(remembered, self.profile, 20 * self.atr)

    def parts(self, bars: Panel) -> Parts:
        high, low = extremes(bars)
        close, range_, quiet = bars.close, atr(bars, self.atr), still(bars, self.profile)
        top, top_before, bottom, bottom_before, above, below = self.swings(bars, high, low)
        poc, lower, upper = self._profile(bars, high, low)
        way, age = self._breakouts(bars, top, bottom)

        rises = [ramp(a - b, self.swings_full * range_, quiet) for a, b in ((top, top_before), (bottom, bottom_before))]
        step = np.where(np.isnan(range_), np.nan, sum(np.nan_to_num(r) for r in rises) / 2)
        off = close - poc
        value = ramp(off, np.where(off > 0, upper - poc, poc - lower), quiet | (off == 0))
        farthest = self.room_full * range_
        up, down = (np.fmin(way_, farthest) for way_ in (above - close, close - below))
        room = np.where(np.isnan(range_), np.nan, ramp(up - down, up + down, quiet | (range_ == 0)))
        return Parts(
            parts={
                "swings": self.swings_weight * step,
                "value": self.value_weight * value,
                "breakout": self.breakout_weight * np.where(quiet, 0.0, way * (1 - age / self.hold)),
                "room": self.room_weight * room,
            },
            features={
                "open": bars.open,
                "high": high,
                "low": low,
                "close": close,
                "swing_high": top,
                "swing_low": bottom,
                "resistance": above,
                "support": below,
                "poc": poc,
                "value_high": upper,
                "value_low": lower,
                "breakout": way,
                "breakout_age": age,
                "atr": range_,
            },
        )

    def swings(self, bars: Panel, high: Column, low: Column) -> tuple[Column, ...]:
        points = bars.each(levels.swings, high, low, bars.close, span=self.swing, memory=self.memory)
        return tuple(points)

    def _profile(self, bars: Panel, high: Column, low: Column) -> tuple[Column, ...]:
        """The profile by volume, or by time where volume is unknown."""
        size = {"window": self.profile, "bins": self.bins, "share": self.value_share}
        traded = bars.each(levels.profile, high, low, bars.volume, bars.wanted, **size)
        if not (np.isnan(traded[0]) & (bars.wanted == 1)).any():
            return tuple(traded)
        time = np.where(np.isnan(bars.close), np.nan, 1.0)
        timed = bars.each(levels.profile, high, low, time, bars.wanted, **size)
        return tuple(np.where(np.isnan(a), b, a) for a, b in zip(traded, timed, strict=True))

    def _breakouts(self, bars: Panel, top: Column, bottom: Column) -> tuple[Column, Column]:
        # an unknown swing is a level that cannot be broken, not a gap
        nowhere = np.finfo(np.float64).max
        ceiling, floor = np.where(np.isnan(top), nowhere, top), np.where(np.isnan(bottom), -nowhere, bottom)
        way, age = bars.each(levels.breakouts, bars.close, ceiling, floor, hold=self.hold, fail=self.fail)
        return way, age
