"""A pool of spawned processes that end with whoever asked for them: also by Ctrl-C, by an error, by SIGKILL."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection

from alphapivot.errors import Unavailable


@contextmanager
def processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """
    At most ``jobs`` of them. An error within the block ends them at once, whatever they do. Raises Unavailable where
    one has ended by itself.
    """
    spawn = multiprocessing.get_context("spawn")
    lives, mine = spawn.Pipe(duplex=False)  # nothing is ever sent: that the other end is closed is what they hear
    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_attend, initargs=(lives,))
    try:
        yield pool
        pool.shutdown()
    except BrokenProcessPool as error:
        raise Unavailable(
            "a process was killed from outside, perhaps for want of memory: the same command goes on, with fewer --jobs"
        ) from error
    finally:
        mine.close()
        pool.shutdown(cancel_futures=True)
        lives.close()


def _attend(parent: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C comes to all: the one who asked decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Connection) -> None:
    try:
        parent.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)
