"""
A guided search: the tree-structured Parzen estimator of Optuna (Bergstra, Bardenet, Bengio and Kegl 2011) proposes
trials from the results so far.

One study would carry what it knows of the tested days into every trial. So each fold of the walk-forward has a study of
its own, which is told of a trial's training days alone, and the fold chooses among its own trials; one more is told of
the whole period and looks for the best trial. They propose in turn, a trial each a round: the same seed proposes the
same trials from the same results, so that a killed search finds its way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from alphapivot import figures
from alphapivot.errors import ConfigError
from alphapivot.research.tune import walkforward
from alphapivot.research.tune.objective import Judgement, objective

if TYPE_CHECKING:
    from alphapivot.research.tune.space import Key
    from alphapivot.research.tune.store import Trial

RANDOM = 10  # trials of a study before it uses its results: Optuna's own default
INSTALL = "pip install 'alphapivot[guided]'"


class Studies:
    """A study for each fold of ``judgement``, then that of the whole period. ``could``: see ``figures.a_year``."""

    def __init__(
        self, keys: Sequence[Key], judgement: Judgement, seed: int, could: pd.DatetimeIndex | None = None
    ) -> None:
        try:
            import optuna  # noqa: PLC0415 - an extra, and slow to import
        except ImportError:
            raise ConfigError(f"--guided needs the package optuna: {INSTALL}") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._keys, self._judgement, self._could = keys, judgement, could
        self._space = {key.name: _distribution(key) for key in keys}
        self._studies = [
            optuna.create_study(
                direction="maximize",
                sampler=optuna.samplers.TPESampler(seed=seed * 1_000 + number, n_startup_trials=RANDOM),
            )
            for number in range(count(judgement))
        ]
        self._asked: list[Any] = []
        self._purge = 0

    def ask(self) -> list[tuple[str, ...]]:
        """The values of the next trial of each study, in the order of the keys."""
        self._asked = [study.ask(self._space) for study in self._studies]
        return [tuple(_text(key, asked.params[key.name]) for key in self._keys) for asked in self._asked]

    def tell(self, trials: Sequence[Trial]) -> None:
        """The results of what was asked. Raises ConfigError if a fold has too few days to train on."""
        # known before any result of this round is used, and the same when it is told again
        self._purge = max([self._purge, *(trial.held for trial in trials)])
        year = figures.a_year(pd.DatetimeIndex(list(trials[0].days)), self._could)
        judged = self._judgement
        folds = walkforward.folds(
            len(trials[0].returns), judged.folds, judged.kind, purge=self._purge, embargo=judged.embargo
        )
        spans = [*(fold.train for fold in folds), slice(None)]
        for study, asked, trial, span in zip(self._studies, self._asked, trials, spans, strict=True):
            value = float(objective(trial.returns[span, None], judged.objective, year)[0])
            study.tell(asked, value if pd.notna(value) else None, state=None if pd.notna(value) else _failed())


def count(judgement: Judgement) -> int:
    """The number of studies: trial n is of study n modulo this; the last study knows the whole period."""
    return judgement.folds + 1


def total(each: int | None, judgement: Judgement) -> int:
    """The number of trials of a guided search of ``each`` a study. Raises ConfigError without a number."""
    if each is None:
        raise ConfigError(
            f"--guided needs --trials N: so many for each of {count(judgement)} studies, a fold's or that of the whole"
        )
    return each * count(judgement)


def _failed() -> Any:
    from optuna.trial import TrialState  # noqa: PLC0415 - an extra

    return TrialState.FAIL


def _distribution(key: Key) -> Any:
    from optuna import distributions  # noqa: PLC0415 - an extra

    if not key.ranged:
        return distributions.CategoricalDistribution(key.values)
    if key.whole:
        return distributions.IntDistribution(int(key.low), int(key.high))
    return distributions.FloatDistribution(key.low, key.high)


def _text(key: Key, value: Any) -> str:
    return f"{value:.4g}" if key.ranged and not key.whole else str(value)
