"""
Whether the best of many trials beats what chance alone would show. Pure; each statistic with its source.

- *Luck*: how often the best of these trials would look as good if none had any skill. Hansen's test for superior
  predictive ability (2005) with cash as the benchmark: days are drawn again in blocks (the stationary bootstrap of
  Politis and Romano, 1994) for all trials at once, so that trials which move together count as the few that they are
  worth, and a plateau of good ones is not held against its best.
- *Loss*: the record is halved in every way that its blocks allow, and the trial that is best in one half looked at in
  the other (the combinatorially symmetric cross-validation of Bailey, Borwein, Lopez de Prado and Zhu, The Probability
  of Backtest Overfitting, 2015): how often it lost there.
- *PBO*: how often it fell below the median of all there. Among equally good trials that is one half, among identical
  ones never: it tells whether the choice mattered, not whether it pays, so the verdict leaves it out.
- *PSR*, the probabilistic Sharpe ratio: the probability that the true Sharpe ratio exceeds a benchmark, given the
  length of the record, its skewness and its kurtosis (Bailey and Lopez de Prado, The Sharpe Ratio Efficient Frontier,
  2012).
- *DSR*, the deflated Sharpe ratio: the PSR against the Sharpe ratio expected of the best of ``trials`` without skill
  (Bailey and Lopez de Prado, The Deflated Sharpe Ratio, 2014).

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
LUCKY = 0.03  # of luck: some 3 % of searches among noise are believed
LOST = 0.2  # of splits
DRAWS = 1_000  # of the bootstrap


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


def luck(returns: Floats, chosen: int, seed: int = 0) -> float:
    """
    The probability that the best of trials without skill, alike as the columns of ``returns`` (periods by trials; all
    trials) are, is as good as column ``chosen``. NaN with fewer than LEAST returns.

    The statistic is root(n) mean / deviation. Each trial is drawn around 0, a hopeless one (below -root(2 log log n))
    around its own mean: bad trials do not make a good one look lucky. Blocks have a mean length of n^(1/3).
    """
    periods = len(returns)
    ratios = figures.sharpe(returns)
    if periods < LEAST or not np.isfinite(ratios[chosen]):
        return float("nan")
    varied = returns[:, np.isfinite(ratios)]
    mean, deviation = varied.mean(axis=0), varied.std(axis=0, ddof=1) / np.sqrt(periods)
    hopeless = mean / deviation < -np.sqrt(2 * np.log(np.log(periods)))
    centre = np.where(hopeless, 0.0, mean)
    draws = _drawn(periods, np.random.default_rng(seed)) @ varied / periods
    best = ((draws - centre) / deviation).max(axis=1)
    as_good = int((best >= ratios[chosen] * np.sqrt(periods)).sum())
    return (as_good + 1) / (DRAWS + 1)


def _drawn(periods: int, rng: np.random.Generator) -> Floats:
    """How often each of DRAWS stationary bootstraps draws each period. A block goes round the end of the record."""
    length, width = periods ** (1 / 3), 2 * periods + 1
    drawn = np.empty((DRAWS, periods))
    for rows in np.split(drawn, 10):  # in pieces, to save memory
        shape = len(rows), int(1.5 * periods / length) + 40
        ends = np.minimum(np.cumsum(rng.geometric(1 / length, shape), axis=1), periods)
        starts = rng.integers(0, periods, shape) + width * np.arange(len(rows))[:, None]
        stops = starts + np.diff(ends, axis=1, prepend=0)
        size = width * len(rows)
        edges = np.bincount(starts.ravel(), minlength=size) - np.bincount(stops.ravel(), minlength=size)
        covered = np.cumsum(edges.reshape(len(rows), width), axis=1)
        rows[:] = covered[:, :periods] + covered[:, periods:-1]
    return drawn


@dataclass(frozen=True)
class Overfit:
    """
    ``probability``: PBO. ``logits``: for each split the logit of the relative out-of-sample rank of the trial that was
    best in sample; below 0 is overfit. ``inside``, ``outside``: the chosen trial's performance in and out of sample.
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
        probability=float(np.mean(logits < -1e-12)),
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


def verdict(
    lucky: float, overfit: Overfit, trials: int, outside: float, inside: float, objective: str
) -> tuple[bool, str]:
    """
    (True if the result is credible, a sentence that names the evidence). ``lucky``: from ``luck``. ``outside``,
    ``inside``: the walk-forward's ``objective`` out of and in sample.
    """
    if not np.isfinite(lucky) or not np.isfinite(overfit.loss):
        return False, "No verdict: the record is too short, or it trades too rarely."
    luck_ = f"without any skill the best of {trials} such trials would look as good in {lucky:.1%} of cases"
    splits = f"the best of one half of the record lost in the other half in {overfit.loss:.0%} of splits"
    walked = f"{objective} {inside:.2f} where it was chosen and {outside:.2f} after that"
    evidence = (
        (lucky <= LUCKY, luck_, f"evidence up to {LUCKY:.0%}"),
        (overfit.loss < LOST, splits, f"evidence below {LOST:.0%}"),
        (outside > 0, walked, "evidence above 0"),
    )
    if against := [f"{text} ({bound})" for good, text, bound in evidence if not good]:
        return False, f"Do not trust this result: {'; '.join(against)}."
    found = "; ".join(text for _, text, _ in evidence)
    return True, f"This may be real: {found}. Past results are no guarantee: trade it on paper first."
