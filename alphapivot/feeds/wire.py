"""Requests with one time-out, waits where the rate is limited, the meaning of each failure. No secret is repeated."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from alphapivot import retry_after, waiting
from alphapivot.errors import Unavailable
from alphapivot.feeds.base import Fetched, Problem, Request, gather

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TRIES = 3  # of requests that may succeed later
FIRST_WAIT = 1.0  # seconds; doubled at each further try
MEANING = {  # of a status that a later request would get again
    401: "refuses the login (HTTP 401: {told}); check {credentials}",
    403: "does not allow this (HTTP 403: {told}); check {credentials} and what is subscribed",
    402: "asks for payment (HTTP 402: {told}); see your account there",
    404: "has nothing there (HTTP 404: {told}); is the ticker right?",
}
OK, TOO_MANY, SERVER = (200, 206), 429, 500  # 206: with what there is


class RefusedError(Exception):
    """
    A request without a usable answer; ``transient``: a later one may have it; ``down``: nobody answers at all.

    ``status`` and ``body``: of the answer, 0 and empty without one.
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool = False,
        down: bool = False,
        header: str | None = None,
        status: int = 0,
        body: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason, self.transient, self.down, self.header = reason, transient or down, down, header
        self.status, self.body = status, body


@dataclass
class Wire:
    """Requests to ``provider``; ``patience``: seconds to wait in total; ``credentials``: where someone puts them."""

    provider: str
    timeout: float
    patience: float
    credentials: str = "the API key"
    secrets: tuple[str, ...] = ()
    auth: tuple[str, str] | None = None  # name and password of HTTP's basic authentication

    def get(self, url: str, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> bytes:
        """The body of the answer; what may succeed later is tried again. Raises RefusedError."""
        return self._tried("GET", url, params=query, headers=headers)

    def post(self, url: str, form: Mapping[str, str]) -> bytes:
        """As ``get``, of a form."""
        return self._tried("POST", url, data=form)

    def _tried(self, method: str, url: str, **how: Mapping[str, str] | None) -> bytes:
        wait, tries = FIRST_WAIT, 1
        while True:
            try:
                return self._once(method, url, **how)
            except RefusedError as refused:
                pause = retry_after.seconds(refused.header, wait)
                if not refused.transient or tries == TRIES or pause > self.patience:
                    raise
                waiting.say(f"{refused.reason}: waiting {pause:.3g} s")
            self.patience -= pause
            time.sleep(pause)
            wait, tries = wait * 2, tries + 1

    def _once(self, method: str, url: str, **how: Mapping[str, str] | None) -> bytes:
        try:
            answer = requests.request(method, url, timeout=self.timeout, auth=self.auth, **how)  # type: ignore[arg-type]
        except requests.Timeout:
            reason = f"{self.provider} did not respond within {self.timeout:g} s"
            raise RefusedError(reason, transient=True) from None
        except requests.RequestException as error:  # its text holds the address, and so the secret
            down = isinstance(error, requests.ConnectionError)
            reason = f"{self.provider} cannot be reached ({type(error).__name__})"
            raise RefusedError(reason, transient=True, down=down) from None
        status, told = answer.status_code, self._safe(" ".join(answer.text.split())[:200])
        if status in OK:
            return answer.content
        later = status == TOO_MANY or status >= SERVER
        meaning = MEANING.get(status, "answers HTTP {status}: {told}")
        if status == TOO_MANY:
            meaning = "limits the rate of requests (HTTP 429); try again later"
        reason = f"{self.provider} {meaning.format(status=status, told=told, credentials=self.credentials)}"
        header = answer.headers.get("Retry-After")
        raise RefusedError(reason, transient=later, header=header, status=status, body=self._safe(answer.text))

    def _safe(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def in_turn(asked: Sequence[Request], answer: Callable[[Request], Fetched]) -> Fetched:
    """
    The answers to what is ``asked``, one after the other; a request without one is a Problem, as are all later ones if
    nobody answers at all. Raises Unavailable if that is so before the first bar.
    """
    parts: list[Fetched] = []
    for n, request in enumerate(asked):
        try:
            parts.append(answer(request))
        except RefusedError as refused:
            problems = [Problem(request, refused.reason, refused.transient)]
            if refused.down:
                if not any(len(part.bars) for part in parts):
                    raise Unavailable(refused.reason) from None
                reason = f"not requested, because {refused.reason}"
                problems += [Problem(later, reason, transient=True) for later in asked[n + 1 :]]
            parts.append(gather([], problems))
            if refused.down:
                break
    return gather(
        [part.bars for part in parts],
        [problem for part in parts for problem in part.problems],
        [part.actions for part in parts],
        {symbol: after for part in parts for symbol, after in part.actions_after.items()},
        [note for part in parts for note in part.notes],
    )
