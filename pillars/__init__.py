"""The pillars by name: the registry is this dict."""

from pillars.base import Pillar

PILLARS: dict[str, type[Pillar]] = {}
__all__ = ["PILLARS", "Pillar"]
