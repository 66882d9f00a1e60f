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

    Weak references: a result lives as long as a caller holds it, the ``keep`` newest longer, if they take at most
    ``most`` bytes together (None: whatever they take). A key must cover all that the result depends on, and callers
    must not modify what they get.
    """

    def __init__(self, keep: int = 0, most: int | None = None) -> None:
        self._lock = threading.Lock()
        self._results: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
        self._turns: weakref.WeakValueDictionary[Hashable, _Turn] = weakref.WeakValueDictionary()
        self._newest: deque[tuple[Any, int]] = deque(maxlen=keep)
        self._most = most

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
        with turn.lock:
            result = self._results.get(key)
            if result is None:
                result = make()
                self._results[key] = result
                self._remember(result)
            return result

    def _remember(self, result: Any) -> None:
        if self._most is None:
            self._newest.append((result, 0))
            return
        size = int(result.memory_usage(index=False).sum())
        with self._lock:
            if size <= self._most:
                self._newest.append((result, size))
            while sum(taken for _, taken in self._newest) > self._most:
                self._newest.popleft()


class _Turn:
    """A lock that can be referenced weakly."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
