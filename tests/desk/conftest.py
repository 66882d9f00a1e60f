"""A desk on a real port, over a book with an open trade and an entry that waits for a yes."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest
import uvicorn

from alphapivot.desk import access
from alphapivot.desk.app import app
from alphapivot.execution.operator import approvals
from alphapivot.reports import overview
from flows.server import auth
from tests.execution.conftest import at, make_settings, new_world  # noqa: F401 - a fixture

KEY = "admin:made-up"
RUNS = """
    INSERT INTO ops.run (run_id, kind, scope, as_of, config, config_hash, code_version, state)
    SELECT DISTINCT run_id, 'trade', 'test', as_of, CAST(:config AS jsonb), 'h', 'c', 'completed' FROM trading.decision
"""
EVIL = '"><img src=x onerror="window.hacked=1">'


@dataclass
class Served:
    """The desk's address and its book."""

    world: object
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **headers: str) -> httpx.Client:
        """A program with the auth string."""
        return httpx.Client(base_url=self.url, auth=tuple(KEY.split(":")), headers=headers, timeout=60)

    def act(self, **words: str) -> tuple[int, str]:
        with self.client() as client:
            reply = client.post("/act", json=words)
        return reply.status_code, reply.text


@pytest.fixture
def book(new_world, monkeypatch):  # noqa: F811
    """A is open since day 21; the entry in B, decided on day 21, waits."""
    world = new_world({"A": {}, "B": {}}, execution={"approve": "entries"})
    for symbol in "AB":
        world.calm(range(1, 21), symbol=symbol)
    world.score(20, 50)
    world.trade(20)
    approvals.approve(world.hub, "paper", "A", "the news is out", "Ann", at(20))
    world.trade(at(20) + timedelta(minutes=1), decide_too=False)
    for symbol in "AB":
        world.calm([21, 22], symbol=symbol)
    world.score(22, 60, symbol="B")
    world.score(22, 50)
    world.trade(22)
    world.sql(RUNS, config=json.dumps({"timeframes": {"base": "1d"}}))
    monkeypatch.setattr(overview, "now", lambda *_: at(22) + timedelta(hours=1))
    return world


@pytest.fixture
def desk(book, monkeypatch):
    """The desk of that book, with login."""
    monkeypatch.setenv(auth.SERVER, KEY)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # requests wait until the server accepts
    port = listener.getsockname()[1]
    assert access.secret() == KEY
    served = app(lambda: book.hub, book.settings, key=KEY, port=port, poll=0.1)
    server = uvicorn.Server(uvicorn.Config(served, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield Served(book, port)
    server.should_exit = True
    thread.join(20)
    listener.close()
    assert not thread.is_alive()


@contextmanager
def chromium():
    """A headless Chromium that reaches this machine only."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("there is no chromium with its driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def driver():
    with chromium() as driver:
        yield driver
