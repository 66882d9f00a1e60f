"""BROKERS: the kind of a [broker.*] section -> what opens it. A new broker is one more line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from alphapivot.brokers import modes, paper
from alphapivot.brokers.base import Broker, Replaying
from alphapivot.brokers.pace import Paced

if TYPE_CHECKING:
    from alphapivot.hub import Hub
    from alphapivot.settings import Settings


def _alpaca(hub: Hub | None, settings: Settings) -> Broker:
    from alphapivot.brokers.alpaca import open_alpaca  # noqa: PLC0415 - its SDK takes a second to import

    return open_alpaca(hub, settings)


BROKERS: dict[str, Callable[[Hub, Settings], Broker]] = {
    "alpaca": _alpaca,
    "paper": paper.open_paper,
}


def check(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """ConfigError for an account that ``open_broker`` would refuse, before a run begins; asks nobody anything."""
    modes.allow(settings, environ)
    if settings.brokers[settings.execution.broker].kind == "alpaca":
        _alpaca(None, settings)


def open_broker(hub: Hub, settings: Settings, environ: Mapping[str, str] = os.environ) -> Broker:
    """The account that [execution] broker names, as far as [execution] mode lets orders go."""
    modes.allow(settings, environ)
    broker = BROKERS[settings.brokers[settings.execution.broker].kind](hub, settings)
    if settings.execution.mode == "shadow":
        return modes.Shadow(broker)
    per_second = settings.risk.messages_per_second
    # a simulated broker knows no hurry
    return broker if per_second is None or isinstance(broker, Replaying) else Paced(broker, per_second)
