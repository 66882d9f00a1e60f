"""
Alpaca's HTTP client: the SDK's client without its silent behaviour, and the meaning of each failure.

The SDK retries 429 and 504 by itself, has no time-out, and raises while parsing an HTML error page. So: no retries, our
own time-out, raw JSON, and every exception mapped to a reply of the port.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from alphapivot import retry_after
from alphapivot.brokers.base import Answer, Duplicate, NotSent, Rejected, Throttled, Unknown
from alphapivot.errors import TradingHalted, Unavailable

if TYPE_CHECKING:
    from alphapivot.config.sections.brokers import AlpacaBroker

Json = dict[str, Any]
KEY, SECRET = "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"  # the names that Alpaca's own tools use
PAGE = 500  # the most orders that Alpaca returns at once
ACTIVITIES = 100  # and the most activities
FAILURES = (APIError, requests.RequestException, ValueError)


class Session(requests.Session):
    """Applies one time-out to every request; remembers the broker's clock."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self.timeout = timeout
        self.at: datetime | None = None

    def request(self, method: str, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        response = super().request(method, url, *args, **{"timeout": self.timeout, **options})
        stamp = response.headers.get("Date")
        self.at = parsedate_to_datetime(stamp).astimezone(UTC) if stamp else None
        return response


class Wire:
    """Reads return a dict or a list, or raise Unavailable; sends return a reply of the port."""

    def __init__(self, settings: AlpacaBroker, key: str, secret: str) -> None:
        live = settings.account == "live"
        self._client = TradingClient(key, secret, paper=not live, raw_data=True, url_override=settings.base_url)
        self._client._retry = 0  # noqa: SLF001 - retry_attempts = 0 means three retries
        self.session = Session(settings.timeout)
        self._client._session = self.session  # noqa: SLF001 - there is no other way to set a time-out

    @property
    def at(self) -> datetime | None:
        """The broker's clock at its last reply."""
        return self.session.at

    def read(self, path: str, query: Mapping[str, str] | None = None, *, many: bool = False) -> Any:
        try:
            reply = self._client.get(path, dict(query or {}))
        except FAILURES as error:
            raise unavailable(path, error) from None
        if not isinstance(reply, list if many else dict):
            raise Unavailable(f"Alpaca's reply to {path} cannot be read: {str(reply)[:200]!r}")
        return reply

    def one(self, path: str, query: Mapping[str, str] | None = None) -> Json | None:
        """An order or asset, or None if Alpaca replies 404."""
        try:
            reply = self._client.get(path, dict(query or {}))
        except FAILURES as error:
            refused = refusal(error)
            if refused is not None and refused[0] == 404:
                return None
            raise unavailable(path, error) from None
        if not isinstance(reply, dict) or "id" not in reply:
            raise Unavailable(f"Alpaca's reply to {path} cannot be read: {str(reply)[:200]!r}")
        return reply

    def pages(self, filters: Mapping[str, str]) -> list[Json]:
        """All orders of a listing, oldest first; each page starts after the last submission of the one before."""
        rows: list[Json] = []
        query = {**filters, "direction": "asc", "limit": str(PAGE)}
        while True:
            page = self.read("/orders", query, many=True)
            seen = {row.get("id") for row in rows}
            fresh = [row for row in page if row.get("id") not in seen]
            rows += fresh
            if len(page) < PAGE or not fresh:
                return rows
            query["after"] = page[-1]["submitted_at"]

    def activities(self, path: str, filters: Mapping[str, str]) -> list[Json]:
        """All activities of the account at or below ``path``, oldest first."""
        rows: list[Json] = []
        query = {**filters, "direction": "asc", "page_size": str(ACTIVITIES)}
        while True:
            page = self.read(f"/account/activities{path}", query, many=True)
            rows += page
            if len(page) < ACTIVITIES or not page[-1].get("id"):
                return rows
            query["page_token"] = page[-1]["id"]

    def send(self, method: str, path: str, data: Json) -> Json | Answer:
        """The order as Alpaca accepted it, or the reply that its failure proves."""
        try:
            reply = self._client.post(path, data) if method == "POST" else self._client.patch(path, data)
        except FAILURES as error:
            return reply_of(error)
        if isinstance(reply, dict) and reply.get("client_order_id") == data["client_order_id"] and "id" in reply:
            return reply
        return Unknown(f"Alpaca's reply to {path} cannot be read: {str(reply)[:200]!r}")

    def cancel(self, client_order_id: str, order_id: str) -> None:
        try:
            self._client.delete(f"/orders/{order_id}")
        except FAILURES as error:
            refused = refusal(error)
            if refused is None or refused[0] not in (404, 422):  # 422: already final, as ``find`` will show
                raise unavailable(f"cancel {client_order_id}", error) from None


def refusal(error: Exception) -> tuple[int, str] | None:
    """(status, message) of an error reply from Alpaca itself; None for anything else, which proves nothing."""
    if not isinstance(error, APIError) or error.status_code is None:
        return None
    try:
        body = json.loads(str(error))
        return int(error.status_code), str(body["message"])
    except (ValueError, KeyError, TypeError):
        return None


def _status(error: Exception) -> int | None:
    return error.status_code if isinstance(error, APIError) else None


def unavailable(what: str, error: Exception) -> Unavailable | TradingHalted:
    if _status(error) == 401 or (_status(error) == 403 and "access key" in str(error)):
        return TradingHalted(
            f"Alpaca rejects these keys ({' '.join(str(error).split())[:200]}); put valid ones into {KEY} and {SECRET}"
        )
    refused = refusal(error)
    reason = (
        f"{refused[0]}, {refused[1]}"
        if refused
        else f"{_status(error) or type(error).__name__}: {' '.join(str(error).split())[:200]}"
    )
    return Unavailable(f"Alpaca, {what}: {reason}")


def reply_of(error: Exception) -> Answer:
    """The reply that a failed send proves. Only a failure to connect proves that nothing was sent."""
    if isinstance(error, requests.ConnectionError) and _never_connected(error):
        return NotSent(f"no connection to Alpaca: {type(error).__name__}")
    status, refused = _status(error), refusal(error)
    if status == 401 or (status == 403 and "access key" in str(error)):
        raise unavailable("order", error)
    if status == 429 and isinstance(error, APIError):
        header = error.response.headers.get("Retry-After") if error.response is not None else None
        return Throttled(retry_after.seconds(header, 1.0))
    if refused is not None and refused[0] == 422 and "client_order_id must be unique" in refused[1]:
        return Duplicate()
    if refused is not None and refused[0] in (400, 403, 404, 422):
        return Rejected(f"Alpaca: {refused[1]}")
    return Unknown(f"Alpaca: {status or type(error).__name__}, {' '.join(str(error).split())[:200]}")


def _never_connected(error: requests.ConnectionError) -> bool:
    """True if the failure came before the first byte: no name, no route, refused, or a connect time-out."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(cause, (NewConnectionError, ConnectTimeoutError))
