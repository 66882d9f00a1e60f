"""
The Prefect server's auth string (``admin:...``): who has it may see and start everything, who has not may do nothing.

It is PREFECT_SERVER_API_AUTH_STRING of the environment, or made once and kept in a file that only its owner can read
(``alphapivot ui --auth``); every command of this ALPHAPIVOT_HOME then finds it by itself. It is never an argument of a
process, and never printed.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from alphapivot import home

SERVER, CLIENT = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"


def file() -> Path:
    return home.prefect() / "auth"


def environment() -> dict[str, str]:
    """What server, worker and clients need, where an auth string is known; a server elsewhere has its own."""
    if "PREFECT_API_URL" in os.environ:
        return {}
    known = os.environ.get(SERVER) or os.environ.get(CLIENT)
    if not known and file().exists():
        known = file().read_text().strip()
    return {SERVER: known, CLIENT: known} if known else {}


def require() -> str:
    """Makes the auth string unless there is one; returns where a person finds it."""
    for name in (SERVER, CLIENT):
        if os.environ.get(name):
            return f"the environment ({name})"
    path = file()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(f"admin:{secrets.token_urlsafe(24)}\n")
    return str(path)


def forget() -> None:
    """No auth string of our own from the next start of the server on."""
    file().unlink(missing_ok=True)
