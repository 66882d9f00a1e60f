"""
The Prefect server with our access checks: ``python -m flows.server.app --host 127.0.0.1 --port 4200``.

Prefect's own server accepts any Host header and any web page. Ours rejects requests with a foreign Host (DNS rebinding)
or Origin, including forms and WebSockets; it forbids framing; and it exchanges the code of a login link for the auth
string.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
from urllib.parse import urlsplit

import uvicorn
from prefect.logging.configuration import setup_logging
from prefect.server.api.server import create_app
from prefect.settings import PREFECT_SERVER_CORS_ALLOWED_ORIGINS, get_current_settings, temporary_settings
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from flows.server import auth

LOOPBACK = ("127.0.0.1", "localhost")

_SCRIPT = """
const code = location.hash.slice(1), show = text => document.body.textContent = text;
history.replaceState(null, '', location.pathname);
fetch(location.pathname, {method: 'POST', body: code}).then(async reply => {
  if (!reply.ok) return show(await reply.text());
  localStorage.setItem('prefect-password', btoa(await reply.text()));
  location.replace('/');
}).catch(error => show('The Prefect server does not answer: ' + error));
"""
_PAGE = (
    f"<!doctype html><meta charset=utf-8><title>AlphaPivot: login</title><body>Logging in ...<script>{_SCRIPT}</script>"
)
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_USED = "This link was used or has expired. A new one: alphapivot ui --link\n"
_INCOMPLETE = "This link is incomplete: the part after # is missing or cut. A new one: alphapivot ui --link\n"

# Prefect's pages use inline styles and workers from blobs; they load nothing from other hosts
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline';"
        " img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' {ours};"
        " object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def origins(port: int) -> list[str]:
    """The origins of our own pages: loopback, and the UI's address behind a proxy."""
    shown = urlsplit(os.environ.get("PREFECT_SERVER_UI_API_URL", ""))
    proxied = [f"{shown.scheme}://{shown.netloc}"] if shown.netloc else []
    return sorted({*(f"http://{host}:{port}" for host in LOOPBACK), *proxied})


def hosts(port: int) -> list[str]:
    """The Host names that the server accepts: those of its pages, and the one that workers use."""
    api = urlsplit(os.environ.get("PREFECT_API_URL", "")).hostname
    return sorted({*(urlsplit(origin).hostname or "" for origin in origins(port)), *([api] if api else [])})


class OwnPages:
    """Accepts requests from our own pages and from programs; answers 403 to pages of other origins."""

    def __init__(self, app: ASGIApp, ours: list[str]) -> None:
        self._app, self._ours = app, ours
        sockets = [origin.replace("http", "ws", 1) for origin in ours]
        self._headers = _HEADERS | {
            "Content-Security-Policy": _HEADERS["Content-Security-Policy"].format(ours=" ".join([*ours, *sockets]))
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        origin = Headers(scope=scope).get("origin")
        if origin is not None and origin not in self._ours:
            refusal: ASGIApp = WebSocketClose(1008, "another origin")
            if scope["type"] == "http":
                refusal = PlainTextResponse(f"a page of {origin} may not use this server\n", 403)
            await refusal(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_secured)


class Login:
    """Serves the login link's page, ahead of Prefect's own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._codes = app, auth.Codes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != auth.LOGIN:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if request.method == "GET":
            policy = f"default-src 'none'; script-src 'sha256-{_HASH}'; connect-src 'self'; frame-ancestors 'none'"
            return HTMLResponse(_PAGE, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})
        code = (await request.body())[:200].decode(errors="replace")
        if request.method != "POST" or not auth.known() or not self._codes.redeem(code):
            complete = code.count(".") == 2 and len(code) >= auth.CODE_LENGTH
            return PlainTextResponse(_USED if complete else _INCOMPLETE, 403)
        return PlainTextResponse(auth.known(), headers={"Cache-Control": "no-store"})


def guarded(app: ASGIApp, port: int) -> ASGIApp:
    """The app behind our checks: first the Host, then the Origin, then the login page."""
    return TrustedHostMiddleware(OwnPages(Login(app), origins(port)), allowed_hosts=hosts(port), www_redirect=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.server.app", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; default: loopback")
    parser.add_argument("--port", type=int, default=4200)
    options = parser.parse_args()
    setup_logging()
    server = get_current_settings().server
    with temporary_settings({PREFECT_SERVER_CORS_ALLOWED_ORIGINS: ",".join(origins(options.port))}):
        uvicorn.run(
            guarded(create_app(final=True), options.port),
            host=options.host,
            port=options.port,
            timeout_keep_alive=server.api.keepalive_timeout,
            ws_ping_interval=server.api.websocket_ping_interval,
            ws_ping_timeout=server.api.websocket_ping_timeout,
            log_level=server.logging_level.lower(),
        )


if __name__ == "__main__":
    main()
