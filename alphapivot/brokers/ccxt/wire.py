"""Requests to an exchange, and what each failure of them proves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from alphapivot.brokers.base import Answer, Duplicate, NotSent, Rejected, Throttled, Unknown
from alphapivot.errors import TradingHalted, Unavailable
from alphapivot.venues.ccxt.client import VenueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from alphapivot.venues.ccxt.client import Client

T = TypeVar("T")
SOON = 1.0  # seconds until a request that came too soon is tried again
HINTS = {
    "keys": "; check the key, that it may trade (reading alone is not enough; withdrawals are not needed), that this"
    " machine's address is among those allowed, and that it is a key of the account named here: a sandbox has keys of"
    " its own",
    "clock": "; synchronise it (timedatectl set-ntp true)",
}


class Wire:
    """One account."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def at(self) -> datetime | None:
        """The exchange's clock at its last answer."""
        return self._client.at

    @property
    def now(self) -> datetime:
        """The same; ours before the first answer."""
        return self._client.at or datetime.now(UTC)

    def read(self, ask: Callable[[Any], T], what: str) -> T:
        """The answer; Unavailable, or TradingHalted where someone must act first."""
        try:
            return self._client.call(ask)
        except VenueError as error:
            raise unavailable(error, what) from None

    def found(self, ask: Callable[[Any], T], what: str) -> T | None:
        """The answer; None if the exchange says that there is no such order."""
        try:
            return self._client.call(ask)
        except VenueError as error:
            if error.kind == "missing":
                return None
            raise unavailable(error, what) from None

    def send(self, ask: Callable[[Any], T]) -> T | Answer:
        """The answer of an order request, or the reply that its failure proves. Raises TradingHalted."""
        try:
            return self._client.call(ask)
        except VenueError as error:
            if error.kind == "keys":
                raise unavailable(error, "order") from None
            if error.kind == "rate":
                return Throttled(SOON)
            if error.kind == "duplicate":
                return Duplicate()
            if error.kind in ("refused", "missing"):
                return Rejected(error.told)
            if error.kind in ("unreachable", "clock"):  # the clock is checked before anything is carried out
                return NotSent(error.told + HINTS.get(error.kind, ""))
            return Unknown(error.told)

    def cancel(self, ask: Callable[[Any], object], client_order_id: str) -> None:
        """Requests a cancel; one that is refused comes too late, as the next look at the order shows."""
        reply = self.send(ask)
        if isinstance(reply, Throttled):
            raise Unavailable(f"cancel {client_order_id}: too many requests to the exchange")
        if isinstance(reply, NotSent | Unknown):
            raise Unavailable(f"cancel {client_order_id}: {reply.reason}")


def unavailable(error: VenueError, what: str) -> Unavailable | TradingHalted:
    told = error.told + HINTS.get(error.kind, "")
    return TradingHalted(told) if error.kind == "keys" else Unavailable(f"{what}: {told}")
