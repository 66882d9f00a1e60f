"""The Clock port: the wall clock in live runs, a simulated one in demo and backtest. Decisions take ``now`` from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Returns the current time as an aware UTC instant."""

    def now(self) -> datetime: ...


class WallClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class SimulatedClock:
    """Stays at one instant until it is advanced; only moves forward."""

    instant: datetime

    def __post_init__(self) -> None:
        self.instant = _utc(self.instant)

    def now(self) -> datetime:
        return self.instant

    def advance(self, to: datetime) -> None:
        """Move to ``to``; ValueError for an earlier or a naive instant."""
        if _utc(to) < self.instant:
            raise ValueError(
                f"a clock cannot move backwards: it is at {self.instant.isoformat()}, got {to.isoformat()}"
            )
        self.instant = _utc(to)


def _utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"a clock needs an aware instant, got {instant.isoformat()} without a time zone")
    return instant.astimezone(UTC)
