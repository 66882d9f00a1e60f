"""The step that scores one pillar over one shard of the universe, on every timeframe."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pandas as pd

from alphapivot.frames import Signals
from alphapivot.hub.tables import ops, watermarks
from alphapivot.scoring.inputs import pillar_inputs
from alphapivot.version import pillar_code
from pillars.kit import windows
from tasks.step import Output, Work, step


@step("pillar {name} {shard}")
def score_pillar(work: Work, name: str, shard: int) -> Output:
    """
    Scores one pillar for one shard of symbols up to as_of, at every bar that is new or changed since the last scoring.
    """
    run, pillar, instruments = work.run, work.settings.pillars[name], work.settings.shard(shard)
    universe = list(work.settings.instruments.values())
    if pillar.together:  # no shard can be scored without the others: the first one scores all
        instruments = universe if shard == 0 else []
    if not instruments:
        return Output({Signals: Signals.empty()})
    inputs = universe if pillar.cross_sectional else instruments  # these scores depend on their bars
    symbols = [i.symbol for i in inputs]
    markets = {i.symbol: [i.signal_market, *i.markets, i.adjust] for i in inputs}
    made_by = [name, pillar.model_dump(mode="json"), pillar_code(name), markets]
    made_by_hash = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
    settles = timedelta(days=work.settings.quality.volume_settles)
    scored, marks, changed = [Signals.empty()], {}, []
    for interval in work.settings.timeframes.weights:
        key = watermarks.Key(run.scope, name, interval, shard)
        marks[key] = made_by_hash
        after = watermarks.rescore_after(work.hub, run, key, made_by_hash, symbols, settles)
        if after is not None and after >= run.as_of:
            continue
        changed.append(after)
        bars, common = pillar_inputs(
            work.hub,
            work.settings,
            pillar,
            instruments,
            interval,
            after=after,
            until=run.as_of,
            known_at=run.known_at,
        )
        signals = windows.score(pillar, bars, interval, after=after, common=common)
        scored.append(signals.assign(scope=run.scope, batch_id=0)[Signals.columns()])

    def record(batch: ops.Batch) -> None:
        for key, mark in marks.items():
            watermarks.advance(batch, run, key, mark)
        if changed:
            watermarks.pull_back(
                batch,
                watermarks.composite(run.scope, work.settings.timeframes.base),
                None if None in changed else min(changed),
            )

    return Output({Signals: pd.concat(scored, ignore_index=True)}, record=record)
