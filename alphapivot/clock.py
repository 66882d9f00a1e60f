"""The Clock port: wall clock live, simulated in demo and backtest. Decisions and gates take ``now`` from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time as an aware UTC instant."""

    def now(self) -> datetime: ...


class WallClock:
    """The machine's own time."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class SimulatedClock:
    """Stands at an instant until it is moved, and only moves forward."""

    instant: datetime

    def __post_init__(self) -> None:
        self.instant = _utc(self.instant)

    def now(self) -> datetime:
        return self.instant

    def advance(self, to: datetime) -> None:
        """Moves to ``to``; ValueError for an earlier instant or a naive one."""
        if _utc(to) < self.instant:
            raise ValueError(
                f"a clock does not run backwards: it stands at {self.instant.isoformat()}, got {to.isoformat()}"
            )
        self.instant = _utc(to)


def _utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"a clock needs an aware instant, got {instant.isoformat()} without a time zone")
    return instant.astimezone(UTC)
