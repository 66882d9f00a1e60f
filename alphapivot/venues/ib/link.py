"""
The connection to IB Gateway or TWS: ib_async's client in a thread with its own event loop, and what the wire has said.

ib_async (2.1) calls an order cancelled after any error that it does not know as a warning, although the order may live
on (ib_async issue 191, pysystemtrade issue 1580). So the states and errors of orders are kept as the gateway sends
them, and ib_async's own are never used.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from alphapivot.errors import ConfigError, TradingHalted, Unavailable

if TYPE_CHECKING:
    from ib_async import IB

logging.getLogger("ib_async").setLevel(logging.CRITICAL)  # what went wrong is in our own errors, with what to do
T = TypeVar("T")
AGAIN = 0.5  # seconds until the next try
LOOK = 0.05  # seconds between looks at what has been said
IN_USE, READ_ONLY = 326, "read-only"
LOST, RESTORED = (1100, 504, 2110), (1101, 1102)  # the gateway's own connection to the servers
INSTALL = "pip install --no-deps ib_async 'aeventkit<3' nest_asyncio"


@dataclass(frozen=True)
class Login:
    """Where a gateway listens, and as which of its clients; ``account`` empty: prices only, whatever the account."""

    host: str
    port: int
    client_id: int
    timeout: float  # seconds
    account: str = ""  # paper or live
    number: str = ""


@dataclass
class Told:
    """What the gateway has said of one order, by its latest orderStatus."""

    status: str
    filled: float
    remaining: float
    average: float
    why_held: str


@dataclass
class Heard:
    """What has come over the wire since the connection: by permId, and errors by the number of the request or order."""

    orders: dict[int, Told] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)  # our order number -> permId
    errors: dict[int, list[tuple[int, str]]] = field(default_factory=dict)
    lost: str | None = None
    latest: str = ""  # what it said last of a request, if that was not that all is well

    def order_status(self, number: int, perm_id: int, told: Told) -> None:
        if perm_id:  # 0: the gateway has it, and IB's servers have not given it theirs
            self.orders[perm_id] = told
            self.numbers[number] = perm_id

    def said(self, code: int) -> bool:
        """True if this error has come, of whatever request."""
        return any(code == its for errors in self.errors.values() for its, _ in errors)

    def error(self, number: int, code: int, message: str) -> None:
        self.errors.setdefault(number, []).append((code, message))
        if number >= 0:
            self.latest = f"{code}: {message}"
        if code in LOST:
            self.lost = f"{code}: {message}"
        elif code in RESTORED:
            self.lost = None


def shared(login: Login) -> Link:
    """This process's connection: a gateway takes one for each client id, and orders belong to the id that sent them."""
    return _LINKS.setdefault(login, Link(login))


