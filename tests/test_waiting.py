"""Long waits are reported, on the terminal and in the log of the run."""

from __future__ import annotations

import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from sqlalchemy import text

from alphapivot import waiting
from alphapivot.errors import DataError
from alphapivot.hub.bulk import write
from alphapivot.hub.tables import run_locks
from flows.server import local


class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Silent."""


def test_a_wait_is_told_once_it_lasts_and_a_short_one_is_not(capsys, caplog):
    with waiting.on_terminal(), caplog.at_level(logging.INFO):
        with waiting.reported("quick", after=5):
            pass
        with waiting.reported("slow: until noon; Ctrl-C gives up", after=0.01):
            time.sleep(0.3)
    assert capsys.readouterr().err == "slow: until noon; Ctrl-C gives up\n"
    assert caplog.messages == ["slow: until noon; Ctrl-C gives up"]
    waiting.say("nobody typed this")
    assert capsys.readouterr().err == ""


def test_a_server_that_starts_is_told(capsys, monkeypatch):
    """`ui`, `run` and `demo` start with this wait, up to a minute on a small machine."""
    monkeypatch.setattr(waiting, "AFTER", 0.05)
    with HTTPServer(("127.0.0.1", 0), Health, bind_and_activate=False) as server:
        server.server_bind()  # it has its port, and listens later
        joined = local.PrefectServer(f"http://127.0.0.1:{server.server_port}/api")
        with waiting.on_terminal():
            other = threading.Thread(target=joined.wait)
            other.start()
            time.sleep(0.5)
            server.server_activate()
            threading.Thread(target=server.serve_forever, daemon=True).start()
            other.join(10)
        server.shutdown()
    assert capsys.readouterr().err == f"waiting up to 90 s for the Prefect server at {joined.api}\n"


def test_a_wait_for_another_writer_is_told(hub, capsys, monkeypatch):
    monkeypatch.setattr(waiting, "AFTER", 0.05)

    def fixes():
        with hub.engine.begin() as conn:
            write.wait(conn)

    with waiting.on_terminal(), hub.engine.begin() as writer:
        writer.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": write.WRITERS})
        other = threading.Thread(target=fixes)
        other.start()
        time.sleep(0.5)
    other.join(10)
    message = capsys.readouterr().err
    assert message == "waiting for another write to the database to finish; " + write.CANCEL + "\n"


def test_a_wait_for_another_process_is_told_with_its_end(hub, capsys, monkeypatch):
    monkeypatch.setattr(waiting, "AFTER", 0.05)
    with waiting.on_terminal(), run_locks.held(hub, "x", "this search"):  # noqa: SIM117 - the one holds up the other
        with pytest.raises(DataError, match="under way"), run_locks.held(hub, "x", "this search", patience=0.5):
            pass
    assert "this search is under way in another process: waiting up to 0.5 s" in capsys.readouterr().err
