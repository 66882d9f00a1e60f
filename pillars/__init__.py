"""The registry of pillars by name."""

from pillars.base import Pillar
from pillars.carry import Carry
from pillars.flow import Flow
from pillars.momentum import Momentum
from pillars.quality import Quality
from pillars.relative import Relative
from pillars.reversion import Reversion
from pillars.risk import Risk
from pillars.structure import Structure
from pillars.trend import Trend

PILLARS: dict[str, type[Pillar]] = {
    "trend": Trend,
    "momentum": Momentum,
    "carry": Carry,
    "relative": Relative,
    "reversion": Reversion,
    "flow": Flow,
    "structure": Structure,
    "quality": Quality,
    "risk": Risk,
}
__all__ = ["PILLARS", "Pillar"]
