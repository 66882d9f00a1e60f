"""Machine code for the loops that neither numpy nor TA-Lib has."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    ``function`` compiled by numba: at its first call, for importing a pillar must not wait for that, and kept on disk.

    It releases the GIL. Without fastmath the same operations are made in the same order wherever a value lies.
    """
    from numba import njit  # noqa: PLC0415

    return njit(cache=True, nogil=True)(function)
