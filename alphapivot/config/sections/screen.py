"""[quality]: the thresholds of the checks that bars go through."""

from __future__ import annotations

from pydantic import Field

from alphapivot.config.sections.base import Section


class Quality(Section):
    """[quality]: which bars are implausible; a threshold of 0 turns its check off. See data/checks.py."""

    window: int = Field(60, ge=20, description="bars before a bar that say what is usual")
    gap_bars: int = Field(5, ge=0, description="bars missing in a row that stop entries")
    spike_z: float = Field(25, ge=0, description="robust z-score of a return that the other market does not share")
    stale_bars: int = Field(5, ge=0, description="unchanged bars in a row that stop entries")
    zero_volume_bars: int = Field(5, ge=0, description="bars without a trade in a row that stop entries")
    intraday: int = Field(12, ge=1, description="within the day the bars above are so many times more")
    scale: float = Field(0.1, ge=0, lt=1, description="how near 10 or 100 times the usual price is a wrong scale")
    shift: float = Field(0.3, ge=0, le=2, description="correlation gained by moving a market a day that stops entries")
    split: float = Field(0.03, ge=0, lt=0.2, description="how near a simple ratio an overnight change is a split")
    price_noise: float = Field(0.5, ge=0, description="ticks by which a bar may differ and be the same bar")
    volume_settles: float = Field(3, ge=0, description="days in which new volume alone reopens no signal")
