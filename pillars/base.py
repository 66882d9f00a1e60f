"""
What a pillar is: frozen parameters, the history it needs, and one pure call from bars to signals.

A ``Panel`` is one timeframe's bars for many symbols as long columns sorted by (symbol, ts), cut into slices; ``each``
runs a function over every slice, so that a pillar's author writes plain column arithmetic and cannot mix two symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

Column = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """
    Bars of one timeframe, sorted by (symbol, ts). Missing values are NaN.

    Prices are adjusted: raw + offset, anchored at the first futures contract (offset is 0 for spot). They may be negative:
    never divide by them nor take their logarithm; ``raw_close`` is the traded price.
    """

    symbols: tuple[str, ...]  # one per slice
    bounds: npt.NDArray[np.int64]  # slice i is rows bounds[i]:bounds[i + 1]
    ts: npt.NDArray[np.datetime64]  # UTC, microseconds, when the bar was complete
    open: Column
    high: Column
    low: Column
    close: Column
    volume: Column
    open_interest: Column
    offset: Column

    @property
    def raw_close(self) -> Column:
        """The close as it was traded."""
        return self.close - self.offset

    def each(self, function: Callable[..., Any], *columns: Column, **parameters: Any) -> Any:
        """``function`` over each symbol's slice of ``columns``; one long column, or a tuple of them."""
        raise NotImplementedError


@dataclass(frozen=True)
class Parts:
    """What a pillar makes of a panel: named long columns whose sum is its score; gates multiply; veto holds reason codes."""

    parts: dict[str, Column] = field(default_factory=dict)
    gate: Column | None = None
    veto: npt.NDArray[np.object_] | None = None
    features: dict[str, Column] = field(default_factory=dict)


class Pillar(BaseModel):
    """A pillar's parameters: its section in config.ini. Subclasses give ``name``, ``history`` and ``parts``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str]
