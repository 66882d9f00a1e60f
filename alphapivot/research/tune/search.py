"""
`alphapivot tune`: many configs over one period, each trial a row as soon as it is done, and a verdict on the search.

A search is named by the hash of its question (base config, keys, period, seed, engine, code): asked again after an
interruption it reads the hub as it was known then, makes what is missing, and ends with the same table; where the data
have changed since, it begins again. How it is judged (objective, folds) is not part of the question, so that judging
once more runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from alphapivot.errors import AlphaPivotError, ConfigError
from alphapivot.hub import Hub
from alphapivot.hub.tables import run_locks
from alphapivot.research.tune import judge, space, store, walkforward
from alphapivot.research.tune.judge import Found, Judgement
from alphapivot.research.tune.space import Key
from alphapivot.research.tune.store import Trial
from alphapivot.version import code_version

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings

Made = Generator[
    tuple[list[Trial], float], None, None
]  # trials that got done, and what those under way are worth meanwhile
Progress = Callable[[float, int], None]  # trials done, of how many
ENDING = 3.0  # seconds within which the server sees that a search was killed
LOOK = 1.0  # seconds after which it is asked how far the trials under way are

log = logging.getLogger("alphapivot.tune")


@dataclass(frozen=True)
class Search:
    """What an engine is asked for: ``chosen`` and ``texts`` are each trial's settings, and its keys as text."""

    tune_id: int
    since: datetime
    until: datetime
    known_at: datetime
    settings: Settings
    chosen: Sequence[Settings]
    texts: Sequence[Mapping[str, str]]


class Engine(Protocol):
    """What makes the trials of a search."""

    name: str

    def refuse(self, settings: Settings) -> None:
        """Raises ConfigError where the config asks for what the engine cannot do: before anything is begun."""

    def trials(self, hub: Hub, search: Search, numbers: Sequence[int], jobs: int) -> Made:
        """The trials of these numbers, as they get done."""


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
    say: Callable[[str], object] = log.info,
) -> Found:
    """
    Searches (since, until] with ``engine``. Trials that an earlier call has made of the same data are found; ``say``
    hears when there are some, and when the data have changed since, so that all begin again.

    Raises ConfigError where a key cannot be tuned or the engine leaves out what the config asks for, DataError where
    there is nothing to trade or the same search runs elsewhere.
    """
    if not since < until:
        raise ConfigError(f"--from {since:%Y-%m-%d} is not before --to {until:%Y-%m-%d}")
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: at least 1")
    # no period has more days: what is too much of folds for it is said before anything runs
    walkforward.folds((until - since).days + 2, judgement.folds, judgement.kind, purge=0, embargo=judgement.embargo)
    tried = space.trials(keys, count, seed)
    if len(tried) < 2:
        raise ConfigError("one trial is no search; `alphapivot backtest` runs a single config")
    chosen = [space.apply(settings, dict(zip(keys, values, strict=True))) for values in tried]
    for made in chosen:
        engine.refuse(made)
    asked = question(settings, keys, tried, since, until, seed, engine.name)
    with run_locks.held(hub, f"tune {asked['question_hash']}", "this search", patience=ENDING):
        tune_id, known_at, stale = store.open_(hub, asked, list(settings.instruments), again=again)
        done = {t.number for t in store.read(hub, tune_id)}
        if stale is not None:
            say(f"the data have changed since {stale:%Y-%m-%d %H:%M:%S} UTC, when it was started: starting again")
        elif 0 < len(done) < len(tried):
            say(f"resumes after {len(done)} of {len(tried)} trials: the data are unchanged")
        missing = [number for number in range(len(tried)) if number not in done]
        progress(len(done), len(tried))
        if missing:
            texts = [{key.name: text for key, text in zip(keys, own, strict=True)} for own in tried]
            search = Search(tune_id, since, min(until, known_at), known_at, settings, chosen, texts)
            ready = len(done)
            with closing(engine.trials(hub, search, missing, jobs)) as making:
                for trials, under_way in making:
                    store.add(hub, tune_id, trials)
                    ready += len(trials)
                    progress(ready + under_way, len(tried))
        return judge.judge(hub, tune_id, engine.name, keys, store.read(hub, tune_id), judgement)


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


def side_by_side(
    submit: Callable[[int], Future[Trial]],
    search: Search,
    numbers: Sequence[int],
    jobs: int,
    under_way: Callable[[set[int]], float] = lambda _: 0.0,
) -> Made:
    """
    Each of ``numbers`` handed to a pool of ``jobs``, a few more than it has. The first error ends all, and says which
    values it was.
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
    told = ", ".join(f"{name} = {text}" for name, text in search.texts[number].items())
    try:
        return future.result()
    except AlphaPivotError as error:
        raise type(error)(f"trial {number} ({told}): {error}") from error
    except Exception as error:
        error.add_note(f"in trial {number} ({told})")
        raise
