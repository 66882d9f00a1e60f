"""Which trial is best, how it held out of sample, and whether to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from alphapivot.errors import DataError
from alphapivot.hub import Hub
from alphapivot.research.tune import overfitting, store, walkforward
from alphapivot.research.tune.objective import Objective, a_year, objective
from alphapivot.research.tune.space import Key
from alphapivot.research.tune.store import Trial

if TYPE_CHECKING:
    from alphapivot.research.tune.overfitting import Deflated, Overfit
    from alphapivot.research.tune.walkforward import Walked

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judgement:
    """How a search is judged: what is best, and how the walk-forward goes. ``embargo`` in days."""

    objective: Objective = "sharpe"
    kind: walkforward.Kind = "anchored"
    folds: int = 5
    embargo: int = 5


@dataclass(frozen=True)
class Found:
    """``returns``: days by trials. ``inside``, ``outside``: of the walk-forward. ``believed``: as the verdict says."""

    tune_id: int
    engine: str
    keys: Sequence[Key]
    trials: Sequence[Trial]
    days: Sequence[date]
    returns: Floats
    scores: Floats  # the objective of each trial over the whole period
    best: int
    walked: Sequence[Walked]
    purge: int
    inside: float
    outside: float
    deflated: Deflated
    overfit: Overfit
    believed: bool
    verdict: str
    a_year: float


def judge(
    hub: Hub, tune_id: int, engine: str, keys: Sequence[Key], trials: Sequence[Trial], judgement: Judgement
) -> Found:
    """What is best, how it held out of sample, and whether to believe it; kept in the hub."""
    days = trials[0].days
    returns = np.column_stack([t.returns for t in trials])
    year = a_year(days)
    scores = objective(returns, judgement.objective, year)
    best = walkforward.best(scores)
    if best < 0:
        raise DataError("no trial traded: lower [execution] entry_threshold, or take a longer period")
    purge = max(t.held for t in trials)
    folds = walkforward.folds(len(days), judgement.folds, judgement.kind, purge=purge, embargo=judgement.embargo)
    walked, tested, inside = [], [], []
    for fold in folds:
        before = objective(returns[fold.train], judgement.objective, year)
        own = walkforward.best(before)
        after = objective(returns[fold.test, own : own + 1], judgement.objective, year) if own >= 0 else [np.nan]
        walked.append(walkforward.Walked(fold, own, float(before[own]) if own >= 0 else np.nan, float(after[0])))
        if own >= 0:
            tested.append(returns[fold.test, own])
            inside.append(float(before[own]))
    joined = np.concatenate(tested)[:, None] if tested else np.zeros((2, 1))
    outside = float(objective(joined, judgement.objective, year)[0])
    # the search is deflated as Sharpe ratios whatever was maximised: that is what the literature can say
    deflated = overfitting.deflated_sharpe(returns, best)
    overfit = overfitting.backtest_overfitting(returns)
    mean_inside = float(np.mean(inside)) if inside else float("nan")
    believed, verdict = overfitting.verdict(deflated, overfit, outside, mean_inside, judgement.objective)
    judged = {
        "objective": judgement.objective,
        "walk_forward": judgement.kind,
        "folds": judgement.folds,
        "embargo": judgement.embargo,
        "purge": purge,
        "best": trials[best].number,
        "deflated": deflated.probability,
        "overfit": overfit.probability,
        "inside": mean_inside,
        "outside": outside,
        "verdict": verdict,
    }
    store.judge(hub, tune_id, judged, walked, days)
    return Found(
        tune_id, engine, keys, trials, days, returns, scores, best, walked, purge, mean_inside, outside, deflated,
        overfit, believed, verdict, year,
    )  # fmt: skip