class Link:
    """One connection with the login's client id, opened at the first request and again after it was lost."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._ib: IB | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._one, self._process = threading.Lock(), os.getpid()
        self.heard = Heard()
        self.account = ""

    def ask(self, make: Callable[[IB], Awaitable[T]], what: str, seconds: float | None = None) -> T:
        """The answer to a request; Unavailable without one in time."""
        ib, limit = self._connected(), seconds or self.login.timeout
        self.heard.latest = ""
        if self.heard.lost:
            raise Unavailable(f"the gateway has lost Interactive Brokers' servers ({self.heard.lost})")
        try:
            return self._run(lambda: make(ib), limit)
        except (TimeoutError, ConnectionError, OSError) as error:
            self.close()
            said = f"it said {self.heard.latest}" if self.heard.latest else f"{type(error).__name__} {error}".strip()
            raise Unavailable(f"Interactive Brokers did not answer {what}: {said}") from None

    def open(self) -> None:
        """Connects; Unavailable, TradingHalted or ConfigError says what to do."""
        self._connected()

    def close(self) -> None:
        """Ends the connection; the next request opens it again."""
        ib, self._ib = self._ib, None
        if ib is not None:
            self._hang_up(ib)

    def _hang_up(self, ib: IB) -> None:
        if self._loop is not None:  # only its own thread may touch it
            self._loop.call_soon_threadsafe(ib.disconnect)

    def _connected(self) -> IB:
        if self._process != os.getpid():  # a fork has neither the thread nor the connection
            self._process, self._one, self._loop, self._ib = os.getpid(), threading.Lock(), None, None
        with self._one:
            if self._ib is None or not self._ib.isConnected():
                self._ib = self._open()
            return self._ib

    def _open(self) -> IB:
        login, place = self.login, f"{self.login.host}:{self.login.port}"
        deadline = time.monotonic() + login.timeout
        while True:
            try:
                ib = self._connect()
                break
            except ConnectionRefusedError:
                raise Unavailable(
                    f"nothing listens at {place}: start IB Gateway or TWS, log in, and enable its API (Configure, API,"
                    " Settings); its ports are 4002 (Gateway, paper), 4001 (Gateway, live), 7497 and 7496 (TWS)"
                ) from None
            except (TimeoutError, ConnectionError, OSError) as error:
                in_use = self.heard.said(IN_USE)
                if in_use and time.monotonic() < deadline:
                    time.sleep(AGAIN)  # the gateway notices after a moment that the run before has ended
                    continue
                if in_use:
                    raise Unavailable(
                        f"client id {login.client_id} is in use at {place}: another program or run is connected with"
                        " it; wait for it, or give it another id"
                    ) from None
                raise Unavailable(
                    f"no session at {place} within {login.timeout:g} s ({type(error).__name__}: {error}): is the"
                    " gateway logged in, its second factor confirmed, and this machine among its trusted addresses?"
                ) from None
        self.account = self._chosen(ib)
        return ib

    def _connect(self) -> IB:
        try:
            from ib_async import IB, StartupFetch  # noqa: PLC0415 - optional
        except ImportError:
            raise ConfigError(f"kind = ib needs Interactive Brokers' client: {INSTALL}") from None
        login, self.heard = self.login, Heard()
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="ib", daemon=True).start()
        fetched = StartupFetch(0)
        if login.account:
            fetched = StartupFetch.ORDERS_OPEN | StartupFetch.ORDERS_COMPLETE | StartupFetch.EXECUTIONS

        async def connect() -> IB:
            ib = IB()
            _listen(ib, self.heard)
            connecting = asyncio.ensure_future(
                ib.connectAsync(
                    login.host,
                    login.port,
                    clientId=login.client_id,
                    timeout=login.timeout,
                    account=login.number,
                    # else a request that timed out reads as an empty list: proof that an order never came
                    raiseSyncErrors=True,
                    fetchFields=fetched,
                )
            )
            # refused, ib_async would wait for the whole time-out, and nothing were left of it to try again
            while not (await asyncio.wait({connecting}, timeout=LOOK))[0]:
                if self.heard.said(IN_USE):
                    connecting.cancel()
                    ib.disconnect()
                    raise ConnectionError(f"client id {login.client_id} is in use")
            await connecting
            return ib

        return self._run(connect, 3 * login.timeout)

    def _chosen(self, ib: IB) -> str:
        """The account; refuses one that is not what [broker.*] account says."""
        if not self.login.account:
            return ""
        accounts, number = ib.managedAccounts(), self.login.number
        told = ""
        if number and number not in accounts:
            told = f"this login has {', '.join(accounts)}, not number = {number}"
        elif not number and len(accounts) != 1:
            told = f"this login has {', '.join(accounts)}: say which in number = ..."
        chosen = number or accounts[0]
        paper = chosen.startswith("D")  # IB's paper accounts: DU, DF, DI
        if not told and paper != (self.login.account == "paper"):
            told = f"{chosen} is a {'paper' if paper else 'live'} account, and the config says {self.login.account}"
        if told:
            self._hang_up(ib)
            raise TradingHalted(f"Interactive Brokers: {told}")
        return chosen

    def _run(self, make: Callable[[], Awaitable[T]], seconds: float) -> T:
        async def limited() -> T:
            return await asyncio.wait_for(make(), seconds)

        assert self._loop is not None  # noqa: S101 - opened by _open
        return asyncio.run_coroutine_threadsafe(limited(), self._loop).result(seconds + 5)


def _listen(ib: IB, heard: Heard) -> None:
    """Keeps what the gateway says of orders, before ib_async has its own thoughts on it."""
    wrapper: Any = ib.wrapper
    status, error = wrapper.orderStatus, wrapper.error

    def order_status(number: int, state: str, filled: float, remaining: float, average: float, *rest: Any) -> None:
        heard.order_status(number, rest[0], Told(state, filled, remaining, average, why_held=rest[4]))
        status(number, state, filled, remaining, average, *rest)

    def told_error(number: int, code: int, message: str, advanced: str = "") -> None:
        heard.error(number, code, message)
        error(number, code, message, advanced)

    wrapper.orderStatus, wrapper.error = order_status, told_error


_LINKS: dict[Login, Link] = {}
