"""References to runs and receipts of steps: the small values that tasks pass to each other instead of frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class RunRef:
    """A run: a pure function of (as_of, known_at, config, code). ops.run holds its settings and the rest."""

    run_id: str
    scope: str  # [runtime] scores, or the name of a backtest or replay
    as_of: datetime  # the instant for which it decides
    known_at: datetime | None  # only rows stored up to this instant are read; None until ingestion is over
    config_hash: str


@dataclass(frozen=True)
class Receipt:
    """The result of one step, stored under (run_id, step, inputs_hash), so that a Retry does not repeat it."""

    run_id: str
    step: str
    inputs_hash: str
    batch_id: int
    rows: dict[str, int] = field(default_factory=dict)  # such as {"market.bar new": 12, "market.bar changed": 0}
    notes: tuple[str, ...] = ()  # for the operator
    unchanged: bool = False  # the receipt was already stored: nothing was done
