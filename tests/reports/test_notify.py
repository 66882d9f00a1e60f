"""Messages arrive at a real HTTP server and hold no secret; a message that is not received raises an error."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from alphapivot.errors import Unavailable
from alphapivot.reports import notify

PLANTED = "correct-horse-battery"


class Inbox(HTTPServer):
    """Keeps what it is sent, and answers with ``answer``."""

    def __init__(self):
        self.received, self.answer = [], 200
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"json://user:{PLANTED}@127.0.0.1:{self.server_port}/hooks/{PLANTED}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *_):
        """Silent."""


@pytest.fixture
def inbox():
    server = Inbox()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_message_arrives(inbox):
    notify.send("title", "body", "warning", {notify.URLS: inbox.url})
    (message,) = inbox.received
    assert (message["title"], message["message"], message["type"]) == ("title", "body", "warning")


def test_no_secret_of_the_environment_is_sent(inbox):
    environ = {
        notify.URLS: inbox.url,
        "ALPHAPIVOT_DATABASE__URL": "postgresql://trader:hunter%2122@db/alphapivot",
        "BROKER_API_KEY": "AKXYZ123456",
        "SHORT_TOKEN": "on",
    }
    notify.send(
        "lost postgresql://a:b@db/x",
        f"cannot reach {environ['ALPHAPIVOT_DATABASE__URL']} (password hunter!22),"
        f" key AKXYZ123456, via {inbox.url}: go on",
        environ=environ,
    )
    (message,) = inbox.received
    assert message["title"] == "lost postgresql://a:***@db/x"
    told = message["message"]
    assert told.startswith("cannot reach postgresql://trader:***@db/alphapivot (password ***), key ***, via ")
    assert told.endswith(": go on")
    assert not [s for s in ("hunter", "AKXYZ", PLANTED) if s in told]


def test_one_receiver_that_is_down_does_not_keep_the_others_from_hearing(inbox, caplog):
    dead = f"json://u:{PLANTED}@127.0.0.1:9/{PLANTED}"
    with caplog.at_level(logging.DEBUG):
        notify.send("title", "body", environ={notify.URLS: f"{dead} {inbox.url}"})
    assert len(inbox.received) == 1
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("alphapivot")]
    assert ours == ["alert 'title' did not reach json://127.0.0.1"]


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        ("", "ALPHAPIVOT_ALERT_URLS is not set"),
        (f"nonsense://{PLANTED}", "names no usable URL"),
        (f"json://u:{PLANTED}@127.0.0.1:9/{PLANTED}", "no answer from json://127.0.0.1"),
    ],
)
def test_a_message_that_nobody_received_is_an_error_that_says_why_without_secrets(urls, said):
    with pytest.raises(Unavailable, match=said) as raised:
        notify.send("title", "body", environ={notify.URLS: urls})
    assert PLANTED not in str(raised.value)


def test_an_answer_that_is_not_ok_counts_as_not_received(inbox):
    inbox.answer = 500
    with pytest.raises(Unavailable, match="no answer from json://127"):
        notify.send("title", "body", environ={notify.URLS: inbox.url})
