"""
Python's own parser, for threads: CPython 3.11 counts the depth of all trees under construction together, and raises
SystemError where two threads build one at once (https://github.com/python/cpython/issues/106905).
"""

from __future__ import annotations

import ast
import threading
from typing import Any, Literal

ATTEMPTS = 20
_one = threading.RLock()


def parse(source: str | bytes, mode: Literal["exec", "eval"] = "exec") -> Any:
    """The Module or, for ``eval``, the Expression of ``source``; raises what ``ast.parse`` raises."""
    with _one:
        for _ in range(ATTEMPTS):
            try:
                return ast.parse(source, mode=mode)
            except SystemError:  # a library parses something in another thread
                continue
        return ast.parse(source, mode=mode)
