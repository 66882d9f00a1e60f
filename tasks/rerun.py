"""The step that scores one pillar again, regardless of watermarks; old versions stay in signal_revision."""

from __future__ import annotations

import pandas as pd

from alphapivot.config.ini import nearest
from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError
from alphapivot.frames import Signals
from alphapivot.hub.tables import ops, watermarks
from alphapivot.scoring.inputs import pillar_inputs
from pillars.kit import windows
from tasks.step import Output, Work, step


def check(settings: Settings, name: str, symbols: list[str]) -> None:
    """Raises ConfigError for a pillar or a symbol that is not in the config, naming the nearest."""
    if name not in settings.pillars:
        raise ConfigError(f"pillar {name!r} has no section in the config; {nearest(name, settings.pillars)}")
    for symbol in symbols:
        if symbol not in settings.instruments:
            raise ConfigError(f"{symbol!r} is not an instrument of the config; {nearest(symbol, settings.instruments)}")


@step("rerun {name}")
def rerun(work: Work, name: str, symbols: list[str]) -> Output:
    """
    Scores one pillar again at every bar up to as_of, for ``symbols`` or, if empty, for all.

    The pillar's watermarks stay, because they cover whole shards. The composite's is reset, so that all composites are
    blended again.
    """
    pillar = work.settings.pillars[name]
    selected = symbols or sorted(work.settings.instruments)
    instruments = [work.settings.instruments[s] for s in selected]
    scored = [Signals.empty()]
    for interval in work.settings.timeframes.weights:
        bars, common = pillar_inputs(
            work.hub,
            work.settings,
            pillar,
            instruments,
            interval,
            after=None,
            until=work.run.as_of,
            known_at=work.run.known_at,
        )
        signals = windows.score(pillar, bars, interval, after=None, common=common)
        signals = signals.assign(scope=work.run.scope, batch_id=0)
        scored.append(signals.loc[signals["symbol"].isin(selected), Signals.columns()])

    def record(batch: ops.Batch) -> None:
        key = watermarks.composite(work.run.scope, work.settings.timeframes.base)
        watermarks.pull_back(batch, key, None)

    return Output({Signals: pd.concat(scored, ignore_index=True)}, record=record)
