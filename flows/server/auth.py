"""
The Prefect server's auth string (``admin:...``), and the links that log a browser in.

The string grants full access; without it the server rejects every request. It is PREFECT_SERVER_API_AUTH_STRING of the
environment, or generated once into a file that only its owner can read, where every command of this ALPHAPIVOT_HOME
finds it. It is never a process argument and never printed: a login link carries a signed code instead, which the server
exchanges for the string once.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from pathlib import Path

from alphapivot import home
from alphapivot.errors import Unavailable

SERVER, CLIENT = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
LOGIN = "/alphapivot/login"  # the server's page that accepts a code
LINK_SECONDS = 3600
CODE_LENGTH = 92  # expiry, signature and nonce
NEEDED = (
    "the Prefect server's auth string: stop everything that uses the server and remove the file; the next start"
    " generates one"
)


def file() -> Path:
    return home.prefect() / "auth"


def known() -> str:
    """The auth string; empty if there is none yet."""
    if configured := os.environ.get(SERVER) or os.environ.get(CLIENT):
        return configured
    try:
        string = file().read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise Unavailable(f"{file()} cannot be read ({error}); expected {NEEDED}") from error
    if not string:
        raise Unavailable(f"{file()} is empty; expected {NEEDED}")
    return string


def environment() -> dict[str, str]:
    """Environment variables with the auth string for server, worker and clients; generates it at the first call."""
    if "PREFECT_API_URL" in os.environ:  # an external server has its own
        return {}
    if not (string := known()):
        string = f"admin:{secrets.token_urlsafe(24)}"
        home.private(file().parent)
        with os.fdopen(os.open(file(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(f"{string}\n")
    return {SERVER: string, CLIENT: string}


def link(ui: str) -> str:
    """A URL that logs a browser in, once and within LINK_SECONDS. The fragment with its code is never logged."""
    return f"{ui}{LOGIN}#{_signed(int(time.time()) + LINK_SECONDS, secrets.token_hex(8))}"


class Codes:
    """The codes of login links, each valid once. A restarted server forgets which ones were used."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}  # code -> its expiry

    def redeem(self, code: str) -> bool:
        """True if the code was signed with our auth string, has not expired and is new."""
        now, (expires, _, nonce) = time.time(), (*code.split("."), "", "", "")[:3]
        if not expires.isdecimal() or not hmac.compare_digest(code.encode(), _signed(int(expires), nonce).encode()):
            return False
        self._used = {used: until for used, until in self._used.items() if until >= now}
        if int(expires) < now or code in self._used:
            return False
        self._used[code] = int(expires)
        return True


def _signed(expires: int, nonce: str) -> str:
    signature = hmac.digest(known().encode(), f"login {expires} {nonce}".encode(), "sha256").hex()
    return f"{expires}.{signature}.{nonce}"
