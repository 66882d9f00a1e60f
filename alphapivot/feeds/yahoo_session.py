"""The HTTP session for yfinance: one server, one timeout, and waiting when requests are rate-limited."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from curl_cffi import requests

from alphapivot import retry_after, waiting

CHART = "/v8/finance/chart/"
TOO_MANY = 429
FIRST_WAIT = 1.0  # seconds; doubled at each further 429 without a Retry-After


class YahooSession(requests.Session[requests.Response]):
    """
    A browser-like session whose requests to Yahoo's hosts go to ``base_url``, if given.

    A chart's 429 is retried after its Retry-After, or 1, 2, 4 ... seconds, for ``patience`` seconds in total; then
    yfinance gets it. ``status`` is the HTTP status of the last chart, which yfinance does not expose.
    """

    def __init__(self, *, base_url: str | None, timeout: float, patience: float) -> None:
        super().__init__(impersonate="chrome")
        self._base_url = base_url and base_url.rstrip("/")
        self._limit = timeout
        self._patience = patience
        self.status: int | None = None

    def request(self, method: Any, url: str, **options: Any) -> Any:  # type: ignore[override]  # fifty named options
        """As in the parent, whose other methods all call it."""
        parts = urlsplit(url)
        if self._base_url and (parts.hostname or "").endswith("yahoo.com"):
            url = self._base_url + parts.path + (f"?{parts.query}" if parts.query else "")
        options["timeout"] = self._limit
        response = super().request(method, url, **options)
        if not parts.path.startswith(CHART):
            return response
        wait = FIRST_WAIT
        while response.status_code == TOO_MANY:
            pause = retry_after.seconds(response.headers.get("Retry-After"), wait)
            if pause > self._patience:
                break
            self._patience -= pause
            waiting.say(f"Yahoo limits the rate of requests: waiting {pause:.3g} s")
            time.sleep(pause)
            wait *= 2
            response = super().request(method, url, **options)
        self.status = response.status_code
        return response
