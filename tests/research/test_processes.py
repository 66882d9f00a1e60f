"""Processes that end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alphapivot.errors import Unavailable
from alphapivot.research import processes

ASKING = """
import os, signal, time
from alphapivot.research import processes
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would not hear it
    with processes.processes(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def test_what_they_make_comes_back():
    with processes.processes(2) as pool:
        assert list(pool.map(abs, [-3, 4])) == [3, 4]


def fails_while_one_sleeps() -> None:
    with processes.processes(1) as pool:
        sleeping = pool.submit(time.sleep, 600)
        while not sleeping.running():
            time.sleep(0.01)
        raise ZeroDivisionError


def test_an_error_ends_them_at_once_whatever_they_do():
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        fails_while_one_sleeps()
    assert time.monotonic() - begun < 300


def kills_one_that_sleeps() -> None:
    with processes.processes(1) as pool:
        pid = pool.submit(os.getpid).result()
        waiting = pool.submit(time.sleep, 600)
        os.kill(pid, signal.SIGKILL)
        waiting.result()


def test_one_that_is_killed_from_outside_is_told_with_its_remedy():
    with pytest.raises(Unavailable, match="fewer --jobs"):
        kills_one_that_sleeps()


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_they_do_not_outlive_the_one_who_asked(tmp_path, by):
    script = tmp_path / "asking.py"
    script.write_text(ASKING)
    asking = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    own = int(asking.stdout.readline())
    time.sleep(0.5)  # at work
    asking.send_signal(by)
    asking.communicate(timeout=60)  # also waits until no child holds the pipes
    deadline = time.monotonic() + 60
    while Path(f"/proc/{own}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{own}").exists()
