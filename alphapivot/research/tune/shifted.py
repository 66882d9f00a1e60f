"""
Whether a rule is better than its own entries at other times: its scores shifted in time against the prices. Pure.

All markets are shifted by the same share of the period, what falls off at the end begins it. Entries stay as many, as
long held and as clustered as they were, markets keep moving together; only what the scores knew of the prices is gone
(a circular block shift: Politis and Romano 1992; Aronson 2007, Evidence-Based Technical Analysis, chapter 6).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
SHIFTS = 200
EDGE = 0.05  # of the period: a score moved by less still knows what it knew
MOVED = ["score", "raw", "gate", "veto"]


def shares(count: int, seed: int) -> Floats:
    """By which shares of the period scores are shifted."""
    return np.random.default_rng([seed, 7]).uniform(EDGE, 1 - EDGE, count)


def shifted(composites: pd.DataFrame, share: float) -> pd.DataFrame:
    """``composites`` (sorted by symbol and ts) with each symbol's scores later by ``share`` of its bars."""
    at = np.arange(len(composites))
    sizes = composites.groupby("symbol", sort=False)["ts"].transform("size").to_numpy()
    first = at - composites.groupby("symbol", sort=False).cumcount().to_numpy()
    source = first + (at - first - np.round(share * sizes).astype(np.int64)) % sizes
    moved = composites[MOVED].take(source).set_axis(composites.index)
    return composites.assign(**{name: moved[name] for name in MOVED})


def as_good(reached: float, sharpes: Floats) -> float:
    """The share with a Sharpe ratio as large as ``reached``, which counts among them (Phipson and Smyth 2010)."""
    return float((1 + np.sum(sharpes >= reached)) / (1 + len(sharpes)))
