"""A typed command does not wait for the lease of a run that was killed: the database's lock is the guard."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(900)]

LOCKED = "        with hub.engine.begin() as conn:\n            fence = ledger.raise_fence(conn, book)\n"
HOLD = (
    "        import os, time\n"
    "        if os.path.exists({flag!r}):\n"
    "            open({flag!r} + '.reached', 'w').write('x')\n"
    "            while os.path.exists({flag!r}):\n"
    "                time.sleep(0.1)\n"
)


@pytest.fixture
def hold(checkout):
    """A file: while it exists, a run that has taken the book's lock pauses."""
    flag = checkout.folder / "hold"
    engine = checkout.folder / "alphapivot" / "execution" / "run" / "engine.py"
    if HOLD.format(flag=str(flag)) not in engine.read_text():
        assert LOCKED in engine.read_text()
        engine.write_text(engine.read_text().replace(LOCKED, HOLD.format(flag=str(flag)) + LOCKED))
    flag.touch()
    yield flag
    flag.unlink(missing_ok=True)


def start(checkout, hold, *words):
    """A command that has taken the book's lock and pauses."""
    reached = Path(f"{hold}.reached")
    reached.unlink(missing_ok=True)
    log = checkout.folder.parent / f"typed-{time.monotonic_ns()}.log"
    process = checkout.background(log, *words)
    checkout.eventually(lambda: reached.exists() or process.poll() is not None, bool)
    assert process.poll() is None, log.read_text()
    return process, log


def test_a_command_after_a_killed_one_starts_at_once(checkout, hold):
    """The killed one holds Prefect's limit until its lease ends, a minute later."""
    process, _ = start(checkout, hold, "trade", "--as-of", "2025-03-03T23:00:00Z")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    hold.unlink()
    begun = time.monotonic()
    done = checkout.alphapivot("trade", "--as-of", "2025-03-04T23:00:00Z")
    took = time.monotonic() - begun
    assert "trade: Completed" in " ".join(done.stdout.split()), done.stdout + done.stderr
    assert "holds the limit" not in done.stderr
    assert "another executor" not in done.stdout
    assert took < 45, "it waited for a lease, which lives for 60 s"


def test_a_command_beside_a_living_one_waits_for_the_books_lock(checkout, hold):
    process, log = start(checkout, hold, "trade", "--as-of", "2025-03-05T23:00:00Z")
    second = checkout.background(checkout.folder.parent / "second.log", "trade", "--as-of", "2025-03-06T23:00:00Z")
    output = checkout.folder.parent / "second.log"
    checkout.eventually(output.read_text, lambda text: "another run trades book" in text)
    hold.unlink()
    assert (process.wait(240), second.wait(240)) == (0, 0), log.read_text() + output.read_text()
    assert "another executor" not in output.read_text()
