"""
Whether the best of many trials beats what chance alone would show. Pure; each statistic with its source.

- *PSR*, the probabilistic Sharpe ratio: the probability that the true Sharpe ratio exceeds a benchmark, given the
  length of the record, its skewness and its kurtosis (Bailey and Lopez de Prado, The Sharpe Ratio Efficient Frontier,
  2012).
- *DSR*, the deflated Sharpe ratio: the PSR against the Sharpe ratio expected of the best of ``trials`` without skill
  (Bailey and Lopez de Prado, The Deflated Sharpe Ratio, 2014).
- *PBO*, the probability of backtest overfitting: how often the trial that is best in one half of the record falls below
  the median of all in the other half, over all ways to halve it in blocks (combinatorially symmetric cross-validation;
  Bailey, Borwein, Lopez de Prado and Zhu, The Probability of Backtest Overfitting, 2015).

Sharpe ratios here are per period, not annualised: ``annual`` annualises them for display.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from alphapivot import figures

Floats = npt.NDArray[np.float64]
EULER = 0.5772156649015329
NORMAL = NormalDist()
LEAST = 30  # fewer returns give NaN
ENOUGH = 0.95  # deflated Sharpe ratio
TOO_MUCH = 0.2  # probability of overfitting


def annual(ratio: float, a_year: float) -> float:
    """A per-period Sharpe ratio annualised; ``a_year``: periods per year."""
    return ratio * float(np.sqrt(a_year))


def moments(returns: Floats) -> tuple[float, float]:
    """Skewness and kurtosis (3 for a normal distribution), from central moments over n."""
    centred = returns - np.mean(returns)
    variance = float(np.mean(centred**2))
    if variance <= 0:
        return 0.0, 3.0
    return float(np.mean(centred**3)) / variance**1.5, float(np.mean(centred**4)) / variance**2


def probabilistic_sharpe(ratio: float, benchmark: float, n: int, skewness: float, kurtosis: float) -> float:
    """
    The probability that the true Sharpe ratio exceeds ``benchmark``; both per period, from ``n`` returns.

    Z((SR - SR*) sqrt(n - 1) / sqrt(1 - skewness SR + (kurtosis - 1) / 4 SR^2)). NaN where undefined.
    """
    spread = 1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2
    if n < 2 or not spread > 0 or not np.isfinite(ratio):
        return float("nan")
    return NORMAL.cdf((ratio - benchmark) * (n - 1) ** 0.5 / spread**0.5)


def expected_best(trials: int, deviation: float) -> float:
    """
    The expected maximum of the Sharpe ratios of ``trials`` independent trials whose true ratio is 0 and whose estimates
    have this standard ``deviation``: deviation ((1 - g) Z^-1[1 - 1/N] + g Z^-1[1 - 1/(N e)]), g Euler's constant.
    """
    if trials < 2:
        return 0.0
    first, second = NORMAL.inv_cdf(1 - 1 / trials), NORMAL.inv_cdf(1 - 1 / (trials * np.e))
    return deviation * ((1 - EULER) * first + EULER * second)


@dataclass(frozen=True)
class Deflated:
    """``probability``: that the best trial's true Sharpe ratio is above 0, given how many were tried."""

    probability: float
    ratio: float  # of the best trial, per period
    benchmark: float  # expected of the best of as many trials without skill
    trials: int  # in all
    independent: int  # the number of independent trials that they are worth


def deflated_sharpe(returns: Floats, chosen: int) -> Deflated:
    """
    The DSR of column ``chosen`` of ``returns`` (periods by trials; all trials). NaN with fewer than LEAST returns.

    Trials are correlated: they are worth rho + (1 - rho) N independent ones, rho their mean correlation (the 2014
    paper, appendix A.3).
    """
    ratios = figures.sharpe(returns)
    finite = ratios[np.isfinite(ratios)]
    n, worth = len(returns), independent(returns)
    deviation = float(np.std(finite, ddof=1)) if len(finite) > 1 else 0.0
    benchmark = expected_best(worth, deviation)
    skewness, kurtosis = moments(returns[:, chosen])
    ratio = float(ratios[chosen])
    probability = probabilistic_sharpe(ratio, benchmark, n, skewness, kurtosis) if n >= LEAST else float("nan")
    return Deflated(
        probability=probability, ratio=ratio, benchmark=benchmark, trials=returns.shape[1], independent=worth
    )


