"""
Trading modes: paper (no real money), shadow (orders computed and journalled, never sent), live (real money).

Live needs both `mode = live` in config.ini and ALPHAPIVOT_LIVE=<book> in the environment of the process that trades.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from alphapivot.brokers.base import (
    Absent,
    Account,
    Answer,
    Broker,
    BrokerFill,
    BrokerOrder,
    Key,
    OrderSpec,
    Ref,
    Rejected,
    Unreadable,
)
from alphapivot.brokers.wrapper import BrokerWrapper
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings

LIVE = "ALPHAPIVOT_LIVE"


class Shadow(BrokerWrapper):
    """
    A real account, read only: this book has no orders or positions there, whatever else the account holds. Its money is
    the book's ``share`` of it.
    """

    def __init__(self, broker: Broker, share: Decimal = Decimal(1)) -> None:
        super().__init__(broker)
        self._share = share

    def account(self) -> Account:
        whole, share = super().account(), self._share
        cash, equity, free = (amount * share for amount in (whole.cash, whole.equity, whole.free))
        return replace(whole, cash=cash, equity=equity, free=free, number=None)  # another book may trade this account

    def positions(self) -> dict[Key, Decimal]:
        return {}

    def open_orders(self) -> Sequence[BrokerOrder | Unreadable]:
        return []

    def find(self, refs: Sequence[Ref], since: datetime) -> Mapping[str, BrokerOrder | Absent | Unreadable]:  # noqa: ARG002 - none was sent
        return {ref.client_order_id: Absent() for ref in refs}

    def fills(self, since: datetime) -> Sequence[BrokerFill | Unreadable]:  # noqa: ARG002 - the same
        return []

    def submit(self, spec: OrderSpec) -> Answer:  # noqa: ARG002 - the same
        return Rejected("shadow: computed and journalled, not sent")

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:  # noqa: ARG002 - the same
        return Rejected("shadow: computed and journalled, not sent")

    def cancel(self, ref: Ref) -> None:
        pass


def allow(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raises ConfigError unless the mode fits the broker, and live mode is confirmed in the environment."""
    execution = settings.execution
    broker = settings.brokers[execution.broker]
    real = broker.real_money
    place = f"[broker.{execution.broker}]"
    if execution.mode == "paper" and real:
        hint = broker.no_paper or "set its account = paper, or mode = shadow or live"
        raise ConfigError(f"[execution] mode = paper, but {place} is the live account: {hint}")
    if execution.mode == "shadow" and broker.simulated:
        raise ConfigError(f"[execution] mode = shadow reads a real account, but {place} is simulated: set mode = paper")
    if execution.mode != "live":
        return
    if not real:
        raise ConfigError(
            f"[execution] mode = live, but {place} is not a live account: set mode = paper, or account = live"
        )
    if environ.get(LIVE) != execution.book:
        actual = f"is {environ[LIVE]!r}" if LIVE in environ else "is not set"
        raise ConfigError(
            f"live trading needs a confirmation: {LIVE} {actual}; start with {LIVE}={execution.book} if you mean it, or"
            " set [execution] mode = shadow to see what would be ordered"
        )
