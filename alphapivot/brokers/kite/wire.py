"""
Requests to Kite with the login of the day, within its limits, and what each failure proves.

10 orders in a second of the clock, 400 in a minute, 5,000 in a day, 10 other requests in a second
(https://kite.trade/docs/connect/v3/exceptions/#api-rate-limit, kite.trade/forum/discussion/15912). Modifying and
cancelling is counted as ordering. The day of the limits ends at midnight UTC, 05:30 in India: no market is open then.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from alphapivot.brokers.base import Answer, NotSent, Rejected, Throttled, Unknown
from alphapivot.errors import TradingHalted, Unavailable
from alphapivot.venues.budget import Budget, Rule
from alphapivot.venues.kite import client, login
from alphapivot.venues.kite.client import KiteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import requests

    from alphapivot.config.sections.brokers import KiteBroker

T = TypeVar("T")
ORDERS = (Rule(10, 1, calendar=True), Rule(400, 60), Rule(5000, 86400, calendar=True))
READS = (Rule(10, 1, calendar=True),)
SOON = 1.0  # seconds that a send waits for the limits; longer waits are the executor's
ADDRESS = "is the address of this machine among the app's at developers.kite.trade?"


class Wire:
    """One account. The login is read at each request: `alphapivot login kite` needs no restart of anything."""

    def __init__(
        self,
        section: KiteBroker,
        environ: Mapping[str, str] = os.environ,
        *,
        orders: Sequence[Rule] = ORDERS,
        reads: Sequence[Rule] = READS,
    ) -> None:
        self._section, self._key = section, login.api_key(environ)
        self._orders, self._reads = Budget("Kite's orders", orders), Budget("Kite's answers", reads)
        self._open: tuple[str, Any] = ("", None)  # the token, its client
        self.at: datetime | None = None

    @property
    def now(self) -> datetime:
        """Kite's clock at its last answer; ours before the first one."""
        return self.at or datetime.now(UTC)

    @property
    def user(self) -> str:
        """Whose login it is. Raises TradingHalted without one of today."""
        return self._login().user

    def read(self, ask: Callable[[Any], T], what: str) -> T:
        """The answer; Unavailable, or TradingHalted where someone must act first."""
        self._reads.take()
        try:
            return client.call(lambda: ask(self._client()))
        except KiteError as error:
            raise _unavailable(error, what) from None

    def send(self, ask: Callable[[Any], T]) -> T | Answer:
        """The answer of an order request, or the reply that its failure proves. Raises TradingHalted."""
        while wait := self._orders.taken():
            if wait > SOON:
                return Throttled(wait)
            time.sleep(wait)
        try:
            return client.call(lambda: ask(self._client()))
        except KiteError as error:
            if error.kind in ("login", "permission"):
                raise _unavailable(error, "order") from None
            if error.kind == "rate":
                return Throttled(SOON)
            if error.kind == "refused":
                return Rejected(error.told)
            return NotSent(error.told) if error.kind == "unreachable" else Unknown(error.told)

    def cancel(self, ask: Callable[[Any], object], client_order_id: str) -> None:
        """Requests a cancel; one that is refused comes too late, as the next look at the order shows."""
        reply = self.send(ask)
        if isinstance(reply, Throttled):
            raise Unavailable(f"cancel {client_order_id}: too many requests to Kite")
        if isinstance(reply, NotSent | Unknown):
            raise Unavailable(f"cancel {client_order_id}: {reply.reason}")

    def _login(self) -> login.Login:
        return login.current(self._key, datetime.now(UTC))

    def _client(self) -> Any:
        token = self._login().token
        if self._open[0] != token:
            made = client.opened(self._key, token, self._section.base_url, self._section.timeout)
            made.reqsession.hooks["response"].append(self._heard)
            self._open = (token, made)
        return self._open[1]

    def _heard(self, response: requests.Response, *_: Any, **__: Any) -> None:
        stamp = response.headers.get("Date")
        self.at = parsedate_to_datetime(stamp).astimezone(UTC) if stamp else None


def _unavailable(error: KiteError, what: str) -> Unavailable | TradingHalted:
    if error.kind == "login":
        return TradingHalted(error.told)
    if error.kind == "permission":
        return TradingHalted(f"{error.told}: {ADDRESS}")
    return Unavailable(f"{what}: {error.told}")
