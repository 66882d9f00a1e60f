"""Opens the broker that [execution] names; ``alphapivot.config.sections.brokers`` lists the kinds."""

from __future__ import annotations

import logging
import os
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alphapivot.brokers import modes
from alphapivot.brokers.pace import Paced
from alphapivot.config.sections.brokers import LoginBroker
from alphapivot.errors import ConfigError, TradingHalted, Unavailable
from alphapivot.venues import logins

if TYPE_CHECKING:
    from datetime import datetime

    from alphapivot.brokers.base import Broker
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

log = logging.getLogger("alphapivot.brokers")


@dataclass(frozen=True)
class Terms:
    """
    Terms in the config that the market contradicts (``wrong``), what may be rejected today (``cautions``), and what
    else it says of the account, for `alphapivot broker test` (``told``).
    """

    wrong: Sequence[str] = ()
    cautions: Sequence[str] = ()
    told: Sequence[str] = ()


def check(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Raises ConfigError for an account that ``open_broker`` would refuse; sends no request."""
    modes.allow(settings, environ)
    pkgutil.resolve_name(settings.brokers[settings.execution.broker].opens)(None, settings)


def compare(hub: Hub, settings: Settings, environ: Mapping[str, str] = os.environ, *, again: bool = True) -> Terms:
    """
    Terms of the instruments that the market contradicts, as it reports them itself; none where it cannot be asked.

    ``again``: also if they were found good today. Raises Unavailable if it does not answer.
    """
    section = settings.brokers[settings.execution.broker]
    if section.compares is None:
        return Terms()
    terms: Terms = pkgutil.resolve_name(section.compares)(hub, settings, environ, again=again)
    return terms


def logged_out(settings: Settings, opens: datetime, environ: Mapping[str, str] = os.environ) -> str:
    """What is wrong with the login to [execution] broker, for the open at ``opens``, and what to do; empty: nothing."""
    section = settings.brokers[settings.execution.broker]
    return logins.missing(section.logins, settings, opens, environ) if isinstance(section, LoginBroker) else ""


def refuse(hub: Hub, settings: Settings) -> None:
    """
    Raises ConfigError for terms that the market contradicts, before a run that decides. A market that does not answer
    refuses nothing: the run itself deals with that.
    """
    try:
        terms = compare(hub, settings, again=False)
    except (Unavailable, TradingHalted) as error:
        log.warning("terms were not compared: %s", error)
        return
    for caution in terms.cautions:
        log.warning(caution)
    if terms.wrong:
        lines = "\n  ".join(terms.wrong)
        raise ConfigError(f"[broker.{settings.execution.broker}] has other terms:\n  {lines}")


def open_broker(hub: Hub, settings: Settings, environ: Mapping[str, str] = os.environ) -> Broker:
    """Opens the account of [execution] broker, restricted by [execution] mode and [risk] messages_per_second."""
    modes.allow(settings, environ)
    section = settings.brokers[settings.execution.broker]
    broker: Broker = pkgutil.resolve_name(section.opens)(hub, settings)
    if settings.execution.mode == "shadow":
        return modes.Shadow(broker, settings.execution.share)
    per_second = settings.risk.messages_per_second
    return broker if per_second is None or section.simulated else Paced(broker, per_second)
