"""
Walk-forward: choose on the past, test on what follows; folds of instants with purging and embargo. Pure.

The record is cut into ``folds`` + 1 equal pieces. Fold k tests on piece k + 1 the trial that is best before it: on all
earlier pieces (*anchored*) or on the last one alone (*rolling*). A trade that is open where training ends would leak
training into the test, or the test's prices into training: the last ``purge`` instants of training are left out, and
``embargo`` more for serial correlation (Lopez de Prado, Advances in Financial Machine Learning, 2018, ch. 7).
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
    """Half-open ranges of instants: where a trial is chosen, and where it is tested."""

    train: slice
    test: slice


def folds(count: int, pieces: int, kind: Kind, *, purge: int, embargo: int, least: int = 30) -> list[Fold]:
    """
    ``pieces`` folds over ``count`` instants. Raises ConfigError if a training span would be shorter than ``least``.
    """
    if pieces < 1:
        raise ConfigError(f"--folds {pieces}: walk-forward needs at least 1")
    edges = np.linspace(0, count, pieces + 2).round().astype(int)
    result = []
    for k in range(pieces):
        first, middle, last = (0 if kind == "anchored" else edges[k]), edges[k + 1], edges[k + 2]
        end = middle - purge - embargo
        if end - first < least or last - middle < 2:
            raise ConfigError(
                f"--folds {pieces}: fold {k + 1} would train on {max(0, end - first)} of {count} instants "
                f"after a purge of {purge} and an embargo of {embargo}, the minimum is {least}; "
                "use fewer folds or a longer span"
            )
        result.append(Fold(slice(int(first), int(end)), slice(int(middle), int(last))))
    return result


def longest(held: Sequence[int] | Ints, share: float = 0.95) -> int:
    """The purge: the number of instants within which ``share`` of the trades end; 0 without trades."""
    return int(np.ceil(np.quantile(np.asarray(held), share))) if len(held) else 0


@dataclass(frozen=True)
class FoldResult:
    """A fold, its best trial in training (-1: none), and that trial's objective in training and test (else NaN)."""

    fold: Fold
    chosen: int
    inside: float
    outside: float


def best(values: npt.NDArray[np.float64]) -> int:
    """The index of the first largest finite value; -1 if none is finite."""
    finite = np.isfinite(values)
    return int(np.argmax(np.where(finite, values, -np.inf))) if finite.any() else -1
