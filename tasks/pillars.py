"""The step that scores one pillar over one shard of the universe, on every timeframe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import pandas as pd

from alphapivot.config.sections.instrument import Instrument
from alphapivot.frames import Signals
from alphapivot.hub.tables import ops, watermarks
from alphapivot.scoring.inputs import groups, pillar_inputs
from alphapivot.version import pillar_code
from pillars import Pillar
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
    marks: dict[watermarks.Key, str] = {}
    afters: dict[str, datetime | None] = {}  # of the timeframes with bars to score
    for interval in work.settings.timeframes.weights:
        key = watermarks.Key(run.scope, name, interval, shard)
        marks[key] = made_by_hash
        after = watermarks.rescore_after(work.hub, run, key, made_by_hash, symbols, settles)
        if after is None or after < run.as_of:
            afters[interval] = after

    def record(batch: ops.Batch) -> None:
        for key, mark in marks.items():
            watermarks.advance(batch, run, key, mark)
        if afters:
            watermarks.pull_back(
                batch,
                watermarks.composite(run.scope, work.settings.timeframes.base),
                None if None in afters.values() else min(filter(None, afters.values())),
            )

    output = Output.in_turn(Signals, _scored(work, pillar, instruments, afters), record)
    return output if None in afters.values() else output.whole()  # what is new is little: nobody waits for this batch


def _scored(
    work: Work, pillar: Pillar, instruments: list[Instrument], afters: Mapping[str, datetime | None]
) -> Iterator[pd.DataFrame]:
    """The signals of each timeframe after its instant (None: all), of one group of instruments after the other."""
    run = work.run
    for interval, after in afters.items():
        together = [instruments] if pillar.together else groups(work.hub, instruments, interval, after, run.as_of)
        for group in together:
            bars, common = pillar_inputs(
                work.hub,
                work.settings,
                pillar,
                group,
                interval,
                after=after,
                until=run.as_of,
                known_at=run.known_at,
            )
            signals = windows.score(pillar, bars, interval, after=after, common=common)
            yield signals.assign(scope=run.scope, batch_id=0)[Signals.columns()]
