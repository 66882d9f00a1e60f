"""
Trials by the screening engine: one compiled pass each, in threads, as it releases the GIL.

Trials share bars, signals and composites, which are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from alphapivot.hub import Hub
from alphapivot.research.screen import engine
from alphapivot.research.screen.rules import rules_of
from alphapivot.research.tune import objective, shifted
from alphapivot.research.tune.scores import Scorer
from alphapivot.research.tune.search import Made, Search, side_by_side
from alphapivot.research.tune.store import Trial

if TYPE_CHECKING:
    import numpy.typing as npt

    from alphapivot.config.settings import Settings

    Floats = npt.NDArray[np.float64]


class Screening:
    """The engine `core`."""

    name = "core"

    def __init__(self) -> None:
        self._scorers: dict[int, Scorer] = {}  # of a guided search, which asks for trials many times

    def refuse(self, settings: Settings) -> None:
        rules_of(settings)

    def trials(self, hub: Hub, search: Search, numbers: Sequence[int], jobs: int) -> Made:
        scorer, could = self._scorer(hub, search), objective.could(search.settings, search.until)

        def trial(number: int) -> Trial:
            settings = search.chosen[number]
            result = _simulated(scorer, settings, scorer.columns(settings))
            at = result.market.as_of
            held = objective.held(*result.closed(), at)
            return objective.summed(
                number, search.texts[number], settings.hash(), at, result.equity,
                trades=result.entered, held=held, halted=result.halted, could=could,
            )  # fmt: skip

        # trials that share composites run one after the other, so that few composites are kept
        ordered = sorted(numbers, key=lambda n: (scorer.key(search.chosen[n]), n))
        pool = ThreadPoolExecutor(jobs)
        try:
            yield from side_by_side(lambda n: pool.submit(trial, n), search, ordered, jobs)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def shifted(self, hub: Hub, search: Search, number: int, seed: int, jobs: int) -> Floats | None:
        scorer = self._scorer(hub, search)
        settings = search.chosen[number]
        composites, market = scorer.composites(settings), scorer.market(settings)
        could = objective.could(settings, search.until)

        def ratio(share: float) -> float:
            result = _simulated(scorer, settings, engine.columns(shifted.shifted(composites, share)))
            return objective.summed(
                number, {}, "", market.as_of, result.equity, trades=result.entered, could=could
            ).sharpe  # fmt: skip

        with ThreadPoolExecutor(jobs) as pool:
            return np.array(list(pool.map(ratio, shifted.shares(shifted.SHIFTS, seed))))

    def _scorer(self, hub: Hub, search: Search) -> Scorer:
        if search.tune_id not in self._scorers:
            self._scorers = {
                search.tune_id: Scorer(
                    hub, search.settings, since=search.since, until=search.until, known_at=search.known_at
                )
            }
        return self._scorers[search.tune_id]


def _simulated(scorer: Scorer, settings: Settings, columns: engine.Columns) -> engine.Result:
    scores = engine.scores(columns, settings.execution.entry_threshold)
    return engine.simulate(scorer.market(settings), scores, rules_of(settings))
