"""
What else than its bars a pillar reads while it is imported and scores: files, folders, sockets, other programs, the
environment and the clock.

Audit hooks report what is opened, a profile function the calls of the clock and the environment. What is opened
counts with the pillar's own code anywhere on the stack, unless an import or a library's cache opens it; the clock and
the environment count only if its own code reads them. Not seen: machine code that opens files by itself (pyarrow), the
clock within a library (``Timestamp("now")``), and other threads. A hook stays for good: use a process of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

OPENED = {
    "open": "the file",
    "sqlite3.connect": "the file",
    "os.listdir": "the folder",
    "os.scandir": "the folder",
    "socket.connect": "the network address",
    "socket.getaddrinfo": "the network address",
    "subprocess.Popen": "the program",
    "os.system": "the program",
    "os.posix_spawn": "the program",
}
CLOCK = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "monotonic_ns", "localtime", "gmtime"}
IMPORTS, CACHES = "<frozen importlib", ("numba", "zoneinfo", "linecache.py")  # the last reads sources, for warnings
GETTERS = ("os.py", "<frozen os>", "_collections_abc.py", "<frozen _collections_abc>")

_watched: list[tuple[tuple[str, ...], list[str]]] = []  # (the pillar's own paths, what it read)
_hooked: list[bool] = []


@contextmanager
def watched(own: Iterable[str]) -> Iterator[list[str]]:
    """What the code in the files and folders ``own`` reads in this block, in the order of its first reading."""
    read: list[str] = []
    _watched.append((tuple(own), read))
    if not _hooked:
        sys.addaudithook(_audited)
        _hooked.append(True)
    sys.setprofile(_called)
    try:
        yield read
    finally:
        sys.setprofile(None)
        _watched.pop()


def _audited(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event in OPENED and not isinstance(arguments[0], int):
        shown = arguments[1] if event == "socket.connect" else arguments[0]
        _note(f"{OPENED[event]} {shown}", sys._getframe(1), direct=False)  # noqa: SLF001 - a hook gets no frame


def _called(frame: FrameType, event: str, called: Any) -> None:
    if event == "c_call" and getattr(called, "__name__", "") in CLOCK:
        owner = getattr(called, "__self__", None)
        if getattr(owner, "__name__", "") in {"time", "datetime", "date"}:
            _note("the clock", frame, direct=True)
    elif event == "call" and frame.f_code is _ENVIRON:
        above = frame.f_back
        while above is not None and above.f_code.co_filename.endswith(GETTERS):
            above = above.f_back
        _note(f"the environment ({frame.f_locals.get('key')})", above, direct=True)


def _note(what: str, frame: FrameType | None, *, direct: bool) -> None:
    """Keeps ``what`` if the pillar's own code reads it; without ``direct``, also through a library's functions."""
    if not _watched:
        return
    own, read = _watched[-1]
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(own):
            said = f"{what} ({os.path.basename(file)}, line {frame.f_lineno})"  # noqa: PTH119 - called by open itself
            if said not in read:
                read.append(said)
            return
        if direct or file.startswith(IMPORTS) or any(part in CACHES for part in file.split(os.sep)):  # noqa: PTH206 - called by open itself
            return
        frame = frame.f_back


_ENVIRON = type(os.environ).__getitem__.__code__
