"""
ccxt's real client of one exchange (https://docs.ccxt.com), and the meaning of each of its errors.

ccxt says what kind of error an exchange returned; the HTTP status beside it says whether anything was carried out. A
4xx is definite; 5xx, broken connections and time-outs prove nothing about an order that was sent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from alphapivot.venues.ccxt.facts import Venue, Way

logging.getLogger("ccxt").setLevel(logging.CRITICAL)  # its debug lines hold the keys
T = TypeVar("T")
Kind = Literal["keys", "clock", "missing", "duplicate", "refused", "rate", "unreachable", "unclear"]
INSTALL = "pip install --no-deps ccxt"  # what it needs is here; its pins would take others' away
SERVER = 500
TOLD = {
    "keys": "refuses the API key, what it may do, or the address of this machine",
    "clock": "refuses the time of the request: this machine's clock is wrong",
    "rate": "limits the rate of requests",
    "unreachable": "cannot be reached",
}
# what may stand in an error's text: ccxt repeats the address of the request, signature included
SIGNED = re.compile(r"(https?://[^\s?]+)\?\S*")


class VenueError(Exception):
    """``kind``: what may be done about it; ``unreachable``: nothing can have arrived; ``unclear``: it may have."""

    def __init__(self, kind: Kind, told: str) -> None:
        super().__init__(told)
        self.kind, self.told = kind, told


def library(place: str) -> Any:
    """ccxt; ConfigError where it is missing."""
    try:
        return import_module("ccxt")  # optional, and heavy
    except ImportError:
        raise ConfigError(f"{place} kind = ccxt needs its package: {INSTALL}") from None


def moved(urls: Any, base: str) -> Any:
    """The addresses of an exchange on another host."""
    if isinstance(urls, dict):
        return {name: moved(url, base) for name, url in urls.items()}
    return base + urlsplit(urls).path if isinstance(urls, str) else urls


class Client:
    """One account at an exchange. ``at``: the exchange's clock at its last answer."""

    def __init__(
        self,
        exchange: str,
        venue: Venue,
        way: Way,
        keys: Mapping[str, str],
        *,
        place: str,
        sandbox: bool,
        base_url: str | None = None,
        timeout: float = 10,
    ) -> None:
        self.venue, self._errors = venue, library(place)
        here = (base_url or "").startswith("http://")  # a server of this machine
        self.ccxt = getattr(self._errors, exchange)(
            {**keys, "enableRateLimit": not here, "timeout": int(timeout * 1000), "options": dict(way.options)}
        )
        self.ccxt.number = str  # floats never reach an order
        self.ccxt.has["fetchCurrencies"] = False  # not needed, and behind a permission of its own
        if sandbox and way.demo:
            self.ccxt.enable_demo_trading(True)
        elif sandbox:
            self.ccxt.set_sandbox_mode(True)
        if base_url is not None:
            self.ccxt.urls["api"] = moved(self.ccxt.urls["api"], base_url.rstrip("/"))
            self.ccxt.hostname = urlsplit(base_url).netloc
            self.ccxt.session.trust_env = not here  # a proxy never sees a server of this machine
        self.ccxt.session.hooks["response"].append(self._heard)
        self.at: datetime | None = None
        self._status: int | None = None

    def call(self, ask: Callable[[Any], T]) -> T:
        """The answer; VenueError says what an error means, and never repeats a key or a signature."""
        self._status = None
        try:
            return ask(self.ccxt)
        except self._errors.BaseError as error:
            raise self._meaning(error) from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # an answer without its usual parts
            told = f"{self.venue.name}'s answer cannot be read ({type(error).__name__})"
            raise VenueError("unclear", told) from None

    def _heard(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self._status = response.status_code
        stamp = response.headers.get("Date")
        self.at = parsedate_to_datetime(stamp).astimezone(UTC) if stamp else None

    def _meaning(self, error: Exception) -> VenueError:
        said = " ".join(SIGNED.sub(r"\1", str(error)).split())[:300]
        kind = self._kind(error, said)
        return VenueError(kind, f"{self.venue.name} {TOLD.get(kind, type(error).__name__)} ({said})")

    def _kind(self, error: Exception, said: str) -> Kind:
        e, venue = self._errors, self.venue
        by_words: tuple[tuple[Kind, tuple[str, ...]], ...] = (
            ("keys", venue.keys_wrong),
            ("duplicate", venue.duplicate),
            ("unclear", venue.unclear),
        )
        by_class: tuple[tuple[Kind, tuple[type, ...]], ...] = (
            ("keys", (e.AuthenticationError,)),
            ("clock", (e.InvalidNonce,)),
            ("rate", (e.DDoSProtection, e.RateLimitExceeded)),
            ("missing", (e.OrderNotFound,)),
            ("duplicate", (e.DuplicateOrderId,)),
        )
        known: list[Kind] = [kind for kind, words in by_words if any(word in said for word in words)]
        known += [kind for kind, kinds in by_class if isinstance(error, kinds)]
        if known:
            return known[0]
        if isinstance(error, e.OperationFailed):
            return "unreachable" if _never_left(error) else "unclear"
        return "refused" if self._status is None or self._status < SERVER else "unclear"


def _never_left(error: BaseException) -> bool:
    """True if no connection was made."""
    cause = error.__cause__
    reason = getattr(cause.args[0], "reason", None) if cause is not None and cause.args else None
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)
