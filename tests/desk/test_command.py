"""``alphapivot desk`` and ``phone`` as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import httpx
import pytest

from alphapivot.desk import phone
from alphapivot.home import CHECKOUT
from flows.server import auth
from tests.desk.bot_api import TOKEN, BotApi
from tests.desk.conftest import KEY

LOADING = "loading ...\n"  # on a slow machine


@pytest.fixture
def start(hub, tmp_path):
    """A function that starts a command on the hub, and stops it in the end."""
    begun = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would not hear it

    def started(*words, **more):
        environ = os.environ | {
            "ALPHAPIVOT_DATABASE__URL": hub.url,
            "ALPHAPIVOT_CONFIG": str(CHECKOUT / "config.ini"),
            "ALPHAPIVOT_HOME": str(tmp_path),
            auth.SERVER: KEY,
            **more,
        }
        command = [sys.executable, "-m", "alphapivot.cli", *words]
        pipe = subprocess.PIPE
        begun.append(subprocess.Popen(command, cwd=CHECKOUT, env=environ, stdout=pipe, stderr=pipe, text=True))
        return begun[-1]

    yield started
    signal.signal(signal.SIGINT, before)
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_desk_serves_until_it_is_stopped_even_while_somebody_looks(start, sign):
    desk = start("desk", "--port", "0")
    told = desk.stdout.readline()
    assert told.startswith("the desk of book paper: http://127.0.0.1:")
    url, _, code = told.split()[-1].partition("#")
    session = httpx.post(f"{url}login", content=code).text
    headers = {"Authorization": f"Bearer {session}"}
    with httpx.stream("GET", f"{url}live", headers=headers, timeout=60) as stream:
        assert '"switch"' in next(stream.iter_lines())
        desk.send_signal(sign)
        out, err = desk.communicate(timeout=30)
    assert (desk.returncode, err.removeprefix(LOADING)) == (0, "")
    assert code not in out  # told once, and nowhere else


def test_a_port_that_is_taken_is_a_sentence(start):
    first = start("desk", "--port", "0")
    port = first.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0]
    second = start("desk", "--port", port)
    _, err = second.communicate(timeout=60)
    assert (second.returncode, err.removeprefix(LOADING)) == (
        1,
        f"port {port} of 127.0.0.1 cannot be used (Address already in use): choose another, --port\n",
    )


def test_a_link_for_a_desk_that_runs(start):
    out, _ = start("desk", "--link").communicate(timeout=60)
    assert out.startswith("http://127.0.0.1:4210/#")
    assert len(out.strip().partition("#")[2]) == auth.CODE_LENGTH


def test_the_phone_answers_until_it_is_stopped(start):
    api = BotApi()
    more = {phone.TOKEN: TOKEN, phone.CHATS: "7", phone.SERVER: api.url}
    process = start("phone", "-v", **more)
    told = process.stdout.readline()
    assert told.strip().endswith("answering 1 chats about book paper")
    with api.lock:
        assert api.lock.wait_for(lambda: api.polling, 60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    api.close()
    assert process.returncode == 130
    assert TOKEN.partition(":")[2] not in told + out + err
