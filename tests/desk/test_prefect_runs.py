"""Runs lead to their pages in Prefect, by the rule with which tasks name them."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from alphapivot.desk import prefect_runs
from flows.server import auth, local
from tasks import runs

FLOW_RUN = "0b8f4f5e-6f2f-4d8e-9a53-0d1f8e2b7c11"


@pytest.fixture
def prefect(monkeypatch):
    """A server that answers as Prefect's does: (requests, answers)."""
    requests, answers = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, self.headers["Authorization"]))
            status, body = answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv(auth.SERVER, "admin:pass")
    monkeypatch.setattr(local, "address", lambda: (url, True))
    prefect_runs._links.cache_clear()
    yield url, requests, answers
    server.shutdown()
    server.server_close()


def test_a_run_leads_to_its_page_and_a_failure_is_asked_again(prefect):
    url, requests, answers = prefect
    ours = runs.run_id(FLOW_RUN)
    answers += [(503, {}), (200, [{"id": FLOW_RUN}, {"id": "another"}])]
    assert prefect_runs.links([ours, "a-replay"]) == {}
    for _ in range(2):  # asked once
        assert prefect_runs.links([ours, "a-replay"]) == {ours: f"{url}/runs/flow-run/{FLOW_RUN}"}
    assert requests == [("/api/flow_runs/filter", "Basic YWRtaW46cGFzcw==")] * 2


def test_without_a_server_there_are_no_links(monkeypatch):
    monkeypatch.setattr(local, "address", lambda: None)
    assert prefect_runs.links(["a"]) == {}
