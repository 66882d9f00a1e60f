"""
Walk-forward: choose on the past, judge on what came next; folds of instants with purging and embargo. Pure.

The record is cut into ``folds`` + 1 equal pieces. Fold k is judged on piece k + 1 by what is best before it: on all
pieces before (*anchored*) or on the last one alone (*rolling*). A trade that is open where training ends would carry
training into the test, or the test's prices into training: the last ``purge`` instants of training are left out, and
``embargo`` more, for what is serially correlated (Lopez de Prado, Advances in Financial Machine Learning, 2018, ch. 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from alphapivot.errors import ConfigError

Ints = npt.NDArray[np.int64]
Kind = Literal["anchored", "rolling"]


@dataclass(frozen=True)
class Fold:
    """Half-open ranges of instants: what is chosen on, and what it is judged on."""

    train: slice
    test: slice


def folds(count: int, pieces: int, kind: Kind, *, purge: int, embargo: int, least: int = 30) -> list[Fold]:
    """
    ``pieces`` folds over ``count`` instants. Raises ConfigError where a training span would be shorter than ``least``.
    """
    if pieces < 1:
        raise ConfigError(f"--folds {pieces}: walk-forward needs at least 1")
    edges = np.linspace(0, count, pieces + 2).round().astype(int)
    found = []
    for k in range(pieces):
        first, middle, last = (0 if kind == "anchored" else edges[k]), edges[k + 1], edges[k + 2]
        end = middle - purge - embargo
        if end - first < least or last - middle < 2:
            raise ConfigError(
                f"--folds {pieces}: fold {k + 1} would train on {max(0, end - first)} of {count} instants "
                f"after a purge of {purge} and an embargo of {embargo}, {least} are the least; "
                "take fewer folds or a longer span"
            )
        found.append(Fold(slice(int(first), int(end)), slice(int(middle), int(last))))
    return found


def longest(held: Sequence[int] | Ints, share: float = 0.95) -> int:
    """The purge: so many instants that ``share`` of the trades are over; 0 without trades."""
    return int(np.ceil(np.quantile(np.asarray(held), share))) if len(held) else 0


@dataclass(frozen=True)
class Walked:
    """A fold, the trial that was best in it, and its objective before and after; NaN where none could be chosen."""

    fold: Fold
    chosen: int
    inside: float
    outside: float


def best(values: npt.NDArray[np.float64]) -> int:
    """The first of the largest values that are known; -1 where none is."""
    known = np.isfinite(values)
    return int(np.argmax(np.where(known, values, -np.inf))) if known.any() else -1
