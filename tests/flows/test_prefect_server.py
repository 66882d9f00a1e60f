"""What our server rejects before Prefect sees it, with requests as pages and programs send them."""

from __future__ import annotations

import threading
import time

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flows.server import auth

OURS = "http://127.0.0.1:4200"  # its configured address; it listens on a free port


async def answer(request):
    return PlainTextResponse("answered")


async def greet(socket):
    await socket.accept()
    await socket.send_text("answered")
    await socket.close()


@pytest.fixture
def app():
    """Imported where it is used: it brings all of Prefect's server, and each test process imports this file."""
    from flows.server import app

    return app


@pytest.fixture
def client(app, monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_UI_API_URL", f"{OURS}/api")
    monkeypatch.setenv("PREFECT_API_URL", "http://server:4200/api")
    monkeypatch.setenv(auth.SERVER, "admin:planted")
    inner = Starlette(routes=[Route("/api/x", answer, methods=["GET", "POST"]), WebSocketRoute("/api/ws", greet)])
    served = uvicorn.Server(uvicorn.Config(app.guarded(inner, 4200), port=0, log_level="error"))
    thread = threading.Thread(target=served.run)
    thread.start()
    while not served.started:
        time.sleep(0.01)
    address = f"http://127.0.0.1:{served.servers[0].sockets[0].getsockname()[1]}"
    with httpx.Client(base_url=address) as made:
        yield made
    served.should_exit = True
    thread.join()


def greeting(client, headers) -> str:
    address = str(client.base_url).replace("http", "ws", 1)
    with connect(f"{address}/api/ws", additional_headers=headers, proxy=None) as socket:
        return socket.recv()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4200", "127.0.0.1.evil.example", "", "0.0.0.0:4200"])
def test_another_host_is_refused(client, host):
    for path in ("/api/x", "/", auth.LOGIN):
        assert client.get(path, headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "localhost:4200", "server:4200"])
def test_our_own_hosts_are_served(client, host):
    assert client.get("/api/x", headers={"Host": host}).text == "answered"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:4201",
        "https://127.0.0.1:4200",
        "http://127.0.0.1",
        "",
        "file://",
    ],
)
def test_a_page_of_another_origin_is_refused(client, origin):
    refused = client.post("/api/x", headers={"Origin": origin})
    assert (refused.status_code, "answered" in refused.text) == (403, False)
    assert "access-control-allow-origin" not in refused.headers
    with pytest.raises(InvalidStatus, match="403"):
        greeting(client, {"Origin": origin})


@pytest.mark.parametrize("headers", [{}, {"Origin": OURS}, {"Origin": "http://localhost:4200"}])
def test_our_own_pages_and_programs_are_served(client, headers):
    assert client.post("/api/x", headers=headers).text == "answered"
    assert greeting(client, headers) == "answered"


def test_a_proxys_address_is_one_of_ours(app, monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_UI_API_URL", "https://trade.example.com/api")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert "https://trade.example.com" in app.origins(4200)
    assert app.hosts(4200) == ["127.0.0.1", "localhost", "trade.example.com"]


def test_no_page_may_be_framed_or_load_from_elsewhere(client):
    for path in ("/api/x", "/missing", auth.LOGIN):
        policy = client.get(path).headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy or "default-src 'self'" in policy
        assert "http:" not in policy.replace(OURS, "").replace("http://localhost:4200", "")


def test_a_login_link_is_exchanged_for_the_auth_string_once(client):
    code = auth.link(OURS).partition("#")[2]
    assert "admin:planted" not in client.get(auth.LOGIN).text
    assert client.post(auth.LOGIN, content=code).text == "admin:planted"
    again = client.post(auth.LOGIN, content=code)
    assert again.status_code == 403
    assert "used or has expired. A new one: alphapivot ui --link" in again.text
    for cut in ("", code[:60], code[:-1]):  # by a terminal, or when copied
        assert "is incomplete" in client.post(auth.LOGIN, content=cut).text
    assert client.post(auth.LOGIN, content=b"\xff" * 5000).status_code == 403
    assert client.request("PUT", auth.LOGIN, content=auth.link(OURS).partition("#")[2]).status_code == 403
    assert client.post(auth.LOGIN, content=code, headers={"Origin": "http://evil.example"}).status_code == 403


def test_a_server_without_authentication_gives_nobody_a_secret(client, monkeypatch, tmp_path):
    monkeypatch.delenv(auth.SERVER)
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    assert client.post(auth.LOGIN, content=auth.link(OURS).partition("#")[2]).status_code == 403
