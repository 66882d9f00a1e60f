"""The pillars' signals blended into one score for each symbol and instant."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

import pandas as pd

from alphapivot import calendars, composite
from alphapivot.frames import Composites
from alphapivot.hub import Hub, ops, signals, watermarks
from alphapivot.runs import RunRef
from alphapivot.settings import Settings
from tasks.step import Output, Work, step


@step("composite")
def compose(work: Work) -> Output:
    """Blends all signals up to as_of into composite scores: every instant whose signals are new or changed since the last time."""
    run, settings = work.run, work.settings
    made_by = [settings.composite.model_dump(mode="json"), settings.timeframes.model_dump(mode="json"), sorted(settings.pillars)]
    made_by += [{i.symbol: [i.calendar, i.signal_market] for i in settings.instruments.values()}]
    made_by_hash = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
    key = watermarks.Key(run.scope, "composite", settings.timeframes.base, 0)
    after = signals.recompose_after(work.hub, run, key, made_by_hash)
    composites, _ = blend(work.hub, settings, run, after=after, until=run.as_of)
    stored = composites.assign(scope=run.scope, batch_id=0)[Composites.columns()]

    def record(batch: ops.Batch) -> None:
        watermarks.advance(batch, run, key, made_by_hash)

    return Output({Composites: stored}, record=record)


def blend(
    database: Hub, settings: Settings, run: RunRef, *, after: datetime | None, until: datetime, symbols: list[str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    Composites and their terms for every base bar of the signal market in (after, until], from what stands in signals.signal.

    The same function serves the step, the trade's record of its reasons, and ``explain``.
    """
    chosen = [settings.instruments[s] for s in symbols or sorted(settings.instruments)]
    grid = signals.grid(database, chosen, settings.timeframes.base, after=after, until=until, known_at=run.known_at)
    newest = signals.as_of(database, run.scope, grid, list(settings.timeframes.weights))
    due = pd.concat(
        [
            pd.DataFrame({"symbol": symbol, "interval": interval, "ts": instants, "due": calendars.due(calendar, interval, instants)})
            for interval in settings.timeframes.weights
            for symbol, instants, calendar in ((s, g["ts"], settings.instruments[s].calendar) for s, g in grid.groupby("symbol"))
        ],
        ignore_index=True,
    ) if len(grid) else pd.DataFrame(columns=["symbol", "interval", "ts", "due"])
    return composite.compose(newest, due, settings.composite, settings.timeframes)
