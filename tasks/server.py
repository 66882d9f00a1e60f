"""Requests to the Prefect server that survive a restart of the server or of its database."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client

from alphapivot import waiting

T = TypeVar("T")
PATIENCE_SECONDS = 120


def ask(request: Callable[[SyncPrefectClient], T], seconds: float = PATIENCE_SECONDS) -> T:
    """The result of ``request`` on a client of the server, repeated while the server is down."""

    def once() -> T:
        with get_client(sync_client=True) as client:
            return request(client)

    return patiently(once, seconds)


def patiently(call: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """
    The result of ``call``, repeated for up to ``seconds`` while the server is down: new Prefect clients give up at
    once.
    """
    deadline, reported = time.monotonic() + seconds, False
    while True:
        try:
            return call()
        except Exception as error:
            if not _is_down(error) or time.monotonic() > deadline:
                raise
        if not reported:
            waiting.say(f"the Prefect server does not answer: trying again for up to {seconds:g} s")
            reported = True
        time.sleep(1)


def _is_down(error: BaseException | None) -> bool:
    """True if the error means that the server or its database is down. Prefect wraps the errors of httpx."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return error is not None and (isinstance(error, httpx.TransportError) or _is_down(error.__cause__))
