"""A pillar of your own: change it, then `alphapivot pillars test own/drift.py` holds it against the contract."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from pillars.base import Column, Panel, Parts, Pillar


def change(close: Column, n: int) -> Column:
    return np.concatenate([np.full(min(n, len(close)), np.nan), close[n:] - close[:-n]])


class Drift(Pillar):
    """Which way the close has moved over ``bars`` bars."""

    name: ClassVar[str] = "drift"
    bars: int = Field(20, gt=0, description="bars looked back")

    @property
    def history(self) -> int:
        return self.bars

    def parts(self, bars: Panel) -> Parts:
        moved = bars.each(change, bars.close, n=self.bars)
        return Parts(parts={"drift": 50 * np.sign(moved)}, features={"moved": moved, "close": bars.close})