def independent(returns: Floats) -> int:
    """The number of independent trials that these columns are worth, at least 1; trials without trades are ignored."""
    varied = returns[:, np.std(returns, axis=0) > 1e-15] if returns.size else returns
    count = varied.shape[1]
    if count < 2:
        return 1
    correlations = np.corrcoef(varied, rowvar=False)
    mean = max(0.0, float((correlations.sum() - count) / (count * (count - 1))))
    return max(1, int(np.rint(mean + (1 - mean) * count)))


@dataclass(frozen=True)
class Overfit:
    """
    ``probability``: PBO. ``logits``: for each split the logit of the relative out-of-sample rank of the trial that was
    best in sample; 0 or less is overfit. ``inside``, ``outside``: the chosen trial's performance in and out of sample.
    ``slope``: of ``outside`` over ``inside``. ``loss``: how often the chosen trial lost out of sample.
    """

    probability: float
    logits: Floats
    inside: Floats
    outside: Floats
    slope: float
    loss: float


def backtest_overfitting(returns: Floats, blocks: int = 16) -> Overfit:
    """
    PBO of ``returns`` (periods by trials) by CSCV over ``blocks`` (even) blocks of time: C(blocks, blocks / 2) splits.

    Performance is the Sharpe ratio; trials that never trade rank with 0, ties share their mean rank. NaN with fewer
    than two trials, or fewer than two periods a block.
    """
    if blocks < 2 or blocks % 2:
        raise ValueError(f"CSCV needs an even number of blocks, got {blocks}")
    periods, trials = returns.shape
    size = periods // blocks
    if trials < 2 or size < 2:
        nan, empty = float("nan"), np.empty(0)
        return Overfit(probability=nan, logits=empty, inside=empty, outside=empty, slope=nan, loss=nan)
    pieces = returns[periods - size * blocks :].reshape(
        blocks, size, trials
    )  # drops the oldest periods that do not fit
    sums, squares = pieces.sum(axis=1), (pieces**2).sum(axis=1)
    halves = np.array(list(itertools.combinations(range(blocks), blocks // 2)))
    chosen = np.zeros((len(halves), blocks), np.float64)
    chosen[np.arange(len(halves))[:, None], halves] = 1.0
    inside = _ratios(chosen @ sums, chosen @ squares, size * blocks // 2)
    outside = _ratios((1 - chosen) @ sums, (1 - chosen) @ squares, size * blocks // 2)
    best = np.argmax(inside, axis=1)
    rows = np.arange(len(halves))
    performance = outside[rows, best][:, None]
    rank = (outside < performance).sum(axis=1) + ((outside == performance).sum(axis=1) + 1) / 2
    relative = rank / (trials + 1)
    logits = np.log(relative / (1 - relative))
    x, y = inside[rows, best], outside[rows, best]
    slope = float(np.polyfit(x, y, 1)[0]) if np.ptp(x) > 1e-12 else float("nan")
    return Overfit(
        probability=float(np.mean(logits <= 0)),
        logits=logits,
        inside=x,
        outside=y,
        slope=slope,
        loss=float(np.mean(y < 0)),
    )


def _ratios(total: Floats, squared: Floats, n: int) -> Floats:
    """Sharpe ratios of n returns from their sums and sums of squares; 0 where they do not vary."""
    mean = total / n
    variance = np.maximum(squared / n - mean**2, 0.0) * n / (n - 1)
    return np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > 1e-24)


def verdict(deflated: Deflated, overfit: Overfit, outside: float, inside: float, objective: str) -> tuple[bool, str]:
    """
    (True if the result is credible, a sentence). ``outside``, ``inside``: the walk-forward's ``objective`` out of and
    in sample.
    """
    numbers = (
        f"deflated Sharpe ratio {deflated.probability:.0%} (evidence from {ENOUGH:.0%} on), "
        f"probability of overfitting {overfit.probability:.0%}, "
        f"{objective} {inside:.2f} in sample and {outside:.2f} out of sample"
    )
    if not np.isfinite(deflated.probability) or not np.isfinite(overfit.probability):
        return False, f"No verdict: the record is too short, or it trades too rarely ({numbers})."
    doubts = []
    if deflated.probability < ENOUGH:
        doubts.append(f"the best of {deflated.trials} trials would look as good by chance")
    if overfit.probability >= TOO_MUCH:
        doubts.append("the best trial of one half of the record is not reliably good in the other half")
    if not outside > 0:
        doubts.append("the chosen trials lost out of sample")
    if doubts:
        return False, f"Do not trust this result: {'; '.join(doubts)} ({numbers})."
    return True, f"This may be real: {numbers}. Past results are no guarantee: trade it on paper first."
