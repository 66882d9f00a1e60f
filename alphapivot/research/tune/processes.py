"""A pool of spawned processes that end with their parent, even on Ctrl-C, an error or SIGKILL."""

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
    A pool of at most ``jobs`` processes. An error within the block ends them at once. Raises Unavailable if one of them
    was killed.
    """
    spawn = multiprocessing.get_context("spawn")
    theirs, ours = spawn.Pipe(duplex=False)  # nothing is ever sent: the children notice that our end is closed
    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_attend, initargs=(theirs,))
    try:
        yield pool
        pool.shutdown()
    except BrokenProcessPool as error:
        raise Unavailable(
            "a process was killed, perhaps for lack of memory: run the same command again, with fewer --jobs"
        ) from error
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _attend(parent: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends Ctrl-C to all: the parent decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Connection) -> None:
    try:
        parent.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)
