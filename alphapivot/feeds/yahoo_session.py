"""The HTTP session that yfinance is given: one server, one time limit, and patience when it says too many requests."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from curl_cffi import requests

from alphapivot import retry_after, waiting

CHART = "/v8/finance/chart/"
TOO_MANY = 429
FIRST_WAIT = 1.0  # seconds; doubled at each further 429 that names none itself


class YahooSession(requests.Session[requests.Response]):
    """
    A browser-like session whose requests to Yahoo's hosts go to ``base_url``, where that is given.

    A chart's 429 is tried again after its Retry-After, or 1, 2, 4 ... seconds, for ``patience`` seconds in all; then
    yfinance sees it. ``status`` is that of the last chart: yfinance keeps it to itself.
    """

    def __init__(self, *, base_url: str | None, timeout: float, patience: float) -> None:
        super().__init__(impersonate="chrome")
        self._base_url = base_url and base_url.rstrip("/")
        self._limit = timeout
        self._patience = patience
        self.status: int | None = None

    def request(self, method: Any, url: str, **how: Any) -> Any:  # type: ignore[override]  # fifty named options
        """As the parent's, which all its other verbs call."""
        parts = urlsplit(url)
        if self._base_url and (parts.hostname or "").endswith("yahoo.com"):
            url = self._base_url + parts.path + (f"?{parts.query}" if parts.query else "")
        how["timeout"] = self._limit
        answer = super().request(method, url, **how)
        if not parts.path.startswith(CHART):
            return answer
        wait = FIRST_WAIT
        while answer.status_code == TOO_MANY:
            pause = retry_after.seconds(answer.headers.get("Retry-After"), wait)
            if pause > self._patience:
                break
            self._patience -= pause
            waiting.say(f"Yahoo asks for fewer requests: waiting {pause:.3g} s")
            time.sleep(pause)
            wait *= 2
            answer = super().request(method, url, **how)
        self.status = answer.status_code
        return answer
