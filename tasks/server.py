"""Asking the Prefect server, which may be away for a while: it is being started again, or its database is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client

from alphapivot import waiting

T = TypeVar("T")
PATIENCE_SECONDS = 120


def ask(question: Callable[[SyncPrefectClient], T]) -> T:
    """The server's answer, however often it must be asked."""

    def once() -> T:
        with get_client(sync_client=True) as client:
            return question(client)

    return patiently(once)


def patiently(ask: Callable[[], T]) -> T:
    """What ``ask`` returns. Prefect's new clients give up at once where nothing listens: this asks again, bounded."""
    deadline, said = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            return ask()
        except Exception as error:
            if not _away(error) or time.monotonic() > deadline:
                raise
        if not said:
            waiting.say(f"the Prefect server is away: asking again for up to {PATIENCE_SECONDS} s")
            said = True
        time.sleep(1)


def _away(error: BaseException | None) -> bool:
    """Does it come of a server that is out of reach, or without its database? Prefect wraps what httpx has raised."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return error is not None and (isinstance(error, httpx.TransportError) or _away(error.__cause__))
