"""
How many requests a venue takes in how many seconds, kept by all processes of this machine together.

What was asked lately stands in a small file below ALPHAPIVOT_HOME, since a venue counts by its user, not by process.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alphapivot import home, waiting

if TYPE_CHECKING:
    from pathlib import Path

Past = Sequence[tuple[float, Sequence[str]]]  # when, and the request's keys
TOLD = 3.0  # seconds of waiting that are worth a message


@dataclass(frozen=True)
class Rule:
    """
    At most ``most`` requests within ``seconds``; ``key``: of those with the same key at this position, else of all.

    ``calendar``: within the same second (minute, day) of the clock, not within any span of that length.
    """

    most: int
    seconds: float
    key: int | None = None
    calendar: bool = False


def pause(past: Past, keys: Sequence[str], rules: Sequence[Rule], now: float) -> float:
    """Seconds until a request with ``keys`` breaks no rule."""
    waits = [0.0]
    for rule in rules:
        begin = now - now % rule.seconds if rule.calendar else now - rule.seconds
        alike = sorted(
            at for at, theirs in past if at >= begin and (rule.key is None or theirs[rule.key] == keys[rule.key])
        )
        if len(alike) >= rule.most:
            first = begin if rule.calendar else alike[-rule.most]
            waits.append(first + rule.seconds - now)
    return max(waits)


class Budget:
    """The requests of one user at one venue; ``name`` names its file."""

    def __init__(
        self,
        name: str,
        rules: Sequence[Rule],
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name, self._rules, self._now, self._sleep = name, rules, now, sleep
        self._longest = max(rule.seconds for rule in rules)

    def take(self, *keys: str) -> None:
        """Waits until a request with ``keys`` keeps all rules, and counts it."""
        while True:
            wait = self.taken(*keys)
            if not wait:
                return
            if wait > TOLD:
                waiting.say(f"{self._name} takes no more requests for now: waiting {wait:.0f} s")
            self._sleep(wait)

    def taken(self, *keys: str) -> float:
        """0 if a request with ``keys`` keeps all rules and was counted, else the seconds to wait."""
        folder = home.cache() / "requests"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._name}.json".replace("/", "-")
        with path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            now = self._now()
            past = [entry for entry in _read(path) if now - self._longest <= entry[0] <= now]
            wait = pause(past, keys, self._rules, now)
            if not wait:
                file.truncate(0)
                file.write(json.dumps([*past, (now, keys)]))
        return wait


def _read(path: Path) -> list[tuple[float, list[str]]]:
    try:
        return [(float(at), [str(key) for key in keys]) for at, keys in json.loads(path.read_text() or "[]")]
    except (ValueError, TypeError):  # cut off by a kill: it is counted again from here on
        return []
