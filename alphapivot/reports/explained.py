"""One score taken apart: parts -> pillars -> raw -> gates -> score, every number made again and adding up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from alphapivot import composite
from alphapivot.errors import DataError
from alphapivot.hub import Hub
from alphapivot.runs import RunRef
from alphapivot.scoring import blend, parts
from alphapivot.settings import Settings


@dataclass(frozen=True)
class Story:
    """
    ``parts``: (pillar, interval) -> part -> points. ``lines``: the waterfall. ``score`` is the stored one; None where
    it is unknown.
    """

    symbol: str
    ts: datetime
    score: float | None
    parts: dict[tuple[str, str], dict[str, float]]
    lines: list[composite.Line]
    note: str


def explain(hub: Hub, settings: Settings, run: RunRef, symbol: str, at: datetime | None) -> Story:
    """
    The newest composite of ``symbol`` at or before ``at`` (run.as_of for None), taken apart under ``settings``.

    Raises DataError where there is none.
    """
    until = at or run.as_of
    instrument = settings.instruments[symbol]
    composites, terms = blend(hub, settings, run, [instrument], after=until - timedelta(days=30), until=until)
    if composites.empty:
        raise DataError(
            f"{symbol} has no bar in the 30 days up to {until:%Y-%m-%d %H:%M} UTC, hence no score to explain"
        )
    row = composites.iloc[-1]
    own = terms[terms["ts"] == row["ts"]]
    made = {
        (t.pillar, t.interval): parts(hub, settings, instrument, t.pillar, t.interval, t.due.to_pydatetime())
        for t in own.itertuples()
        if t.share > 0
    }
    known = row["score"] == row["score"]
    note = f"vetoed: {row['veto']}" if isinstance(row["veto"], str) else ""
    return Story(
        symbol, row["ts"].to_pydatetime(), float(row["score"]) if known else None, made, composite.explain(own), note
    )
