"""A pass for alerts sends what it can reach: the hub's while Prefect is away, Prefect's while the hub is away."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from alphapivot import hub as hubs
from alphapivot.config import read
from alphapivot.errors import ConfigError
from alphapivot.execution.book import control
from alphapivot.reports import notify
from tasks import reports

CONFIG = Path(__file__).parents[1] / "configs" / "small.ini"
FAILED = {
    "id": "0b6c4c6e-5f0f-4b6e-8c4c-0f6b8a3f1d11",
    "flow_id": "0b6c4c6e-5f0f-4b6e-8c4c-0f6b8a3f1d12",
    "name": "pipeline 2025-06-27 21:00Z",
    "run_count": 1,
    "state": {"type": "CRASHED", "name": "Crashed", "message": "killed by signal 9"},
}


class Server(HTTPServer):
    """Receives alerts, and answers as Prefect's API does for runs that crashed."""

    def __init__(self):
        self.titles = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        if "title" in body:
            self.server.titles.append(body["title"])
        self.answer([FAILED] if self.path.endswith("/flow_runs/filter") else {})

    def do_GET(self):
        self.answer({}, 404)  # a server without CSRF tokens

    def answer(self, content, status=200):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Silent."""


@pytest.fixture
def inbox(hub, monkeypatch, tmp_path):
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    monkeypatch.setenv(notify.URLS, f"json://127.0.0.1:{server.server_port}/inbox")
    monkeypatch.setattr(reports, "ALERT_PATIENCE", 1.0)
    yield server
    server.shutdown()
    server.server_close()


def prefect(port):
    return temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"})


def test_alerts_of_the_hub_are_sent_although_prefect_is_away(hub, inbox):
    settings = read.load(CONFIG, {})
    control.halt(hub, settings.execution.book, "rates look odd", "ann")
    with prefect(9):
        sent = reports.watch(lambda: (hub, settings, datetime(2025, 6, 27, 23, tzinfo=UTC)))
    assert [alert.kind for alert in sent] == ["kill switch"]
    assert inbox.titles == [f"AlphaPivot: kill switch: book {settings.execution.book}"]


@pytest.mark.parametrize("reason", ["away", "unreadable"])
def test_failed_runs_are_told_once_although_the_hub_is_away(hub, inbox, reason):
    def opened():
        if reason == "unreadable":
            raise ConfigError("config.ini cannot be used")
        away = hubs.Hub("postgresql://nobody@127.0.0.1:9/none")
        away.dbapi()

    settings = read.load(CONFIG, {})
    with prefect(inbox.server_port):
        reports.watch(opened)
        reports.watch(opened)
        assert inbox.titles == ["AlphaPivot: hub away: the database", f"AlphaPivot: run crashed: {FAILED['name']}"]
        assert reports.watch(lambda: (hub, settings, None)) == []
    assert len(inbox.titles) == 2
