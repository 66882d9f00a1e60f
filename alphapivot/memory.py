"""Memory that is free, given back to the system: between stages of long work, whose needs differ."""

from __future__ import annotations

import ctypes


def release() -> None:
    """
    Gives back what Arrow's pool and the C library keep for later. Without it a process stays as large as its largest
    stage, even where the next one needs other sizes. Does nothing where the C library has no such call.
    """
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and loaded where there is something to release

    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    if trim is not None:
        trim(0)
