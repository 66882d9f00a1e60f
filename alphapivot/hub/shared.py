"""What several threads ask for at once is made once: the pillars of a run, each in its thread, read the same bars."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any


class Shared:
    """
    Results by key, made by whoever asks first while the others wait; of an error nobody but its maker knows.

    Nothing is held beyond its last user, but for the ``keep`` newest: memory is what the askers hold anyway. A key must
    say all that the result depends on, and nobody may write into what they are given.
    """

    def __init__(self, keep: int = 0) -> None:
        self._lock = threading.Lock()
        self._made: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
        self._making: weakref.WeakValueDictionary[Hashable, _Turn] = weakref.WeakValueDictionary()
        self._kept: deque[Any] = deque(maxlen=keep)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            turn = self._making.setdefault(key, _Turn())
        with turn.lock:
            found = self._made.get(key)
            if found is None:
                found = make()
                self._made[key] = found
                self._kept.append(found)
            return found


class _Turn:
    """A lock that can be held weakly."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
