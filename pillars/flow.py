"""Flow: who is behind the move, by volume, open interest and the basis between futures and spot."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pillars.base import BESIDE, Column, Panel, Parts, Pillar
from pillars.indicators import atr, change, deviation, extremes, ramp, share, still, total

Mask = npt.NDArray[np.bool_]


class Flow(Pillar):
    """
    Who is behind the move: do volume, open interest and the futures' premium confirm it? Five parts:

    - *obv*: the change of On-Balance Volume over ``obv`` bars (volume of rising minus that of falling closes;
      Granville, 1963) as a share of all their volume, in full from ``obv_full`` on.
    - *mfi*: the Money Flow Index of ``mfi`` bars - 50, in full from ``mfi_full`` points on (Quong and Soudack, 1989).
      It weights volume by the traded typical price, and takes its direction from the adjusted one; typical prices
      within 1e-12 are equal and count for neither side; 50 where no money moved.
    - *surge*: the mean over ``surge`` bars of change x (relative volume - 1): the change of the close in ATR, clipped
      to +-1, times the excess of volume over its mean of ``volume`` bars, clipped to [0, ``surge_full``] and divided by
      ``surge_full``.
    - *buildup*: the quadrants of price and open interest over ``buildup`` bars. Open interest up (in full from
      ``interest_full`` on, a share of its level): new longs if the price rose, new shorts if it fell. Open interest
      down: short covering or long liquidation, which counts ``covering`` times as much. The price counts in full from
      ``price_full`` standard deviations of such a change on. Open interest is that of all contracts.
    - *basis*: the change of the premium (futures / spot - 1, traded prices of one instant) over ``basis`` bars, in full
      from ``basis_full`` standard deviations on: a growing premium means that buyers are eager. Steps from one contract
      to the next are left out. Unknown without both prices at one instant, or if one is not positive.

    The roll trap: positions that move to the next contract look like liquidation of the front one. While the front
    contract holds less than ``roll_share`` of all open interest, and for ``roll`` bars after a roll, buildup and basis
    do not count.

    The weights sum to 100. An unknown part does not count, and the weights of the others grow in proportion: a spot
    market without futures is judged by its volume, an index without volume by its futures. Volume is that of all
    futures contracts if known, else the bar's own. Null where no part is known; 0 where the price has not moved for
    ``obv`` bars. Only differences of adjusted prices are used; a mirrored path mirrors all parts but mfi, which weights
    by price.
    """

    name: ClassVar[str] = "flow"
    inputs: ClassVar[tuple[str, ...]] = tuple(BESIDE)

    obv: int = Field(20, gt=1, le=500, description="change of On-Balance Volume over so many bars")
    obv_full: float = Field(0.4, gt=0, le=1, description="net share of the volume that counts in full")
    mfi: int = Field(14, gt=1, le=200, description="Money Flow Index, bars")
    mfi_full: float = Field(25, gt=0, le=50, description="MFI beyond 50 that counts in full, points")
    volume: int = Field(50, gt=1, le=1000, description="mean that makes volume relative, bars")
    surge: int = Field(5, ge=1, le=100, description="window of changes on high volume, bars")
    surge_full: float = Field(1.5, gt=0, le=20, description="volume above its mean that counts in full, in means")
    buildup: int = Field(10, gt=1, le=500, description="changes of price and open interest over so many bars")
    interest_full: float = Field(0.05, gt=0, le=5, description="change of open interest that counts in full, a share")
    covering: float = Field(0.25, ge=0, le=1, description="weight of a move on falling open interest, a share")
    price_full: float = Field(1.5, gt=0, le=10, description="change of price that counts in full, deviations")
    basis: int = Field(10, gt=1, le=500, description="change of the premium over so many bars")
    basis_full: float = Field(2, gt=0, le=10, description="change of the premium that counts in full, deviations")
    deviation: int = Field(60, gt=1, le=1000, description="window of the deviations of price and premium, bars")
    roll: int = Field(2, ge=0, le=100, description="bars after a roll in which buildup and basis do not count")
    roll_share: float = Field(0.5, ge=0, le=1, description="the front's share of open interest below which it rolls")
    atr: int = Field(14, gt=1, le=200, description="Wilder's period of the ATR, bars")
    obv_weight: float = Field(25, ge=0, le=100, description="points of On-Balance Volume")
    mfi_weight: float = Field(15, ge=0, le=100, description="points of the Money Flow Index")
    surge_weight: float = Field(20, ge=0, le=100, description="points of moves on high volume")
    buildup_weight: float = Field(30, ge=0, le=100, description="points of the build-up of open interest")
    basis_weight: float = Field(10, ge=0, le=100, description="points of the basis")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        weights = (self.obv_weight, self.mfi_weight, self.surge_weight, self.buildup_weight, self.basis_weight)
        if abs(sum(weights) - 100) > 1e-9:
            raise ValueError(f"the weights of the parts must sum to 100, they sum to {sum(weights):g}")
        return self

    @property
    def history(self) -> int:
        volumes = max(self.obv, self.mfi, self.volume) + self.surge
        return max(volumes, self.buildup, self.deviation + self.basis, self.roll, 20 * self.atr) + 2

    def parts(self, bars: Panel) -> Parts:
        range_, quiet, step = atr(bars, self.atr), still(bars, self.obv), change(bars, bars.close)
        futures_volume = bars.other("futures_volume")
        volume_parts = self._by_volume(
            bars, bars.volume if np.isnan(futures_volume).all() else futures_volume, step, range_
        )
        if np.isnan(futures_volume).any() and not np.isnan(futures_volume).all():
            own_parts = self._by_volume(bars, bars.volume, step, range_)
            volume_parts = {
                name: np.where(np.isnan(column), own_parts[name], column) for name, column in volume_parts.items()
            }

        interest, front = (
            bars.other("total_interest"),
            share(bars.other("front_interest"), bars.other("total_interest")),
        )
        trap = self._trap(bars, front)
        grown = share(change(bars, interest, self.buildup), interest)
        rise = change(bars, bars.close, self.buildup)
        usual = deviation(bars, step, self.deviation) * np.sqrt(float(self.buildup))
        premium, moved, noise = self._premium(bars)
        views = {
            "obv": (self.obv_weight, volume_parts["obv"]),
            "mfi": (self.mfi_weight, volume_parts["mfi"]),
            "surge": (self.surge_weight, volume_parts["surge"]),
            "buildup": (
                self.buildup_weight,
                np.where(trap, np.nan, ramp(rise, self.price_full * usual, quiet) * self._conviction(grown)),
            ),
            "basis": (
                self.basis_weight,
                np.where(trap, np.nan, ramp(moved, self.basis_full * noise, quiet | (noise == 0))),
            ),
        }
        counted = np.add.reduce([np.where(np.isnan(value), 0.0, weight) for weight, value in views.values()])
        scale = share(np.full(len(step), 100.0), counted)
        return Parts(
            parts={
                name: scale * weight * np.where(quiet, 0.0, np.nan_to_num(value))
                for name, (weight, value) in views.items()
            },
            features={
                "open": bars.open,
                "high": bars.high,
                "low": bars.low,
                "close": bars.close,
                "volume": np.where(np.isnan(futures_volume), bars.volume, futures_volume),
                "relative_volume": volume_parts["relative"],
                "obv_share": volume_parts["net"],
                "mfi": volume_parts["index"],
                "interest": interest,
                "interest_change": grown,
                "front_share": front,
                "rolling": trap.astype(np.float64),
                "premium": premium,
                "premium_change": share(moved, noise),
                "atr": range_,
            },
        )

    def _by_volume(self, bars: Panel, volume: Column, step: Column, range_: Column) -> dict[str, Column]:
        net = share(total(bars, np.sign(step) * volume, self.obv), total(bars, volume, self.obv))
        index = self._mfi(bars, volume)
        relative = share(volume, total(bars, volume, self.volume) / self.volume)
        excess = np.clip(relative - 1, 0.0, self.surge_full) / self.surge_full
        surge = total(bars, ramp(step, range_, range_ == 0) * excess, self.surge) / self.surge
        unknown = np.where(np.isnan(net + index + surge), np.nan, 0.0)  # all three count, or none
        return {
            "obv": np.clip(net / self.obv_full, -1.0, 1.0) + unknown,
            "mfi": np.clip((index - 50) / self.mfi_full, -1.0, 1.0) + unknown,
            "surge": surge + unknown,
            "net": net,
            "index": index,
            "relative": relative,
        }

    def _mfi(self, bars: Panel, volume: Column) -> Column:
        """As TA-Lib's, but for prices of any sign and size: TA-Lib treats less than 1 unit of money as none."""
        high, low = extremes(bars)
        typical = (high + low + bars.close) / 3
        traded, rise = np.abs(typical - bars.offset), change(bars, typical)
        money = traded * volume + 0 * rise
        tied = np.abs(rise) <= 1e-12 * traded
        gained = total(bars, np.where(tied | (rise < 0), 0 * money, money), self.mfi)
        lost = total(bars, np.where(tied | (rise > 0), 0 * money, money), self.mfi)
        return np.where(gained + lost == 0, 50.0, 100 * share(gained, gained + lost))

    def _conviction(self, grown: Column) -> Column:
        """1 for open interest that grows in full, ``covering`` for one that falls in full, linear between."""
        return self.covering + (1 - self.covering) * (1 + np.clip(grown / self.interest_full, -1.0, 1.0)) / 2

    def _premium(self, bars: Panel) -> tuple[Column, Column, Column]:
        """The premium, its change over ``basis`` bars within contracts, and the deviation of such a change."""
        futures, spot = bars.other("futures_close"), bars.other("spot_close")
        both = (futures > 0) & (spot > 0)
        premium = np.divide(futures, spot, out=np.full(len(spot), np.nan), where=both) - 1
        # the first bar of a contract has no earlier premium of that contract
        within = change(bars, premium) * ~self._rolled(bars)
        usual = deviation(bars, within, self.deviation) * np.sqrt(float(self.basis))
        return premium, total(bars, within, self.basis), usual

    def _trap(self, bars: Panel, front: Column) -> Mask:
        """True where a roll may look like a change of positions."""
        recent = total(bars, self._rolled(bars).astype(np.float64), self.roll + 1) > 0
        return np.asarray(recent | (front < self.roll_share))

    def _rolled(self, bars: Panel) -> Mask:
        """True for the first bar of each front contract."""
        return np.asarray(np.nan_to_num(change(bars, bars.other("rolled"))) != 0)
