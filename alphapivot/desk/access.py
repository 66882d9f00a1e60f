"""
Who may use the desk: who has a login link, or the Prefect server's auth string; and no other page.

The page itself says nothing. Its script exchanges a link's code, or the auth string, for a session that it keeps in its
own origin's storage and sends with each request, as Prefect's UI does: nothing is sent by the browser on its own, so
that no other page, nor another server on this machine, can act with it. Host and Origin are checked too.
"""

from __future__ import annotations

import base64
import hmac
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alphapivot.errors import ConfigError
from flows.server import auth

SESSION_SECONDS = 30 * 86_400
OPEN = frozenset({"/", "/desk.js", "/desk.css", "/plotly.js", "/login"})  # no facts in them
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
        " connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),  # plotly writes styles into the page
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
REFUSED = "Not logged in. `alphapivot desk --link` prints a login link.\n"
USED = "This link was used or has expired. A new one: alphapivot desk --link\n"


def secret() -> str:
    """The auth string of the Prefect server, generated at the first call. Raises ConfigError if there is none."""
    auth.environment()
    if not (string := auth.known()):
        raise ConfigError(
            "the desk logs in with the Prefect server's auth string, and PREFECT_API_URL names a server elsewhere: set"
            f" {auth.CLIENT} to its auth string, such as admin:secret"
        )
    return string


def link(port: int) -> str:
    """A URL that logs a browser in, once and within the hour. The fragment with its code is never logged."""
    return f"http://127.0.0.1:{port}/#{auth.link('').partition('#')[2]}"


class Guard:
    """The app behind our checks. ``key``: the auth string; empty: no login, as `alphapivot desk --no-auth`."""

    def __init__(self, app: ASGIApp, key: str, port: int) -> None:
        self._app, self._key, self._codes = app, key, auth.Codes()
        self._hosts = {f"{host}:{port}" for host in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], HTTPConnection(scope).headers)
        await (self._app if refusal is None else refusal)(scope, receive, secured)

    def _refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self._hosts:
            return PlainTextResponse("this server has another name\n", 421)
        if origin != f"http://{host}" and (origin is not None or (method != "GET" and not self._key)):
            return PlainTextResponse("a page of another server may not use the desk\n", 403)
        if path in OPEN or not self._key or self._known(headers.get("authorization", "")):
            return None
        return PlainTextResponse(REFUSED, 401)

    def session(self, given: str) -> str | None:
        """A new session for a link's code or the auth string; None for anything else."""
        if not (self._key and (hmac.compare_digest(given.encode(), self._key.encode()) or self._codes.redeem(given))):
            return None
        expires = int(time.time()) + SESSION_SECONDS
        return f"{expires}.{self._sign(expires)}"

    def _known(self, authorization: str) -> bool:
        """True for the auth string as Basic auth, and for a session of ours that has not expired."""
        scheme, _, given = authorization.partition(" ")
        if scheme == "Basic":
            return hmac.compare_digest(given.strip().encode(), base64.b64encode(self._key.encode()))
        expires, _, signature = given.partition(".")
        if scheme != "Bearer" or not expires.isdecimal() or int(expires) < time.time():
            return False
        return hmac.compare_digest(signature.encode(), self._sign(int(expires)).encode())

    def _sign(self, expires: int) -> str:
        return hmac.digest(self._key.encode(), f"desk {expires}".encode(), "sha256").hex()
