"""What names a run and what a step leaves behind: small values that tasks pass to each other instead of frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class RunRef:
    """A run: a pure function of (as_of, known_at, config, code). Its settings and the rest stand in ops.run."""

    run_id: str
    scope: str  # "live", or the name of a backtest or replay
    as_of: datetime  # the instant for which it decides
    known_at: datetime | None  # the instant up to which the database is read; None until ingestion is over
    config_hash: str


@dataclass(frozen=True)
class Receipt:
    """What one step did; found again by (run_id, step, inputs_hash), so that a Retry does not do it twice."""

    run_id: str
    step: str
    inputs_hash: str
    batch_id: int
    rows: dict[str, int] = field(default_factory=dict)  # such as {"market.bar new": 12, "market.bar changed": 0}
    notes: tuple[str, ...] = ()  # what a person should read
    unchanged: bool = False  # it was found, not made
