"""A pool of spawned processes that end with their parent, even on Ctrl-C, an error or SIGKILL."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

from alphapivot.errors import Unavailable


class _Process(SpawnProcess):
    """Starts without its parent's main module: a script, or a notebook, would otherwise run again in it."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)  # noqa: SLF001 - there is no other place
        finally:
            sys.modules["__main__"] = main


class _Context(SpawnContext):
    Process = _Process


@contextmanager
def processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """
    A pool of at most ``jobs`` processes. An error within the block ends them at once. Raises Unavailable if one of them
    was killed.
    """
    spawn = _Context()
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
