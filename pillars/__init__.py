"""The pillars by name: the registry is this dict."""

from pillars.base import Pillar
from pillars.momentum import Momentum
from pillars.trend import Trend

PILLARS: dict[str, type[Pillar]] = {
    "trend": Trend,
    "momentum": Momentum,
}
__all__ = ["PILLARS", "Pillar"]
