"""
Messages about waiting: for what, until when, and how to stop it. They go to the run's log and to the terminal.

The terminal shows them although it hides INFO lines of libraries.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

AFTER = 3.0  # seconds after which a wait is worth a message
log = logging.getLogger("alphapivot.waiting")
log.setLevel(logging.INFO)


def say(message: str) -> None:
    log.info("%s", message)


@contextmanager
def reported(message: str, after: float | None = None) -> Iterator[None]:
    """Log ``message`` once the block has lasted AFTER (or ``after``) seconds: for calls that wait silently."""
    run = contextvars.copy_context()  # so that the timer's thread logs to the flow run
    timer = threading.Timer(AFTER if after is None else after, run.run, [say, message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def on_terminal() -> Iterator[None]:
    """Within the block, messages about waiting also go to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
