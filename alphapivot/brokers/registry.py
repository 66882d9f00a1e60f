"""Opens the broker that [execution] names; ``alphapivot.config.sections.brokers`` lists the kinds."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from alphapivot.brokers import modes
from alphapivot.brokers.pace import Paced

if TYPE_CHECKING:
    from alphapivot.brokers.base import Broker
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub


def check(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Raises ConfigError for an account that ``open_broker`` would refuse; sends no request."""
    modes.allow(settings, environ)
    section = settings.brokers[settings.execution.broker]
    if not section.simulated:
        pkgutil.resolve_name(section.opens)(None, settings)


def open_broker(hub: Hub, settings: Settings, environ: Mapping[str, str] = os.environ) -> Broker:
    """Opens the account of [execution] broker, restricted by [execution] mode and [risk] messages_per_second."""
    modes.allow(settings, environ)
    section = settings.brokers[settings.execution.broker]
    broker: Broker = pkgutil.resolve_name(section.opens)(hub, settings)
    if settings.execution.mode == "shadow":
        return modes.Shadow(broker)
    per_second = settings.risk.messages_per_second
    return broker if per_second is None or section.simulated else Paced(broker, per_second)
