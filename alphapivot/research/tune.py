"""
`alphapivot tune`: many configs over one period, each trial a row as soon as it is done, and a verdict on the search.

Trials run side by side in threads, for the engine's loop releases the GIL; what they share (bars, signals,
composites) is made once. A search is named by the hash of its question (base config, keys, period, seed, engine,
code): asked again after an interruption it reads the hub as it was known then, makes what is missing, and ends with the
same table. How it is judged (objective, folds) is no part of the question, so that to judge anew runs nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.errors import ConfigError, DataError
from alphapivot.hub import Hub
from alphapivot.research import core, overfitting, tune_space, tune_store, walkforward
from alphapivot.research.tune_scores import Scorer
from alphapivot.research.tune_space import Key
from alphapivot.research.tune_store import Trial
from alphapivot.version import code_version

if TYPE_CHECKING:
    from alphapivot.research.overfitting import Deflated, Overfit
    from alphapivot.research.walkforward import Walked
    from alphapivot.settings import Settings

Floats = npt.NDArray[np.float64]
Objective = Literal["sharpe", "sortino", "calmar", "growth"]
Progress = Callable[[int, int], None]  # trials done, of how many
OBJECTIVES: dict[str, str] = {
    "sharpe": "mean over standard deviation of daily returns, as of a year",
    "sortino": "mean over downside deviation of daily returns, as of a year",
    "calmar": "annual growth over the largest drawdown",
    "growth": "compound annual growth",
}


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


def run(
    hub: Hub,
    settings: Settings,
    keys: Sequence[Key],
    *,
    since: datetime,
    until: datetime,
    count: int | None,
    seed: int,
    judgement: Judgement,
    progress: Progress,
    jobs: int = 2,
    again: bool = False,
) -> Found:
    """
    Searches (since, until] with the screening engine.

    Raises ConfigError where a key cannot be tuned or the engine leaves out what the config asks for, DataError where
    there is nothing to trade or the same search runs elsewhere.
    """
    if not since < until:
        raise ConfigError(f"--from {since:%Y-%m-%d} is not before --to {until:%Y-%m-%d}")
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: at least 1")
    tried = tune_space.trials(keys, count, seed)
    if len(tried) < 2:
        raise ConfigError("one trial is no search; `alphapivot backtest` runs a single config")
    chosen = [tune_space.apply(settings, dict(zip(keys, values, strict=True))) for values in tried]
    for made in chosen:
        core.rules(made)
    asked = question(settings, keys, tried, since, until, seed, "core")
    tune_id, known_at = tune_store.open_(hub, asked, again=again)
    done = {t.number for t in tune_store.read(hub, tune_id)}
    missing = [number for number in range(len(tried)) if number not in done]
    progress(len(done), len(tried))
    if missing:
        scorer = Scorer(hub, settings, since=since, until=until, known_at=known_at)

        def trial(number: int) -> Trial:
            made = chosen[number]
            values = {key.name: text for key, text in zip(keys, tried[number], strict=True)}
            market = scorer.market(made)
            scores = core.scores(scorer.composites(made), made.execution.entry_threshold)
            rules = core.rules(made)
            return _screened(number, values, made.hash(), core.simulate(market, scores, rules), rules.cash)

        # those that share their composites come one after the other, so that these need not be kept
        missing.sort(key=lambda n: (_shared(chosen[n]), n))
        _side_by_side(hub, tune_id, missing, trial, len(tried), progress, jobs)
    return judge(hub, tune_id, keys, tune_store.read(hub, tune_id), judgement)


def question(
    settings: Settings,
    keys: Sequence[Key],
    tried: Sequence[Sequence[str]],
    since: datetime,
    until: datetime,
    seed: int,
    engine: str,
) -> dict[str, Any]:
    """What a search asks, and its hash: columns of research.tune."""
    asked = {
        "config_hash": settings.hash(),
        "code_version": code_version(),
        "keys": [f"{k.name}={','.join(k.values) or f'{k.low:g}..{k.high:g}'}" for k in keys],
        "since": since,
        "until": until,
        "seed": seed,
        "engine": engine,
        "trials": len(tried),
    }
    told = json.dumps([asked, [list(values) for values in tried]], sort_keys=True, default=str)
    digest = hashlib.sha256(told.encode()).hexdigest()
    return {**asked, "config": json.dumps(settings.stored()), "question_hash": digest}


def judge(hub: Hub, tune_id: int, keys: Sequence[Key], trials: Sequence[Trial], judgement: Judgement) -> Found:
    """What is best, how it held out of sample, and whether to believe it; kept in the hub."""
    days = trials[0].days
    returns = np.column_stack([t.returns for t in trials])
    a_year = _a_year(days)
    scores = objective(returns, judgement.objective, a_year)
    best = walkforward.best(scores)
    if best < 0:
        raise DataError("no trial traded: lower [execution] entry_threshold, or take a longer period")
    purge = max(t.held for t in trials)
    folds = walkforward.folds(len(days), judgement.folds, judgement.kind, purge=purge, embargo=judgement.embargo)
    walked, tested, inside = [], [], []
    for fold in folds:
        before = objective(returns[fold.train], judgement.objective, a_year)
        own = walkforward.best(before)
        after = objective(returns[fold.test, own : own + 1], judgement.objective, a_year) if own >= 0 else [np.nan]
        walked.append(walkforward.Walked(fold, own, float(before[own]) if own >= 0 else np.nan, float(after[0])))
        if own >= 0:
            tested.append(returns[fold.test, own])
            inside.append(float(before[own]))
    joined = np.concatenate(tested)[:, None] if tested else np.zeros((2, 1))
    outside = float(objective(joined, judgement.objective, a_year)[0])
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
    tune_store.judge(hub, tune_id, judged, walked, days)
    return Found(
        tune_id, keys, trials, days, returns, scores, best, walked, purge, mean_inside, outside, deflated, overfit,
        believed, verdict, a_year,
    )  # fmt: skip


def objective(returns: Floats, name: str, a_year: float) -> Floats:
    """Of each column of daily returns (days by trials); NaN where it does not vary."""
    varies = returns.std(axis=0) > 1e-15
    mean = returns.mean(axis=0)
    if name == "sharpe":
        spread = returns.std(axis=0, ddof=1) if len(returns) > 1 else np.zeros_like(mean)
    elif name == "sortino":
        spread = np.sqrt((np.minimum(returns, 0.0) ** 2).mean(axis=0))
    else:
        grown = growth(returns, a_year)
        if name == "growth":
            return np.where(varies, grown, np.nan)
        spread, mean = drawdown(returns), grown / np.sqrt(a_year)  # the factor below is for daily numbers
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(varies & (spread > 1e-15), mean / spread * np.sqrt(a_year), np.nan)


def growth(returns: Floats, a_year: float) -> Floats:
    """Compound annual growth; -1 where all was lost."""
    whole = np.prod(1 + np.maximum(returns, -1.0), axis=0)
    grown: Floats = whole ** (a_year / max(len(returns), 1)) - 1
    return grown


def drawdown(returns: Floats) -> Floats:
    """The largest fall from the highest equity, as a share of it."""
    worth = np.vstack([np.ones(returns.shape[1]), np.cumprod(1 + returns, axis=0)])
    fall: Floats = (1 - worth / np.maximum.accumulate(worth, axis=0)).max(axis=0)
    return fall


def summed(
    number: int,
    values: Mapping[str, str],
    config_hash: str,
    at: pd.DatetimeIndex,
    equity: Floats,
    cash: float,
    *,
    trades: int,
    held: int = 0,
    halted: datetime | None = None,
) -> Trial:
    """A trial of its equity at each instant, from ``cash`` on: the last of each UTC day counts."""
    series = pd.Series(equity, at).groupby(at.floor("D")).last()
    worth = np.append(cash, series.to_numpy(np.float64))
    returns = np.where(worth[:-1] > 0, worth[1:] / np.where(worth[:-1] > 0, worth[:-1], 1.0) - 1, 0.0)
    days = [ts.date() for ts in series.index]
    column, a_year = returns[:, None], _a_year(days)
    return Trial(
        number, values, config_hash, float(objective(column, "sharpe", a_year)[0]), float(growth(column, a_year)[0]),
        max(0.0, float(drawdown(column)[0])), trades, held, halted, days, returns,
    )  # fmt: skip


def _screened(number: int, values: Mapping[str, str], config_hash: str, result: core.Result, cash: float) -> Trial:
    table = result.trades()
    over = table.dropna(subset=["entry_at", "exit_at"])
    lasted = (over["exit_at"] - over["decided_at"]).dt.total_seconds() / 86_400
    held = walkforward.longest(np.ceil(lasted.to_numpy() * _session_share(result.market.as_of)).astype(np.int64))
    return summed(
        number, values, config_hash, result.market.as_of, result.equity, cash,
        trades=result.entered, held=held, halted=result.halted,
    )  # fmt: skip


def _session_share(at: pd.DatetimeIndex) -> float:
    """Days on which anything is decided, of all days."""
    days = at.floor("D").unique()
    return min(1.0, len(days) / max(1, (days[-1] - days[0]).days + 1))


def _a_year(days: Sequence[date]) -> float:
    """How many such days a year has."""
    span = (days[-1] - days[0]).days + 1
    return 365.25 * len(days) / span if len(days) > 1 else 252.0


def _shared(settings: Settings) -> str:
    parts = settings.composite.model_dump(mode="json"), settings.timeframes.model_dump(mode="json")
    own = {name: pillar.model_dump(mode="json") for name, pillar in settings.pillars.items()}
    return json.dumps([own, *parts], sort_keys=True)


def _side_by_side(
    hub: Hub,
    tune_id: int,
    numbers: Sequence[int],
    work: Callable[[int], Trial],
    of: int,
    progress: Progress,
    jobs: int,
) -> None:
    """Each trial is written when it is done, and a few more are asked of the threads; the first error ends all."""
    left, done = iter(numbers), of - len(numbers)
    with ThreadPoolExecutor(jobs) as pool:
        running: set[Future[Trial]] = set()
        try:
            while True:
                for number in left:
                    running.add(pool.submit(work, number))
                    if len(running) >= 2 * jobs:
                        break
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                tune_store.add(hub, tune_id, [future.result() for future in finished])
                done += len(finished)
                progress(done, of)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
