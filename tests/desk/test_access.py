"""Who may use the desk: a session, the auth string; no other page, no other name."""

import base64

import httpx
import pytest

from alphapivot.desk import access
from alphapivot.desk.access import Guard
from alphapivot.execution.book import control
from tests.desk.conftest import KEY

HALT = {"action": "halt", "reason": "a test"}


def state(desk):
    with desk.world.hub.engine.connect() as conn:
        return control.state(conn, "paper").state


def test_the_page_has_no_facts_and_everything_else_needs_a_login(desk):
    for path in ("/", "/desk.js", "/desk.css", "/plotly.js"):
        assert httpx.get(desk.url + path).status_code == 200
    for path in ("/live", "/equity", "/chart/1", "/explain/A"):
        reply = httpx.get(desk.url + path)
        assert (reply.status_code, reply.text) == (401, access.REFUSED)
        assert "www-authenticate" not in reply.headers  # or a browser would send the string by itself
    assert httpx.post(f"{desk.url}/act", json=HALT).status_code == 401
    assert state(desk) == "ACTIVE"


def test_a_link_logs_in_once_and_so_does_the_auth_string(desk):
    code = access.link(desk.port).partition("#")[2]
    first, second = (httpx.post(f"{desk.url}/login", content=code) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 403)
    typed = httpx.post(f"{desk.url}/login", content=KEY)
    for session in (first.text, typed.text):
        assert httpx.get(f"{desk.url}/equity", headers={"Authorization": f"Bearer {session}"}).status_code == 200
    assert httpx.post(f"{desk.url}/login", content="admin:wrong").status_code == 403
    assert httpx.post(f"{desk.url}/login", content="").status_code == 403


@pytest.mark.parametrize("session", ["0", "1.a", "99999999999.0", "x.y", "99999999999"])
def test_a_made_up_session_is_refused(desk, session):
    reply = httpx.get(f"{desk.url}/equity", headers={"Authorization": f"Bearer {session}"})
    assert reply.status_code == 401


def test_a_session_ends(monkeypatch):
    guard = Guard(None, KEY, 1)
    session = guard.session(KEY)
    assert guard._known(f"Bearer {session}")
    monkeypatch.setattr(access.time, "time", lambda: int(session.partition(".")[0]) + 1)
    assert not guard._known(f"Bearer {session}")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),  # another server of this machine
        ({"Host": "evil.example"}, 421),  # DNS rebinding
        ({"Host": "127.0.0.1"}, 421),
    ],
)
def test_other_pages_and_other_names_are_refused_even_with_the_auth_string(desk, headers, status):
    with desk.client(**headers) as client:
        assert client.post("/act", json=HALT).status_code == status
    assert state(desk) == "ACTIVE"


@pytest.mark.always
def test_our_own_page_may_act(desk):
    with desk.client(Origin=desk.url) as client:
        assert client.post("/act", json=HALT).status_code == 200
    assert state(desk) == "HALTED"


def test_without_a_login_a_page_must_say_where_it_is_from():
    guard = Guard(None, "", 7)
    refused = [guard._refusal("POST", "/act", {"host": "127.0.0.1:7", **more}) for more in ({}, {"origin": "http://a"})]
    assert [r.status_code for r in refused] == [403, 403]
    assert guard._refusal("POST", "/act", {"host": "127.0.0.1:7", "origin": "http://127.0.0.1:7"}) is None
    assert guard.session("") is None


def test_each_answer_forbids_frames_foreign_scripts_and_caches(desk):
    basic = base64.b64encode(KEY.encode()).decode()
    for path in ("/", "/equity"):
        headers = httpx.get(desk.url + path, headers={"Authorization": f"Basic {basic}"}).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert (headers["x-frame-options"], headers["cache-control"]) == ("DENY", "no-store")
