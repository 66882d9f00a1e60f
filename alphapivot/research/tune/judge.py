"""Judges a search: the best trial, how it holds out of sample, and whether to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot import figures
from alphapivot.errors import DataError
from alphapivot.hub import Hub
from alphapivot.research.tune import guided, overfitting, store, walkforward
from alphapivot.research.tune.objective import Judgement, objective
from alphapivot.research.tune.space import Key
from alphapivot.research.tune.store import Trial

if TYPE_CHECKING:
    from alphapivot.research.tune.overfitting import Deflated, Overfit
    from alphapivot.research.tune.walkforward import FoldResult

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Assessment:
    """
    ``returns``: days by trials. ``inside``, ``outside``: the walk-forward's objective in and out of sample.
    ``believed``: True if the verdict is that the result is credible.
    """

    returns: Floats
    scores: Floats  # the objective of each trial over the whole period
    best: int
    walked: Sequence[FoldResult]
    purge: int
    inside: float
    outside: float
    deflated: Deflated
    overfit: Overfit
    luck: float
    believed: bool
    verdict: str
    a_year: float


@dataclass(frozen=True)
class SearchResult(Assessment):
    """The assessment of a search, and what it tried."""

    tune_id: int
    engine: str
    keys: Sequence[Key]
    trials: Sequence[Trial]
    days: Sequence[date]
    shifted: Floats | None = None  # Sharpe ratios of the best trial with its scores shifted in time


def judge(
    hub: Hub,
    tune_id: int,
    engine: str,
    keys: Sequence[Key],
    trials: Sequence[Trial],
    judgement: Judgement,
    could: pd.DatetimeIndex | None = None,
    *,
    guide: bool = False,
) -> SearchResult:
    """
    Judges the trials, sorted by number, and stores the judgement. With ``guide`` a fold chooses among the trials of its
    own study. ``could``: see ``figures.a_year``. Raises DataError if no trial traded.
    """
    days = trials[0].days
    year = figures.a_year(pd.DatetimeIndex(list(days)), could)
    assessment = assess(
        np.column_stack([t.returns for t in trials]),
        judgement,
        year,
        purge=max(t.held for t in trials),
        studies=guided.count(judgement) if guide else 1,
    )
    judged = {
        "objective": judgement.objective,
        "walk_forward": judgement.kind,
        "folds": judgement.folds,
        "embargo": judgement.embargo,
        "purge": assessment.purge,
        "best": trials[assessment.best].number,
        "deflated": assessment.deflated.probability,
        "overfit": assessment.overfit.probability,
        "inside": assessment.inside,
        "outside": assessment.outside,
        "verdict": assessment.verdict,
    }
    store.judge(hub, tune_id, judged, assessment.walked, days)
    return SearchResult(**vars(assessment), tune_id=tune_id, engine=engine, keys=keys, trials=trials, days=days)


def assess(returns: Floats, judgement: Judgement, year: float, *, purge: int = 0, studies: int = 1) -> Assessment:
    """
    Assesses trials by their returns (days by trials), ``year`` of them a year; of several ``studies`` (see ``guided``)
    each fold knows its own trials. Pure. Raises DataError if none traded.
    """
    scores = objective(returns, judgement.objective, year)
    best = walkforward.best(scores)
    if best < 0:
        raise DataError("no trial traded: lower [execution] entry_threshold, or use a longer period")
    folds = walkforward.folds(len(returns), judgement.folds, judgement.kind, purge=purge, embargo=judgement.embargo)
    walked, tested, inside = [], [], []
    for number, fold in enumerate(folds):
        before = objective(returns[fold.train], judgement.objective, year)
        if studies > 1:
            before = np.where(np.arange(len(before)) % studies == number, before, np.nan)
        chosen = walkforward.best(before)
        traded = chosen >= 0
        after = objective(returns[fold.test, chosen : chosen + 1], judgement.objective, year) if traded else [np.nan]
        walked.append(
            walkforward.FoldResult(fold, chosen, float(before[chosen]) if traded else np.nan, float(after[0]))
        )
        if traded:
            tested.append(returns[fold.test, chosen])
            inside.append(float(before[chosen]))
    joined = np.concatenate(tested)[:, None] if tested else np.zeros((2, 1))
    outside = float(objective(joined, judgement.objective, year)[0])
    mean_inside = float(np.mean(inside)) if inside else float("nan")
    # luck and losses use Sharpe ratios whatever the objective: the literature defines no other
    overfit, luck = overfitting.backtest_overfitting(returns), overfitting.luck(returns, best)
    count = returns.shape[1]
    believed, verdict = overfitting.verdict(luck, overfit, count, outside, mean_inside, judgement.objective)
    return Assessment(
        returns=returns,
        scores=scores,
        best=best,
        walked=walked,
        purge=purge,
        inside=mean_inside,
        outside=outside,
        deflated=overfitting.deflated_sharpe(returns, best),
        overfit=overfit,
        luck=luck,
        believed=believed,
        verdict=verdict,
        a_year=year,
    )
