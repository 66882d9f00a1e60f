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
from alphapivot.reports import heartbeat, notify
from tasks import reports

CONFIG = Path(__file__).parents[1] / "configs" / "small.ini"
FAILED = {
    "id": "0b6c4c6e-5f0f-4b6e-8c4c-0f6b8a3f1d11",
    "flow_id": "0b6c4c6e-5f0f-4b6e-8c4c-0f6b8a3f1d12",
    "name": "pipeline 2025-06-27 21:00Z",
    "run_count": 1,
    "state": {"type": "CRASHED", "name": "Crashed", "message": "killed by signal 9"},
}


MISSED = FAILED | {
    "id": "0b6c4c6e-5f0f-4b6e-8c4c-0f6b8a3f1d13",
    "name": "pipeline 2025-06-28 21:00Z",
    "run_count": 0,
    "state": {"type": "SCHEDULED", "name": "Late"},
    "expected_start_time": "2025-06-28T21:15:00Z",
    "work_pool_name": "alphapivot-desk",
}


class Server(HTTPServer):
    """Receives alerts and heartbeats, and answers as Prefect's API does for runs that crashed or were missed."""

    def __init__(self):
        self.titles, self.texts, self.beats, self.crashed, self.missed = [], [], [], [FAILED], []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        if "title" in body:
            self.server.titles.append(body["title"])
            self.server.texts.append(body["message"])
        states = body.get("flow_runs", {}).get("state", {})
        runs = self.server.missed if states.get("name") else self.server.crashed
        self.answer(runs if self.path.endswith("/flow_runs/filter") else {})

    def do_GET(self):
        if self.path.startswith("/beat"):
            self.server.beats.append(self.path)
            self.answer({}, 500 if "broken" in self.path else 200)
        else:
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


def test_a_run_that_was_due_and_did_not_start_is_told_once(hub, inbox):
    settings = read.load(CONFIG, {})
    inbox.crashed, inbox.missed = [], [MISSED]
    with prefect(inbox.server_port):
        for _ in range(2):
            reports.watch(lambda: (hub, settings, None), outside=True)
    (title,) = [title for title in inbox.titles if "missed" in title]
    assert title == f"AlphaPivot: run missed: {MISSED['name']}"
    assert "due at 2025-06-28 21:15 UTC, and no worker of pool alphapivot-desk has taken it" in "".join(inbox.texts)


def test_a_silent_prefect_is_told_once_by_those_beside_it(hub, inbox):
    settings = read.load(CONFIG, {})
    with prefect(9):
        reports.watch(lambda: (hub, settings, None))
        assert inbox.titles == []
        for _ in range(2):
            reports.watch(lambda: (hub, settings, None), outside=True)
    assert inbox.titles == ["AlphaPivot: Prefect away: the Prefect server"]


def test_a_pass_within_a_run_is_a_heartbeat(hub, inbox, monkeypatch):
    settings = read.load(CONFIG, {})
    monkeypatch.setenv(notify.HEARTBEAT, f"http://127.0.0.1:{inbox.server_port}/beat/secret-token")

    def away():
        hubs.Hub("postgresql://nobody@127.0.0.1:9/none").dbapi()

    with prefect(inbox.server_port):
        reports.watch(away)
        reports.watch(lambda: (hub, settings, None), outside=True)
        assert inbox.beats == []
        reports.watch(lambda: (hub, settings, None))
    assert inbox.beats == ["/beat/secret-token"]


@pytest.mark.parametrize(
    "place", ["http://127.0.0.1:{port}/beat/broken-secret", "http://127.0.0.1:9/beat/secret", "ftp://x"]
)
def test_a_heartbeat_that_is_not_heard_fails_nothing_and_shows_no_secret(inbox, caplog, place):
    url = place.format(port=inbox.server_port)
    assert not heartbeat.ping({notify.HEARTBEAT: url})
    assert notify.HEARTBEAT in caplog.text
    assert "secret" not in caplog.text
    assert not heartbeat.ping({})


def test_the_address_of_the_heartbeat_is_masked_in_messages():
    environ = {notify.HEARTBEAT: "https://hc.example.org/abc-def"}
    assert notify.masked("at https://hc.example.org/abc-def", environ) == "at ***"
