"""A request is repeated while the server is down; a refusal is final."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from prefect import __version__
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks import server


class Handler(BaseHTTPRequestHandler):
    """Answers with its server's statuses, one after the other, then repeats the last."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        self._answer(self.server.statuses[min(self.server.requests, len(self.server.statuses)) - 1], b"[]")

    def do_GET(self):
        if self.path.endswith("/version"):
            self._answer(200, f'"{__version__}"'.encode())
        else:
            self._answer(404, b"{}")  # no CSRF token is needed

    def _answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Silent."""


@pytest.fixture
def prefect():
    """A stand-in that answers as a Prefect server does; its address is in Prefect's settings before it listens."""
    served = HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    served.server_bind()
    served.requests, served.statuses = 0, [200]
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    served.listen = lambda: (served.server_activate(), thread.start())
    chosen = {PREFECT_API_URL: f"http://127.0.0.1:{served.server_port}/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(chosen):
        yield served
    if thread.is_alive():
        served.shutdown()
    served.server_close()


def runs(client):
    return client.read_flow_runs()


def test_a_server_that_starts_meanwhile_is_waited_for(prefect):
    starter = threading.Timer(1.5, prefect.listen)
    starter.start()
    began = time.monotonic()
    assert server.ask(runs) == []
    assert time.monotonic() - began > 1.5
    starter.join()


def test_a_server_without_its_database_is_asked_again(prefect):
    prefect.statuses = [500, 500, 200]
    prefect.listen()
    assert server.ask(runs) == []
    assert prefect.requests == 3


def test_an_answer_that_says_no_is_believed(prefect):
    prefect.statuses = [422]
    prefect.listen()
    with pytest.raises(httpx.HTTPStatusError):
        server.ask(runs)
    assert prefect.requests == 1


def test_a_server_that_stays_away_is_given_up(prefect, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE_SECONDS", 1)
    with pytest.raises(httpx.ConnectError):
        server.ask(runs)
