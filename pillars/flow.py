"""Flow: do volume and open interest confirm the move?"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pillars.base import Column, Features, Panel, Parts, Pillar
from pillars.indicators import atr, change, deviation, ramp, share, still, total

Mask = npt.NDArray[np.bool_]


class Flow(Pillar):
    """
    Do volume and open interest confirm the move? Only what they add to the price: a market whose volume and open
    interest stand still scores 0, however strong its trend. Three parts; the weights sum to 100:

    - *volume*: the mean over ``window`` bars of change x excess volume: the change of the close in ATR, clipped to +-1,
      times volume over its mean of ``volume`` bars, minus 1, clipped to +-1; in full from ``volume_full`` on. Moves on
      high volume count their way, moves on low volume the other way (Karpoff, 1987; Llorente et al., 2002).
    - *obv*: the change of On-Balance Volume over ``obv`` bars (volume of rising minus falling closes; Granville, 1963)
      as a share of all their volume, minus the same with all bars of equal volume, in full from ``obv_full`` on.
    - *buildup*: the quadrants of price and open interest over ``buildup`` bars: the change of the price (in full from
      ``price_full`` standard deviations of such a change on) times that of open interest (in full from
      ``interest_full`` on, a share of its level): positive for new longs and for longs that give up, negative for new
      shorts and for shorts that cover. Open interest is that of all contracts.

    The roll trap: positions that move to the next contract look like liquidation of the front one. While the front
    contract holds less than ``roll_share`` of all open interest, and for ``roll`` bars after a roll, buildup does not
    count.

    An unknown part does not count, and the weights of the others grow in proportion: a spot market without futures is
    judged by its volume. Volume is that of all futures contracts if known, else the bar's own. Null where no part is
    known: list flow in [composite] optional, so that the other pillars decide there. 0 where the price has not moved
    for ``obv`` bars. Only differences of adjusted prices are used, and a mirrored path mirrors the score.
    """

    name: ClassVar[str] = "flow"
    inputs: ClassVar[tuple[str, ...]] = ("futures_volume", "total_interest", "front_interest", "rolled")

    window: int = Field(20, ge=1, le=500, description="moves on high and low volume, bars")
    volume: int = Field(60, gt=1, le=1000, description="mean that makes volume relative, bars")
    volume_full: float = Field(0.15, gt=0, le=1, description="mean of change x excess volume that counts in full")
    obv: int = Field(40, gt=1, le=500, description="change of On-Balance Volume over so many bars")
    obv_full: float = Field(0.15, gt=0, le=1, description="net share of the volume beyond that of the bars, in full")
    buildup: int = Field(20, gt=1, le=500, description="changes of price and open interest over so many bars")
    interest_full: float = Field(0.1, gt=0, le=5, description="change of open interest that counts in full, a share")
    price_full: float = Field(1.5, gt=0, le=10, description="change of price that counts in full, deviations")
    deviation: int = Field(60, gt=1, le=1000, description="window of the deviation of the price, bars")
    roll: int = Field(2, ge=0, le=100, description="bars after a roll in which buildup does not count")
    roll_share: float = Field(0.5, ge=0, le=1, description="the front's share of open interest below which it rolls")
    atr: int = Field(14, gt=1, le=200, description="Wilder's period of the ATR, bars")
    volume_weight: float = Field(35, ge=0, le=100, description="points of moves on high and low volume")
    obv_weight: float = Field(30, ge=0, le=100, description="points of On-Balance Volume")
    buildup_weight: float = Field(35, ge=0, le=100, description="points of the build-up of open interest")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        weights = (self.volume_weight, self.obv_weight, self.buildup_weight)
        if abs(sum(weights) - 100) > 1e-9:
            raise ValueError(f"the weights of the parts must sum to 100, they sum to {sum(weights):g}")
        return self

    @property
    def history(self) -> int:
        return max(self.volume + self.window, self.obv, self.buildup, self.deviation, self.roll, 20 * self.atr) + 2

    def parts(self, bars: Panel) -> Parts:
        range_, quiet, step = atr(bars, self.atr), still(bars, self.obv), change(bars, bars.close)
        futures_volume = bars.other("futures_volume")
        relative, moved, net = self._by_volume(bars, futures_volume, step, range_)
        own = self._by_volume(bars, bars.volume, step, range_)
        relative, moved, net = (np.where(np.isnan(a), b, a) for a, b in zip((relative, moved, net), own, strict=True))

        interest = bars.other("total_interest")
        front = share(bars.other("front_interest"), interest)
        grown = share(change(bars, interest, self.buildup), interest)
        rise = change(bars, bars.close, self.buildup)
        usual = deviation(bars, step, self.deviation) * np.sqrt(float(self.buildup))
        trap = self._trap(bars, front)
        built = ramp(rise, self.price_full * usual, quiet) * np.clip(grown / self.interest_full, -1.0, 1.0)
        views = {
            "volume": (self.volume_weight, np.clip(moved / self.volume_full, -1.0, 1.0)),
            "obv": (self.obv_weight, np.clip(net / self.obv_full, -1.0, 1.0)),
            "buildup": (self.buildup_weight, np.where(trap, np.nan, built)),
        }
        counted = np.add.reduce([np.where(np.isnan(value), 0.0, weight) for weight, value in views.values()])
        scale = share(np.full(len(step), 100.0), counted)
        return Parts(
            parts={
                name: scale * weight * np.where(quiet, 0.0, np.nan_to_num(value))
                for name, (weight, value) in views.items()
            },
            features=Features(
                {
                    "open": bars.open,
                    "high": bars.high,
                    "low": bars.low,
                    "close": bars.close,
                    "volume": np.where(np.isnan(futures_volume), bars.volume, futures_volume),
                    "relative_volume": relative,
                    "obv_excess": net,
                    "interest": interest,
                    "interest_change": grown,
                    "front_share": front,
                    "rolling": trap.astype(np.float64),
                    "atr": range_,
                }
            ),
        )

    def _by_volume(self, bars: Panel, volume: Column, step: Column, range_: Column) -> tuple[Column, Column, Column]:
        """Relative volume, the mean of change x its excess, and the net share of volume beyond that of the bars."""
        relative = share(volume, total(bars, volume, self.volume) / self.volume)
        excess = np.clip(relative - 1, -1.0, 1.0)
        moved = total(bars, ramp(step, range_, range_ == 0) * excess, self.window) / self.window
        way = np.sign(step)
        net = share(total(bars, way * volume, self.obv), total(bars, volume, self.obv))
        net -= total(bars, way, self.obv) / self.obv
        unknown = np.where(np.isnan(moved + net), np.nan, 0.0)  # both count, or none
        return relative, moved + unknown, net + unknown

    def _trap(self, bars: Panel, front: Column) -> Mask:
        """True where a roll may look like a change of positions."""
        recent = total(bars, self._rolled(bars).astype(np.float64), self.roll + 1) > 0
        return np.asarray(recent | (front < self.roll_share))

    def _rolled(self, bars: Panel) -> Mask:
        """True for the first bar of each front contract."""
        return np.asarray(np.nan_to_num(change(bars, bars.other("rolled"))) != 0)
