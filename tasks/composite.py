"""The step that blends the pillars' signals into one score per symbol and instant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pandas as pd

from alphapivot.frames import Composites
from alphapivot.hub.tables import calibrations, ops, watermarks
from alphapivot.scoring.blend import blend, calibrate
from alphapivot.scoring.inputs import groups
from alphapivot.version import composite_code
from tasks.step import Output, Work, step


@step("composite")
def compose(work: Work) -> Output:
    """
    Blends signals up to as_of into composite scores, at every instant whose signals are new or changed since the last
    run.
    """
    run, settings = work.run, work.settings
    made_by = [
        settings.composite.model_dump(mode="json"),
        settings.timeframes.model_dump(mode="json"),
        sorted(settings.pillars),
        composite_code(),
    ]
    made_by += [
        {
            i.symbol: [repr(i.signal_hours), i.signal_market, *map(str, i.trading_spans)]
            for i in settings.instruments.values()
        }
    ]
    made_by_hash = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
    key = watermarks.composite(run.scope, settings.timeframes.base)
    after = watermarks.composed_until(work.hub, key, made_by_hash)
    fitted = calibrate(work.hub, settings, run, after=after)
    pieces = groups(work.hub, list(settings.instruments.values()), settings.timeframes.base, after, run.as_of)

    def blended() -> Iterator[pd.DataFrame]:
        for piece in pieces:
            composites, _ = blend(
                work.hub, settings, run, piece, after=after, until=run.as_of, fitted=fitted, explained=False
            )
            yield composites.assign(scope=run.scope, batch_id=0)[Composites.columns()]

    def record(batch: ops.Batch) -> None:
        calibrations.write(batch, run.scope, fitted)
        watermarks.advance(batch, run, key, made_by_hash)

    output = Output.in_turn(Composites, blended(), record)
    return output if after is None else output.whole()  # what is new is little: nobody waits for this batch
