"""
The jumps of a vendor's continuous futures ticker, such as Yahoo's ES=F: contracts joined without adjustment. Pure.

Towards its expiry a contract's price converges on the spot price, and at the roll the ticker jumps to the next
contract: against spot it is a sawtooth, whose teeth are the jumps. No position earns them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

YEAR = 250  # closes
MEAN = 5  # closes over which the noise of different closing times is averaged
FEWEST = 60


def jump(futures: pd.Series[float], spot: pd.Series[float]) -> float | None:
    """
    The typical size of a jump, as a share of the price; None with fewer than 60 common closes. Both: closes by day.

    A sawtooth from 0 to a has the variance a^2 / 12. That of the basis, log(futures / spot), has the noise of closing
    times on top, which shows in its daily changes: their spread is that of two closes, and the median does not see the
    few jumps. The median year counts.
    """
    both = pd.concat([futures, spot], axis=1, join="inner").dropna()
    both = both[(both > 0).all(axis=1)]
    if len(both) < FEWEST:
        return None
    basis = pd.Series(np.log(both.iloc[:, 0].to_numpy() / both.iloc[:, 1].to_numpy()))
    years = max(1, len(basis) // YEAR)
    return float(np.median([_tooth(part) for part in np.array_split(basis.to_numpy(), years)]))


def _tooth(basis: np.ndarray) -> float:
    change = np.diff(basis)
    noise = (1.4826 * np.median(np.abs(change - np.median(change)))) ** 2 / 2
    smooth = pd.Series(basis).rolling(MEAN).mean().dropna()
    return float(np.sqrt(12 * max(float(smooth.var(ddof=0)) - noise / MEAN, 0.0)))
