"""
Whatever waits says for what, until when, and how not to: in the run's log, and to whoever typed the command.

The terminal shows these words although it hides the libraries' own INFO lines.
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

AFTER = 3.0  # seconds after which a wait is worth a word
log = logging.getLogger("alphapivot.waiting")
log.setLevel(logging.INFO)


def say(words: str) -> None:
    log.info("%s", words)


@contextmanager
def told(words: str, after: float | None = None) -> Iterator[None]:
    """Says ``words`` once the block has lasted AFTER (or ``after``) seconds: around a call that waits in silence."""
    run = contextvars.copy_context()  # of the flow run, whose log it is
    timer = threading.Timer(AFTER if after is None else after, run.run, [say, words])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def on_terminal() -> Iterator[None]:
    """Within the block, what waits is said on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
