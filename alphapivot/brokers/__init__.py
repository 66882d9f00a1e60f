"""BROKERS: the kind of a [broker.*] section -> what opens it. A new broker is one more line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from alphapivot.brokers import paper
from alphapivot.brokers.base import Broker

if TYPE_CHECKING:
    from alphapivot.hub import Hub
    from alphapivot.settings import Settings

BROKERS: dict[str, Callable[[Hub, Settings], Broker]] = {
    "paper": paper.open_paper,
}


def open_broker(hub: Hub, settings: Settings) -> Broker:
    """The account that [execution] broker names."""
    return BROKERS[settings.brokers[settings.execution.broker].kind](hub, settings)
