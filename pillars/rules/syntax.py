"""
A thread-safe ``ast.parse``: CPython 3.11 shares the depth counter of all trees under construction, and raises
SystemError if two threads build one at the same time (https://github.com/python/cpython/issues/106905).
"""

from __future__ import annotations

import ast
import threading
from typing import Any, Literal

ATTEMPTS = 20
_one = threading.RLock()


def parse(source: str | bytes, mode: Literal["exec", "eval"] = "exec") -> Any:
    """The Module or, for ``eval``, the Expression of ``source``; same errors as ``ast.parse``."""
    with _one:
        for _ in range(ATTEMPTS):
            try:
                return ast.parse(source, mode=mode)
            except SystemError:  # a library parses in another thread
                continue
        return ast.parse(source, mode=mode)
