"""
Kite's real client (kiteconnect), and the meaning of each of its errors (https://kite.trade/docs/connect/v3/exceptions/).

A 400 is definite; 5xx and time-outs prove nothing about an order that was sent.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import requests
from urllib3.exceptions import NewConnectionError

from alphapivot.errors import ConfigError
from alphapivot.venues.kite.login import COMMAND, KEY

if TYPE_CHECKING:
    from collections.abc import Callable

logging.getLogger("kiteconnect").setLevel(logging.CRITICAL)  # its debug lines hold the token
T = TypeVar("T")
INSTALL = "pip install kiteconnect"
TOO_MANY, SERVER = 429, 500
Kind = Literal["login", "permission", "refused", "rate", "unreachable", "unclear"]
TOLD = {
    "TokenException": f"the login is over, or was ended by another one: run `{COMMAND}`",
    "PermissionException": "the app at developers.kite.trade, or the account, may not do this",
    "InputException": "the request is wrong",
    "OrderException": "the order was refused",
    "DataException": "its order system gave no usable answer",
    "NetworkException": "its order system cannot be reached",
}


class KiteError(Exception):
    """``kind``: what may be done about it; ``unreachable``: nothing can have arrived; ``unclear``: it may have."""

    def __init__(self, kind: Kind, told: str) -> None:
        super().__init__(told)
        self.kind, self.told = kind, told

    @property
    def transient(self) -> bool:
        return self.kind in ("rate", "unreachable", "unclear")


def opened(key: str, token: str | None, root: str | None, timeout: float) -> Any:
    """A KiteConnect; ConfigError where its package is missing."""
    try:
        module = import_module("kiteconnect")  # optional, and heavy: it brings twisted
    except ImportError:
        raise ConfigError(f"kind = kite needs Zerodha's client: {INSTALL}") from None
    client = module.KiteConnect(api_key=key, access_token=token, root=root, timeout=timeout)
    client.reqsession.trust_env = root is None  # a proxy never sees a server of this machine
    return client


def call(make: Callable[[], T]) -> T:
    """The answer; KiteError says what an error means, and never repeats a secret."""
    exceptions = import_module("kiteconnect.exceptions")
    try:
        return make()
    except exceptions.KiteException as error:
        raise _meaning(type(error).__name__, int(error.code), " ".join(str(error).split())[:300]) from None
    except requests.ConnectTimeout:
        raise KiteError("unreachable", "Kite cannot be reached: no connection in time") from None
    except requests.Timeout:
        raise KiteError("unclear", "Kite did not answer in time") from None
    except requests.ConnectionError as error:
        refused = isinstance(getattr(error.args[0] if error.args else None, "reason", None), NewConnectionError)
        told = "Kite cannot be reached" if refused else "the connection to Kite broke"
        raise KiteError("unreachable" if refused else "unclear", told) from None
    except (requests.RequestException, KeyError, TypeError) as error:  # an answer without its usual head or data
        raise KiteError("unclear", f"Kite's answer cannot be read ({type(error).__name__})") from None


def _meaning(name: str, code: int, said: str) -> KiteError:
    told = f"Kite: {TOLD.get(name, 'an error')} ({name} {code}: {said})"
    if code == TOO_MANY:
        return KiteError("rate", f"Kite limits the rate of requests ({code}: {said})")
    if name == "TokenException":
        hint = f"; is {KEY} that of the app you logged in with?" if "api_key" in said else ""
        return KiteError("login", told + hint)
    if name == "PermissionException":
        return KiteError("permission", told)
    if name in ("DataException", "NetworkException") or code >= SERVER:
        # OrderException comes as 500 too: an order that the order system refused, or lost
        return KiteError("unclear", told)
    return KiteError("refused", told)
