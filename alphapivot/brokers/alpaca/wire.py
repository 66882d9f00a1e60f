"""
Alpaca's wire: the SDK's HTTP client with what it does silently turned off, and what each failure on it proves.

The SDK repeats 429 and 504 by itself, waits for ever, and raises while it reads an HTML error page. So: no repeats, a
time-out of ours, JSON as it stands on the wire, and every exception made one of the port's words.
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
KEY, SECRET = "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"  # as Alpaca's own tools name them
PAGE = 500  # the most orders that Alpaca returns at once
FAILURES = (APIError, requests.RequestException, ValueError)


class Session(requests.Session):
    """One time-out for every request, which nobody can forget; remembers the broker's clock."""

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
    """What is read is a dict or a list, or Unavailable; what is sent gets one of the port's answers."""

    def __init__(self, settings: AlpacaBroker, key: str, secret: str) -> None:
        live = settings.account == "live"
        self._client = TradingClient(key, secret, paper=not live, raw_data=True, url_override=settings.base_url)
        self._client._retry = 0  # noqa: SLF001 - retry_attempts = 0 is read as "three times"
        self.session = Session(settings.timeout)
        self._client._session = self.session  # noqa: SLF001 - there is no other way to a time-out

    @property
    def at(self) -> datetime | None:
        """The broker's clock at its last answer."""
        return self.session.at

    def read(self, path: str, asked: Mapping[str, str] | None = None, *, many: bool = False) -> Any:
        try:
            found = self._client.get(path, dict(asked or {}))
        except FAILURES as error:
            raise unavailable(path, error) from None
        if not isinstance(found, list if many else dict):
            raise Unavailable(f"Alpaca's answer to {path} cannot be read: {str(found)[:200]!r}")
        return found

    def one(self, path: str, asked: Mapping[str, str] | None = None) -> Json | None:
        """An order, or None where Alpaca says that there is none."""
        try:
            found = self._client.get(path, dict(asked or {}))
        except FAILURES as error:
            refused = refusal(error)
            if refused is not None and refused[0] == 404:
                return None
            raise unavailable(path, error) from None
        if not isinstance(found, dict) or "id" not in found:
            raise Unavailable(f"Alpaca's answer to {path} cannot be read: {str(found)[:200]!r}")
        return found

    def pages(self, asked: Mapping[str, str]) -> list[Json]:
        """All orders of a listing, the oldest first: the next page begins after the last one's submission."""
        rows: list[Json] = []
        query = {**asked, "direction": "asc", "limit": str(PAGE)}
        while True:
            page = self.read("/orders", query, many=True)
            seen = {row.get("id") for row in rows}
            fresh = [row for row in page if row.get("id") not in seen]
            rows += fresh
            if len(page) < PAGE or not fresh:
                return rows
            query["after"] = page[-1]["submitted_at"]

    def send(self, method: str, path: str, data: Json) -> Json | Answer:
        """The order as Alpaca took it, or what its failure proves."""
        try:
            found = self._client.post(path, data) if method == "POST" else self._client.patch(path, data)
        except FAILURES as error:
            return answer(error)
        if isinstance(found, dict) and found.get("client_order_id") == data["client_order_id"] and "id" in found:
            return found
        return Unknown(f"Alpaca's answer to {path} cannot be read: {str(found)[:200]!r}")

    def cancel(self, what: str, order_id: str) -> None:
        try:
            self._client.delete(f"/orders/{order_id}")
        except FAILURES as error:
            refused = refusal(error)
            if refused is None or refused[0] not in (404, 422):  # 422: final already, which ``find`` will tell
                raise unavailable(f"cancel {what}", error) from None


def refusal(error: Exception) -> tuple[int, str] | None:
    """(status, message) of an answer in Alpaca's own words; None for anything else, which proves nothing."""
    if not isinstance(error, APIError) or error.status_code is None:
        return None
    try:
        found = json.loads(str(error))
        return int(error.status_code), str(found["message"])
    except (ValueError, KeyError, TypeError):
        return None


def _status(error: Exception) -> int | None:
    return error.status_code if isinstance(error, APIError) else None


def unavailable(what: str, error: Exception) -> Unavailable | TradingHalted:
    if _status(error) == 401 or (_status(error) == 403 and "access key" in str(error)):
        return TradingHalted(
            f"Alpaca does not know these keys ({' '.join(str(error).split())[:200]});"
            f" put valid ones into {KEY} and {SECRET}"
        )
    told = refusal(error)
    why = (
        f"{told[0]}, {told[1]}"
        if told
        else f"{_status(error) or type(error).__name__}: {' '.join(str(error).split())[:200]}"
    )
    return Unavailable(f"Alpaca, {what}: {why}")


def answer(error: Exception) -> Answer:
    """What a failed send proves. Only a connection that was never made proves that nothing was sent."""
    if isinstance(error, requests.ConnectionError) and _never_connected(error):
        return NotSent(f"no connection to Alpaca: {type(error).__name__}")
    status, told = _status(error), refusal(error)
    if status == 401 or (status == 403 and "access key" in str(error)):
        raise unavailable("order", error)
    if status == 429 and isinstance(error, APIError):
        header = error.response.headers.get("Retry-After") if error.response is not None else None
        return Throttled(retry_after.seconds(header, 1.0))
    if told is not None and told[0] == 422 and "client_order_id must be unique" in told[1]:
        return Duplicate()
    if told is not None and told[0] in (400, 403, 404, 422):
        return Rejected(f"Alpaca: {told[1]}")
    return Unknown(f"Alpaca: {status or type(error).__name__}, {' '.join(str(error).split())[:200]}")


def _never_connected(error: requests.ConnectionError) -> bool:
    """Was the failure before the first byte: no name, no route, refused, or no connection in time?"""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(cause, (NewConnectionError, ConnectTimeoutError))
