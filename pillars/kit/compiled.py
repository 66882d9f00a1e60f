"""Machine code for loops that neither numpy nor TA-Lib offers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    ``function`` compiled by numba at its first call (so that importing a pillar is fast) and cached on disk.

    It releases the GIL. No fastmath, so that results do not depend on a value's position in memory.
    """
    from numba import njit  # noqa: PLC0415

    return njit(cache=True, nogil=True)(function)
