"""``alphapivot desk``: the server on loopback, until Ctrl-C."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn

from alphapivot import hub
from alphapivot.desk import access
from alphapivot.desk.app import app
from alphapivot.errors import Unavailable

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings

PORT = 4210
STOP_SECONDS = 1  # open windows hold a stream for ever
NO_LOGIN = "--no-auth: any program and any user of this machine can see this book and close its trades"


def serve(settings: Settings, port: int, say: Callable[[str], None], *, authenticated: bool = True) -> None:
    """Serves the desk of the book of ``settings`` until SIGINT or SIGTERM. Raises Unavailable if the port is taken."""
    key = access.secret() if authenticated else ""
    hub.connect()  # a database that is away is told before anything is served
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise Unavailable(
                f"port {port} of 127.0.0.1 cannot be used ({error.strerror}): choose another, --port"
            ) from error
        listener.listen()  # who follows the link at once waits until we accept
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app(hub.connect, settings, key=key, port=port),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        say(f"the desk of book {settings.execution.book}: {access.link(port) if key else f'http://127.0.0.1:{port}/'}")
        say("the link works once, within an hour; Ctrl-C ends the desk, trading goes on" if key else NO_LOGIN)
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again once it has stopped
            signal.signal(number, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
