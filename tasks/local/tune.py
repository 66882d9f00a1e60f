"""
Trials of ``alphapivot tune --engine full``: whole backtests on the live code path, for keys that the screening engine
does not support.

Each trial has its own book. Trials whose configs score alike share the scores of the first of them, which runs before
the others. Backtests are CPU-bound, so each runs in its own process.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import text

from alphapivot import hub as hubs
from alphapivot.calendar import bar_ends
from alphapivot.config.settings import Settings
from alphapivot.errors import AlphaPivotError
from alphapivot.hub import Hub
from alphapivot.hub.tables import backtests
from alphapivot.research import processes
from alphapivot.research.backtest import driver, market
from alphapivot.research.tune import objective
from alphapivot.research.tune.search import Made, Search, side_by_side
from alphapivot.research.tune.store import Trial
from tasks.local import backtest as steps

TRADING = {"execution", "entry", "exit", "sizing", "risk", "protections", "brokers"}  # no score depends on these
CLOSED = """
    SELECT i.as_of, t.exit_at FROM trading.trade t JOIN trading.intent i USING (intent_id)
    WHERE t.book = :book AND t.entry_at IS NOT NULL AND t.exit_at IS NOT NULL
"""
HALTED = "SELECT min(as_of) FROM trading.risk_trip WHERE book = :book"
REACHED = "SELECT done_until FROM research.backtest WHERE book = ANY(:books) AND done_until IS NOT NULL"


class Whole:
    """The engine ``full``: each trial is a backtest as ``alphapivot backtest`` runs it."""

    name = "full"

    def refuse(self, settings: Settings) -> None:
        driver.booked(settings, "bt-")

    def trials(self, hub: Hub, search: Search, numbers: Sequence[int], jobs: int) -> Made:
        first: dict[str, int] = {}
        leads = [first.setdefault(_scoring(settings), number) for number, settings in enumerate(search.chosen)]

        def under_way(running: set[int]) -> float:
            books = [backtests.trial(search.tune_id, number) for number in running]
            with hub.engine.connect() as conn:
                reached = conn.execute(text(REACHED), {"books": books}).scalars().all()
            return sum((ts - search.since) / (search.until - search.since) for ts in reached)

        with processes.processes(jobs) as pool:

            def submit(number: int) -> Future[Trial]:
                stored = search.chosen[number].stored()
                book, scope = (backtests.trial(search.tune_id, n) for n in (number, leads[number]))
                arguments = number, search.texts[number], stored, book, scope
                return pool.submit(_trial, *arguments, search.since, search.until, search.known_at)

            for leading in (True, False):
                turn = [n for n in numbers if (leads[n] == n) == leading]
                yield from side_by_side(submit, search, turn, jobs, under_way)

    def shifted(self, hub: Hub, search: Search, number: int, seed: int, jobs: int) -> None:
        """Hundreds of whole backtests: left out."""


def _trial(
    number: int,
    values: Mapping[str, str],
    stored: dict[str, Any],
    book: str,
    scope: str,
    since: datetime,
    until: datetime,
    known_at: datetime,
) -> Trial:
    """Runs one trial, in its own process."""
    logging.getLogger("alphapivot.step").setLevel(logging.WARNING)  # the progress bar is enough
    try:
        settings = Settings.restore(stored)
        run = steps.trial(settings, since, until, book=book, scope=scope, known_at=known_at)
        hub = hubs.connect()
        at = pd.DatetimeIndex(market.instants(hub, run, driver.booked(settings, book), since))
        with hub.engine.connect() as conn:
            closed = pd.DataFrame(conn.execute(text(CLOSED), {"book": book}).all(), columns=["as_of", "exit_at"])
            halted = conn.execute(text(HALTED), {"book": book}).scalar_one()
        results = backtests.results(hub, book)
        cash = float(results["start_equity"])
        marks = pd.Series({ts: float(value) for ts, value in backtests.equity(hub, book)}, dtype=np.float64)
        equity = marks.reindex(at).ffill().fillna(cash).to_numpy()  # there is no mark before the first score
        decided, left = (bar_ends.naive(closed[c].astype("datetime64[us, UTC]")).astype(np.int64) for c in closed)
        held = objective.held(decided, left, at)
        return objective.summed(
            number, values, settings.hash(), at, equity,
            trades=results["trades"], held=held, halted=halted, could=objective.could(settings, until),
        )  # fmt: skip
    except AlphaPivotError:
        raise
    except Exception as error:  # noqa: BLE001 - a library's exception may not be picklable
        raise RuntimeError("".join(traceback.format_exception(error))) from None


def _scoring(settings: Settings) -> str:
    return json.dumps({n: v for n, v in settings.stored().items() if n not in TRADING}, sort_keys=True)
