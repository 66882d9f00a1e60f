"""
The Prefect server's auth string (``admin:...``), and the links that log a browser in.

Whoever has the string may see and start everything; whoever lacks it may do nothing. It is
PREFECT_SERVER_API_AUTH_STRING of the environment, or generated once into a file that only its owner can read; every
command of this ALPHAPIVOT_HOME finds it there. It is never an argument of a process, and never printed: a login link
carries a signed code instead, which the server exchanges for the string once.
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
LOGIN = "/alphapivot/login"  # the page of the server that takes a code
LINK_SECONDS = 3600
CODE_LENGTH = 92  # when it expires, a signature and a number used once
NEEDED = "the Prefect server's auth string: stop what uses the server and remove the file; the next start generates one"


def file() -> Path:
    return home.prefect() / "auth"


def known() -> str:
    """The auth string, empty where there is none yet."""
    if chosen := os.environ.get(SERVER) or os.environ.get(CLIENT):
        return chosen
    try:
        string = file().read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise Unavailable(f"{file()} cannot be read ({error}); it should hold {NEEDED}") from error
    if not string:
        raise Unavailable(f"{file()} is empty; it should hold {NEEDED}")
    return string


def environment() -> dict[str, str]:
    """What server, worker and clients need to agree on the auth string, which is generated at the first call."""
    if "PREFECT_API_URL" in os.environ:  # a server elsewhere has its own
        return {}
    if not (string := known()):
        string = f"admin:{secrets.token_urlsafe(24)}"
        home.private(file().parent)
        with os.fdopen(os.open(file(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(f"{string}\n")
    return {SERVER: string, CLIENT: string}


def link(ui: str) -> str:
    """An address that logs a browser in, once and within LINK_SECONDS. A fragment reaches no server's log."""
    return f"{ui}{LOGIN}#{_signed(int(time.time()) + LINK_SECONDS, secrets.token_hex(8))}"


class Codes:
    """The codes of login links, each valid once. A server that starts again knows those it has seen no more."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}  # code -> when it expires

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
