"""The clock of `make test-on` is shifted for a process and its children, whatever their environment; sleeping works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from alphapivot.hub.server import embedded

DAY = 86_400
CODE = """
import os, subprocess, time
began = time.monotonic()
time.sleep(0.01)
assert 0.01 <= time.monotonic() - began < 60
print(int(time.time()), time.clock_gettime_ns(time.CLOCK_REALTIME) // 10**9)
print(subprocess.run(["date", "+%s"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True).stdout)
"""


@pytest.fixture(scope="module")
def shifted(home_root):
    """The environment of a process whose clock is ten days ahead of ours."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    library = home_root / "clock.so"
    source = Path(__file__).with_name("another_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    library.chmod(0o644)
    return os.environ | {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(10 * DAY)}


def test_a_process_and_its_children_live_ten_days_later(shifted):
    before = int(time.time())
    done = subprocess.run([sys.executable, "-c", CODE], env=shifted, capture_output=True, text=True, check=True)
    for told in done.stdout.split():
        assert before <= int(told) - 10 * DAY <= time.time()


def test_so_does_the_embedded_server(shifted, home_root):
    folder = home_root / "later" / "postgres"
    start = (
        f"from pathlib import Path; from alphapivot.hub.server import embedded; embedded.start(Path({str(folder)!r}))"
    )
    before = int(time.time())
    subprocess.run([sys.executable, "-c", start, str(folder)], env=shifted, check=True)
    try:
        with psycopg.connect(embedded.status(folder).url) as connection:
            (told,) = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
        assert before <= told - 10 * DAY <= time.time()
    finally:
        embedded.stop(folder)
