"""
Python's own parser, for threads: CPython 3.11 counts the depth of all trees under construction together, and raises
SystemError where two threads build one at once (https://github.com/python/cpython/issues/106905).
"""

from __future__ import annotations

import ast
import threading
from typing import Any, Literal

_one = threading.RLock()


def parse(
    source: str | bytes, mode: Literal["exec", "eval"] = "exec"
) -> Any:  # a Module or an Expression, as mode says
    """The tree of ``source``; raises what ``ast.parse`` raises."""
    with _one:
        return ast.parse(source, mode=mode)
