"""Risk: how dangerous is it to open a position now, long or short?"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import talib
from pydantic import Field, model_validator

from pillars.base import Column, Features, Panel, Parts, Pillar
from pillars.indicators import atr, change, deviation, extremes, gate, grade, lagged, share
from pillars.kit.compiled import compiled
from pillars.kit.windows import periods


class Risk(Pillar):
    """
    How dangerous is it to open a position now? The same for longs and shorts: a gate from 0 (closed) to 1 (open),
    vetoes, and no direction. The gate is the product, over three measures from 0 to 1, of 1 - strength x (1 - measure):

    - *volatility*: the root mean square of the last ``fast`` one-bar changes over that of the last ``slow`` ones: 1 at
      ``volatility_good`` and less, 0 at ``volatility_bad``; at ``volatility_veto`` or more the veto ``volatile``.
    - *shock*: the largest absolute change over ``burst`` bars that ended within the last ``hold`` bars, in deviations
      of such a change (the root mean square of the ``slow`` one-bar changes before it x sqrt(burst)): 1 at
      ``shock_good`` and less, 0 at ``shock_bad``; at ``shock_veto`` or more the veto ``shock``.
    - *crowding*: the mean correlation between all pairs of symbols over ``crowd`` periods (of the width of a bar; those
      with no bar at all are left out), of changes over ``span`` periods: 1 at ``crowding_good`` and less, 0 at
      ``crowding_bad``; from ``crowding_veto``, the veto ``crowded``. Exchanges close at different times: each symbol's
      latest close at a period's end is used, changes span three sessions or more, and only periods that were over at
      the bar's own instant count. Correlations are about zero, since drift is small relative to the changes.

    On S&P 500 futures 1982-2023 the veto ``shock`` stands on 1.5 % of the days, those of 1987, 1989, 1997, 1998, 2000,
    2007, 2008, 2011, 2015, 2018, 2020 and 2022 among them. Unknown measures do not count; of several vetoes the first
    is reported. Null until ``slow`` bars are available and again after a gap in the closes. A market that has not moved
    for ``slow`` bars is neutral: only crowding counts. Only differences and their ratios are used: adjusted and
    negative prices work, and a mirrored path has the same gate and vetoes.

    Cross-sectional: crowding uses the closes of all symbols, and is null for fewer than ``crowd_least``.
    """

    name: ClassVar[str] = "risk"
    directional: ClassVar[bool] = False
    gating: ClassVar[bool] = True
    cross_sectional: ClassVar[bool] = True

    fast: int = Field(20, gt=1, le=500, description="window of the current state, bars")
    slow: int = Field(250, gt=2, le=2000, description="window of the usual state, bars")
    burst: int = Field(3, ge=1, le=100, description="change that may be a shock, bars")
    hold: int = Field(5, ge=1, le=100, description="bars for which a shock counts")
    atr: int = Field(14, gt=1, le=200, description="Wilder's period of the ATR, a feature for rules, bars")
    crowd: int = Field(60, ge=5, le=500, description="periods behind the correlations")
    span: int = Field(5, ge=3, le=50, description="changes over so many periods; five days hold three sessions")
    crowd_least: int = Field(3, ge=2, le=1000, description="symbols needed for crowding")
    volatility_good: float = Field(1.2, gt=0, le=20, description="harmless fast over slow volatility")
    volatility_bad: float = Field(2.5, gt=0, le=20, description="fast over slow volatility at which it is worst")
    volatility_veto: float = Field(3, gt=0, le=100, description="fast over slow volatility that vetoes entries")
    shock_good: float = Field(2.5, gt=0, le=100, description="harmless shock, deviations")
    shock_bad: float = Field(4, gt=0, le=100, description="shock at which it is worst, deviations")
    shock_veto: float = Field(4, gt=0, le=1000, description="shock that vetoes entries, deviations")
    crowding_good: float = Field(0.4, ge=-1, le=1, description="harmless mean correlation")
    crowding_bad: float = Field(0.9, ge=-1, le=1, description="mean correlation at which it is worst")
    crowding_veto: float = Field(0.95, ge=-1, le=2, description="mean correlation that vetoes entries; 2 for never")
    volatility_strength: float = Field(0.6, ge=0, le=1, description="how far volatility alone can close the gate")
    shock_strength: float = Field(0.6, ge=0, le=1, description="how far a shock alone can close the gate")
    crowding_strength: float = Field(0.5, ge=0, le=1, description="how far crowding alone can close the gate")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        pairs = (("fast", "slow"), *((f"{name}_good", f"{name}_bad") for name in ("volatility", "shock", "crowding")))
        for small, large in pairs:
            if not getattr(self, small) < getattr(self, large):
                raise ValueError(f"{small} < {large} expected, got {getattr(self, small):g}, {getattr(self, large):g}")
        return self

    @property
    def history(self) -> int:
        return max(self.slow + self.burst + self.hold + 1, 20 * self.atr, self.common_history)

    @property
    def common_history(self) -> int:
        return self.crowd + self.span + 2

    def parts(self, bars: Panel) -> Parts:
        high, low = extremes(bars)
        close, step = bars.close, change(bars, bars.close)
        now, usual = deviation(bars, step, self.fast), deviation(bars, step, self.slow)
        volatility, shock = share(now, usual), self._shock(bars, usual)
        crowding = bars.beside.get("crowding")
        if crowding is None:  # the bars hold all symbols
            crowding = self.common(bars)["crowding"]
        measures = (
            (self.volatility_strength, grade(volatility, self.volatility_bad, self.volatility_good)),
            (self.shock_strength, grade(shock, self.shock_bad, self.shock_good)),
        )
        single = [(strength, np.where(usual == 0, 1.0, measure)) for strength, measure in measures]
        crowd = (self.crowding_strength, grade(crowding, self.crowding_bad, self.crowding_good))
        veto = np.full(len(close), None)
        for code, dangerous in (
            ("crowded", crowding >= self.crowding_veto),
            ("shock", shock >= self.shock_veto),
            ("volatile", volatility >= self.volatility_veto),
        ):
            veto[dangerous] = code
        scale = usual * np.sqrt(float(self.fast))
        return Parts(
            gate=np.where(np.isnan(usual), np.nan, gate([*single, crowd])),
            veto=veto,
            features=Features(
                {
                    "open": bars.open,
                    "high": high,
                    "low": low,
                    "close": close,
                    "atr": lambda: atr(bars, self.atr),
                    "volatility": volatility,
                    "shock": shock,
                    "drawdown": lambda: share(bars.each(talib.MAX, close, timeperiod=self.slow) - close, scale),
                    "runup": lambda: share(close - bars.each(talib.MIN, close, timeperiod=self.slow), scale),
                    "crowding": crowding,
                }
            ),
        )

    def _shock(self, bars: Panel, usual: Column) -> Column:
        earlier = lagged(bars, usual, self.burst)
        moved = share(np.abs(change(bars, bars.close, self.burst)), earlier * np.sqrt(float(self.burst)))
        return np.asarray(bars.each(talib.MAX, moved, timeperiod=self.hold)) if self.hold > 1 else moved

    def common(self, closes: Panel) -> dict[str, Column]:
        """For each bar the mean correlation of all symbols, from the periods that were over at its instant."""
        if not len(closes.ts):
            return {"crowding": np.empty(0)}
        known, column = np.unique(periods(closes.ts, closes.interval), return_inverse=True)
        table = np.full((len(closes.symbols), len(known)), np.nan)
        table[closes.slices, column] = closes.close  # the last of several bars in a period counts
        first = int(column[closes.wanted == 1].min(initial=len(known))) - 1
        mean = compiled(_mean_correlation)(table, self.span, self.crowd, self.crowd_least, first)
        return {"crowding": np.where(column > 0, mean[np.maximum(column - 1, 0)], np.nan)}


def _mean_correlation(  # noqa: C901 - one pass, so that numba compiles one loop
    closes: npt.NDArray[np.float64], span: int, window: int, least: int, first: int
) -> npt.NDArray[np.float64]:
    """
    For each period (axis 1) from ``first`` on, the mean correlation of all pairs of symbols (axis 0) that moved.

    With z each symbol's changes over the root of the sum of their squares, the sum over all pairs of the correlations
    z_i z_j is (|sum of z|^2 - count) / 2, so there is no loop over pairs.
    """
    count, periods = closes.shape
    changes = np.full((count, periods), np.nan)
    for i in range(count):
        last = np.full(periods, np.nan)
        for t in range(periods):
            last[t] = closes[i, t] if not np.isnan(closes[i, t]) or t == 0 else last[t - 1]
            if t >= span:
                changes[i, t] = last[t] - last[t - span]
    mean = np.full(periods, np.nan)
    together = np.empty(window)
    for t in range(max(first, window + span - 1), periods):
        together[:] = 0.0
        known = 0
        for i in range(count):
            square = 0.0
            for k in range(t - window + 1, t + 1):
                square += changes[i, k] * changes[i, k]
            if square > 0:
                known += 1
                root = np.sqrt(square)
                for k in range(window):
                    together[k] += changes[i, t - window + 1 + k] / root
        if known >= least:
            total = 0.0
            for k in range(window):
                total += together[k] * together[k]
            mean[t] = (total - known) / (known * (known - 1))
    return mean
