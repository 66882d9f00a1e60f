"""Computes once what several threads request at once: the pillars of a run, each in its thread, read the same bars."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any


class Shared:
    """
    Results by key, computed by the first caller while the others wait; an error reaches only the caller that computed.

    Weak references: a result lives as long as a caller holds it, the ``keep`` newest longer. A key must cover all that
    the result depends on, and callers must not modify what they get.
    """

    def __init__(self, keep: int = 0) -> None:
        self._lock = threading.Lock()
        self._results: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
        self._turns: weakref.WeakValueDictionary[Hashable, _Turn] = weakref.WeakValueDictionary()
        self._newest: deque[Any] = deque(maxlen=keep)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
        with turn.lock:
            result = self._results.get(key)
            if result is None:
                result = make()
                self._results[key] = result
                self._newest.append(result)
            return result


class _Turn:
    """A lock that can be referenced weakly."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
