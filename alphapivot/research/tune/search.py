"""
`alphapivot tune`: many configs over one period, each trial stored as soon as it is done, and a verdict on the search.

A search is identified by the hash of its question (base config, keys, period, seed, engine, code). After an
interruption the same question reads the hub as it was known then, runs the missing trials, and ends with the same
table; if the data have changed since, it starts again. How a search is judged (objective, folds) is not part of the
question, so judging it again runs no trial.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from alphapivot.errors import AlphaPivotError, ConfigError
from alphapivot.hub import Hub
from alphapivot.hub.tables import run_locks
from alphapivot.research.tune import guided, judge, objective, space, store, walkforward
from alphapivot.research.tune.judge import SearchResult
from alphapivot.research.tune.objective import Judgement
from alphapivot.research.tune.space import Key
from alphapivot.research.tune.store import Trial
from alphapivot.version import code_version

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from alphapivot.config.settings import Settings

    Floats = npt.NDArray[np.float64]
Made = Generator[
    tuple[list[Trial], float], None, None
]  # finished trials, and the progress of those under way in trials
Progress = Callable[[float, int], None]  # trials done, of how many
ENDING = 3.0  # seconds within which the server notices that a search was killed
LOOK = 1.0  # seconds between two looks at the progress of trials under way

log = logging.getLogger("alphapivot.tune")


@dataclass(frozen=True)
class Search:
    """
    The request to an engine: ``chosen`` and ``texts`` hold each trial's settings, and its keys as text; a guided search
    adds to them as it goes.
    """

    tune_id: int
    since: datetime
    until: datetime
    known_at: datetime
    settings: Settings
    chosen: list[Settings]
    texts: list[Mapping[str, str]]


class Engine(Protocol):
    """Runs the trials of a search."""

    name: str

    def refuse(self, settings: Settings) -> None:
        """Raises ConfigError if the config needs what the engine cannot do; called before anything runs."""

    def trials(self, hub: Hub, search: Search, numbers: Sequence[int], jobs: int) -> Made:
        """The trials with these numbers, as they finish."""

    def shifted(self, hub: Hub, search: Search, number: int, seed: int, jobs: int) -> Floats | None:
        """The Sharpe ratios of a trial whose scores are shifted in time; None if this engine does not make them."""


def run(
    hub: Hub,
    settings: Settings,
    keys: Sequence[Key],
    engine: Engine,
    *,
    since: datetime,
    until: datetime,
    count: int | None,
    seed: int,
    judgement: Judgement,
    progress: Progress,
    jobs: int = 2,
    again: bool = False,
    guide: bool = False,
    say: Callable[[str], object] = log.info,
) -> SearchResult:
    """
    Searches (since, until] with ``engine``: all combinations, ``count`` of them at random, or with ``guide`` what
    ``guided.Studies`` propose, ``count`` each. Reuses trials that an earlier call made of the same data; ``say``
    reports that, or that the data have changed and all trials run again.

    Raises ConfigError if a key cannot be tuned or the engine cannot do what the config needs, DataError if there is
    nothing to trade or another process runs the same search.
    """
    if not since < until:
        raise ConfigError(f"--from {since:%Y-%m-%d %H:%M} is not before the end of --to, {until:%Y-%m-%d %H:%M} UTC")
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: at least 1")
    # too many folds fail before anything runs, and as soon as the trials that are done show how long trades are held
    _fits(objective.most_days(settings, since, until), judgement, 0)
    could = objective.could(settings, until)
    studies = guided.Studies(keys, judgement, seed, could) if guide else None
    tried = [] if guide else space.trials(keys, count, seed)
    total = guided.total(count, judgement) if guide else len(tried)
    if total < 2:
        raise ConfigError("a search needs at least two trials; `alphapivot backtest` runs a single config")
    for values in tried:
        engine.refuse(_applied(settings, keys, values))
    row = question(settings, keys, tried, since, until, seed, engine.name, total, judgement if guide else None)
    with run_locks.held(hub, f"tune {row['question_hash']}", "this search", patience=ENDING):
        tune_id, known_at, stale = store.open_(hub, row, list(settings.instruments), again=again)
        done = {t.number: t for t in store.read(hub, tune_id)}
        if stale is not None:
            say(f"the data have changed since the search started at {stale:%Y-%m-%d %H:%M:%S} UTC: starting again")
        elif 0 < len(done) < total:
            say(f"resumes after {len(done)} of {total} trials: the data are unchanged")
        progress(len(done), total)
        search = Search(tune_id, since, min(until, known_at), known_at, settings, [], [])
        while len(search.chosen) < total:
            proposed = tried if studies is None else studies.ask()
            first = len(search.chosen)
            search.chosen.extend(_applied(settings, keys, values) for values in proposed)
            search.texts.extend(dict(zip([k.name for k in keys], values, strict=True)) for values in proposed)
            _make(hub, search, engine, done, range(first, len(search.chosen)), judgement, progress, total, jobs)
            if studies is not None:
                studies.tell([done[number] for number in range(first, len(search.chosen))])
        trials = store.read(hub, tune_id)
        result = judge.judge(hub, tune_id, engine.name, keys, trials, judgement, could, guide=guide)
        return replace(result, shifted=_shifted(hub, search, engine, result.trials[result.best].number, seed, jobs))


def _applied(settings: Settings, keys: Sequence[Key], values: Sequence[str]) -> Settings:
    return space.apply(settings, dict(zip(keys, values, strict=True)))


def _make(
    hub: Hub,
    search: Search,
    engine: Engine,
    done: dict[int, Trial],
    numbers: Sequence[int],
    judgement: Judgement,
    progress: Progress,
    total: int,
    jobs: int,
) -> None:
    """Makes the trials of ``numbers`` that are not in ``done``: stores them, and adds them to it."""

    def ready(trials: Sequence[Trial], under_way: float = 0.0) -> None:
        store.add(hub, search.tune_id, trials)
        for trial in trials:
            _fits(len(trial.days), judgement, trial.held)
        done.update({trial.number: trial for trial in trials})
        progress(len(done) + under_way, total)

    new = [number for number in numbers if number not in done]
    for number in new:
        engine.refuse(search.chosen[number])
    tried = [json.dumps(values) for values in search.texts]
    same = {number: tried.index(tried[number]) for number in new}  # what was proposed before is not run again
    missing = [number for number, first in same.items() if first == number]
    if missing:
        with closing(engine.trials(hub, search, missing, jobs)) as making:
            for trials, under_way in making:
                ready(trials, under_way)
    ready([replace(done[first], number=number) for number, first in same.items() if first != number])


def _shifted(hub: Hub, search: Search, engine: Engine, number: int, seed: int, jobs: int) -> Floats | None:
    """The stored Sharpe ratios of a trial with shifted scores, or new ones."""
    known = store.shifted(hub, search.tune_id, number)
    if known is not None:
        return known
    made = engine.shifted(hub, search, number, seed, jobs)
    if made is not None:
        store.add_shifted(hub, search.tune_id, number, made)
    return made


def _fits(days: int, judgement: Judgement, purge: int) -> None:
    """Raises ConfigError if the walk-forward could not train on ``days``, of which trades are held for ``purge``."""
    walkforward.folds(days, judgement.folds, judgement.kind, purge=purge, embargo=judgement.embargo)


def question(
    settings: Settings,
    keys: Sequence[Key],
    tried: Sequence[Sequence[str]],
    since: datetime,
    until: datetime,
    seed: int,
    engine: str,
    total: int | None = None,
    guided_by: Judgement | None = None,
) -> dict[str, Any]:
    """
    The question of a search, and its hash: columns of research.tune. ``total`` trials; default: those of ``tried``.
    ``guided_by``: what a guided search is judged by, as its trials depend on it.
    """
    row = {
        "config_hash": settings.hash(),
        "code_version": code_version(settings.pillars),
        "keys": [f"{k.name}={','.join(k.values) or f'{k.low:g}..{k.high:g}'}" for k in keys],
        "since": since,
        "until": until,
        "seed": seed,
        "engine": engine,
        "trials": len(tried) if total is None else total,
    }
    asked = [row, [list(values) for values in tried], *([] if guided_by is None else [vars(guided_by)])]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    return {**row, "guided": guided_by is not None, "config": json.dumps(settings.stored()), "question_hash": digest}


def side_by_side(
    submit: Callable[[int], Future[Trial]],
    search: Search,
    numbers: Sequence[int],
    jobs: int,
    under_way: Callable[[set[int]], float] = lambda _: 0.0,
) -> Made:
    """
    Submits each of ``numbers`` to a pool of ``jobs``, at most twice as many at once. The first error ends all, and
    names the values of its trial.
    """
    left = iter(numbers)
    running: dict[Future[Trial], int] = {}
    while True:
        for number in left:
            running[submit(number)] = number
            if len(running) >= 2 * jobs:
                break
        if not running:
            return
        finished, _ = wait(running, timeout=LOOK, return_when=FIRST_COMPLETED)
        done = [_result(future, running.pop(future), search) for future in finished]
        yield done, under_way(set(running.values()))


def _result(future: Future[Trial], number: int, search: Search) -> Trial:
    values = ", ".join(f"{name} = {text}" for name, text in search.texts[number].items())
    try:
        return future.result()
    except AlphaPivotError as error:
        raise type(error)(f"trial {number} ({values}): {error}") from error
    except Exception as error:
        error.add_note(f"in trial {number} ({values})")
        raise
