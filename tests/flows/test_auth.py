"""The auth string is generated once and readable by its owner alone; a login link is valid once and for an hour."""

from __future__ import annotations

import base64
import fcntl
import json
import stat
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from alphapivot.errors import Unavailable
from flows.server import auth, local, serve


@pytest.fixture
def bare(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    for name in (auth.SERVER, auth.CLIENT, "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def code(link: str) -> str:
    return link.partition("#")[2]


def test_it_is_generated_once_in_a_file_and_a_folder_of_its_owner(bare):
    made = auth.environment()
    assert made[auth.SERVER] == made[auth.CLIENT] == auth.file().read_text().strip()
    assert made[auth.SERVER].startswith("admin:")
    assert len(made[auth.SERVER]) > 30
    assert stat.S_IMODE(auth.file().stat().st_mode) == 0o600
    assert stat.S_IMODE(auth.file().parent.stat().st_mode) == 0o700
    assert auth.environment() == made


def test_the_folder_of_an_earlier_installation_is_closed(bare, tmp_path):
    (tmp_path / "prefect").mkdir(mode=0o755)
    with local.locked("server.lock"):
        assert stat.S_IMODE((tmp_path / "prefect").stat().st_mode) == 0o700


def test_the_environments_own_goes_before_and_is_written_nowhere(bare):
    bare.setenv(auth.SERVER, "me:chosen")
    assert auth.environment() == {auth.SERVER: "me:chosen", auth.CLIENT: "me:chosen"}
    assert not auth.file().exists()


def test_ours_is_not_sent_to_a_server_elsewhere(bare):
    auth.environment()
    bare.setenv("PREFECT_API_URL", "https://prefect.example.org/api")
    assert auth.environment() == {}


def test_a_link_holds_no_secret_and_is_good_once(bare):
    secret, link, codes = auth.environment()[auth.SERVER], auth.link("http://127.0.0.1:4200"), auth.Codes()
    assert secret.removeprefix("admin:") not in link
    assert link.startswith("http://127.0.0.1:4200/alphapivot/login#")
    assert codes.redeem(code(link))
    assert not codes.redeem(code(link))
    assert codes.redeem(code(auth.link("http://127.0.0.1:4200")))


def test_a_link_expires(bare):
    auth.environment()
    link, codes, now = auth.link(""), auth.Codes(), auth.time.time()
    bare.setattr(auth.time, "time", lambda: now + auth.LINK_SECONDS + 1)
    assert not codes.redeem(code(link))


@pytest.mark.parametrize(
    "forged", ["", ".", "..", "x", "9999999999", "9999999999..", "²²²..", "9999999999.é.a", "a.b.c.d"]
)
def test_what_was_not_signed_by_us_is_refused(bare, forged):
    auth.environment()
    assert not auth.Codes().redeem(forged)


def test_a_link_of_another_secret_or_with_a_later_end_is_refused(bare):
    auth.environment()
    expires, signature, nonce = code(auth.link("")).split(".")
    assert not auth.Codes().redeem(f"{int(expires) + 1}.{signature}.{nonce}")
    link = auth.link("")
    bare.setenv(auth.SERVER, "me:another")
    assert not auth.Codes().redeem(code(link))


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b" \n", "is empty"), (b"\xff", "cannot be read")])
def test_a_file_without_a_string_is_said_with_what_to_do(bare, content, words):
    auth.environment()
    auth.file().write_bytes(content)
    with pytest.raises(Unavailable, match=rf"auth {words}.*remove the file"):
        auth.environment()
    assert auth.file().read_bytes() == content


def test_a_server_of_an_earlier_version_is_not_joined(bare, tmp_path):
    """It accepts requests from any web page, and does not know login links."""
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "server.json").write_text('{"api": "http://127.0.0.1:4200/api", "pid": 1}')
    with (tmp_path / "prefect" / "server.alive").open("a") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match=r"an earlier AlphaPivot .* stop the `alphapivot ui`"):
            local.join()


def test_there_is_no_link_where_no_login_is_asked_for(bare, tmp_path):
    auth.environment()
    address = {"api": "http://127.0.0.1:4200/api", "pid": 1, "authenticated": False}
    (tmp_path / "prefect" / "server.json").write_text(json.dumps(address))
    with (tmp_path / "prefect" / "server.alive").open("a") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match=r"requires no login: open http://127\.0\.0\.1:4200$"):
            serve.link()


class Guarded(BaseHTTPRequestHandler):
    """Requires the auth string for everything but the health check, as Prefect does."""

    def do_GET(self):
        authorized = self.headers["Authorization"] == f"Basic {base64.b64encode(b'me:right').decode()}"
        self.send_response(200 if authorized or self.path == "/api/health" else 401)
        self.end_headers()

    def log_message(self, *_):
        """Silent."""


def test_another_auth_string_than_the_servers_is_said_in_a_sentence(bare):
    with HTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        joined = local.PrefectServer(f"http://127.0.0.1:{server.server_port}/api")
        with pytest.raises(Unavailable, match=f"refuses the auth string .* {auth.CLIENT} is not set"):
            joined.wait()
        bare.setenv(auth.CLIENT, "me:wrong")
        with pytest.raises(Unavailable, match=f"{auth.CLIENT} of the environment is wrong"):
            joined.wait()
        bare.setenv(auth.CLIENT, "me:right")
        joined.wait()
        server.shutdown()
