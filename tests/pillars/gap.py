"""A pillar of one's own, as the text of its file."""

GAP = '''
from typing import ClassVar
from pydantic import Field
from pillars.base import Panel, Parts, Pillar
from pillars.indicators import atr, ramp, still


class Gap(Pillar):
    """Fades what a bar has moved since its open."""

    name: ClassVar[str] = "gap"
    atr: int = Field(14, gt=1, le=200, description="ATR, bars")

    @property
    def history(self) -> int:
        return 20 * self.atr

    def parts(self, bars: Panel) -> Parts:
        gap = ramp(bars.open - bars.close, atr(bars, self.atr), still(bars, 20))
        return Parts(parts={"gap": 100 * gap}, features={"gap": gap})
'''
