"""Relative: is it stronger or weaker than its group?"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from pillars.base import Column, Features, Panel, Parts, Pillar
from pillars.indicators import change, lagged, ramp, share, total
from pillars.kit.windows import periods

STALE = 10  # periods for which a market's last strength stands for it
EVERYONE = ""


class Relative(Pillar):
    """
    Has it been stronger or weaker than the other markets of its group? Cross-sectional momentum: the strong ones of a
    group are bought against its weak ones, whatever the group does. One part of 100 points:

    - *strength*: the change from ``length`` to ``skip`` bars ago over the root of the sum of its squared one-bar
      changes (about a standard normal number on a random walk), minus the mean of all markets of the group, in full
      from ``full`` on (Jegadeesh and Titman, 1993, on shares; Asness, Moskowitz and Pedersen, Value and Momentum
      Everywhere, 2013, on futures, both without the last month; against the group's mean: Carver, Advanced Futures
      Trading Strategies, 2023, strategy 19).

    A group is the ``group`` of the instruments in config.ini; those without one are a group of their own. Exchanges
    close at different times: the mean is of the last period (of the width of a bar) that was over at the bar's
    instant, and the market's own strength is that of the bar before, so that both are of the same time. Unknown (null)
    until ``length`` bars are available and again after a gap in the closes, for fewer than ``least`` known markets in
    the group, and for a market that has not moved. Only differences and their ratios are used: adjusted and negative
    prices work, and mirrored paths mirror the scores.

    Cross-sectional: it uses the closes of all symbols.
    """

    name: ClassVar[str] = "relative"
    cross_sectional: ClassVar[bool] = True

    length: int = Field(250, gt=2, le=1000, description="bars back to the start of the change")
    skip: int = Field(20, ge=1, le=500, description="newest bars left out: last month's winners often fall back")
    full: float = Field(1.5, gt=0, le=20, description="strength above the group's mean that counts in full")
    least: int = Field(3, ge=2, le=1000, description="known markets that a group needs")
    groups: dict[str, str] = Field({}, max_length=100_000, description="symbol: group; from the instruments")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.skip < self.length - 1:
            raise ValueError(f"skip < length - 1 expected, got {self.skip}, {self.length - 1}")
        return self

    @property
    def history(self) -> int:
        return self.length + 2

    @property
    def common_history(self) -> int:
        return self.history + STALE

    def parts(self, bars: Panel) -> Parts:
        mine = lagged(bars, self._strength(bars), 1)
        means = bars.beside if self._column(EVERYONE) in bars.beside else self.common(bars)  # then it has all symbols
        usual, groups = np.full(len(mine), np.nan), self._groups(bars)
        for group in set(groups):
            rows = (groups == group)[bars.slices]
            usual[rows] = means[self._column(group)][rows]
        return Parts(
            parts={"strength": 100 * ramp(mine - usual, self.full, np.zeros(len(mine), np.bool_))},
            features=Features({"close": bars.close, "own": mine, "group": usual}),
        )

    def _column(self, group: str) -> str:
        return f"{self.name} {group}"

    @property
    def _all(self) -> list[str]:
        return sorted({EVERYONE, *self.groups.values()})

    def _groups(self, bars: Panel) -> npt.NDArray[np.object_]:
        """Of each slice."""
        return np.array([self.groups.get(symbol, EVERYONE) for symbol in bars.symbols], dtype=object)

    def _strength(self, bars: Panel) -> Column:
        """Of each bar, ``skip`` - 1 bars late: ``parts`` takes that of the bar before."""
        count, step = self.length - self.skip, change(bars, bars.close)
        strength = share(change(bars, bars.close, count), np.sqrt(total(bars, step * step, count)))
        return lagged(bars, strength, self.skip - 1)

    def common(self, closes: Panel) -> dict[str, Column]:
        """For each bar the mean strength of each group, from the periods that were over at its instant."""
        if not len(closes.ts):
            return {self._column(group): np.empty(0) for group in self._all}
        period, column = np.unique(periods(closes.ts, closes.interval), return_inverse=True)
        table = np.full((len(period), len(closes.symbols)), np.nan)
        table[column, closes.slices] = self._strength(closes)  # the last of several bars in a period counts
        known, groups = pd.DataFrame(table).ffill(limit=STALE).to_numpy(), self._groups(closes)
        means = {}
        for group in self._all:
            mean = self._mean(np.ascontiguousarray(known[:, groups == group]))
            means[self._column(group)] = np.where(column > 0, mean[np.maximum(column - 1, 0)], np.nan)
        return means

    def _mean(self, strengths: Column) -> Column:
        known = ~np.isnan(strengths)
        count = known.sum(axis=1)
        mean = np.where(known, strengths, 0.0).sum(axis=1) / np.maximum(count, 1)
        return np.where(count >= self.least, mean, np.nan)
