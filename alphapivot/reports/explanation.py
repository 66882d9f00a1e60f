"""Explains one score: parts -> pillars -> raw -> gates -> score, each number recomputed, adding up exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import fsum

import pandas as pd

from alphapivot.config.settings import Settings
from alphapivot.errors import DataError
from alphapivot.hub import Hub
from alphapivot.runs import RunRef
from alphapivot.scoring import composite
from alphapivot.scoring.blend import blend
from alphapivot.scoring.inputs import parts
from alphapivot.scoring.waterfall import Line, waterfall


@dataclass(frozen=True)
class Explanation:
    """
    ``parts``: (pillar, interval) -> part -> points. ``lines``: the waterfall by pillar and timeframe; ``steps``: the
    same by part. Both add up exactly. ``score``: the stored score; None if unknown.
    """

    symbol: str
    ts: datetime
    score: float | None
    parts: dict[tuple[str, str], dict[str, float]]
    lines: list[Line]
    steps: list[Line]
    note: str


def explain(hub: Hub, settings: Settings, run: RunRef, symbol: str, at: datetime | None) -> Explanation:
    """
    Explains the newest composite of ``symbol`` at or before ``at`` (None: run.as_of) under ``settings``, from the data
    as of ``run``'s known_at.

    Raises DataError if there is none.
    """
    until = at or run.as_of
    instrument = settings.instruments[symbol]
    composites, terms = blend(hub, settings, run, [instrument], after=until - timedelta(days=30), until=until)
    if composites.empty:
        message = f"{symbol} has no bar in the 30 days up to {until:%Y-%m-%d %H:%M} UTC"
        if run.scope != settings.runtime.scores and run.known_at:
            message += f" that the hub knew by {run.known_at:%Y-%m-%d %H:%M} UTC"
        raise DataError(f"{message}, so there is no score to explain")
    row = composites.iloc[-1]
    terms = terms[terms["ts"] == row["ts"]]
    by_pillar = {
        (t.pillar, t.interval): parts(
            hub, settings, instrument, t.pillar, t.interval, t.due.to_pydatetime(), run.known_at
        )
        for t in terms.itertuples()
        if t.share > 0
    }
    note = f"vetoed: {row['veto']}" if isinstance(row["veto"], str) else ""
    lines = waterfall(terms)
    return Explanation(
        symbol=symbol,
        ts=row["ts"].to_pydatetime(),
        score=None if pd.isna(row["score"]) else float(row["score"]),
        parts=by_pillar,
        lines=lines,
        steps=by_part(terms, by_pillar, lines),
        note=note,
    )


def by_part(terms: pd.DataFrame, parts: Mapping[tuple[str, str], Mapping[str, float]], lines: list[Line]) -> list[Line]:
    """
    The waterfall of ``lines`` with each pillar's contribution split into its parts: a part's points x the pillar's
    factor. The parts' excess over +-100 and the rounding of scores to 0.01 are steps of their own.
    """
    steps: list[Line] = []
    total = rounding = 0.0

    def step(label: str, detail: str, effect: float) -> None:
        nonlocal total
        if effect:
            total += effect
            steps.append(Line(label, detail, effect, total))

    voters = terms[terms["contribution"].notna()].to_dict("records")
    for t in voters:
        name, values = f"{t['pillar']} {t['interval']}", parts.get((t["pillar"], t["interval"]), {})
        factor = t["share"] * t["scalar"] * t["cap"] * t["weight"]
        points = fsum(values.values())
        effects = {part: float(composite.exact(value * factor)) for part, value in values.items()}
        beyond = float(composite.exact((min(max(points, -100.0), 100.0) - points) * factor))
        for part, effect in effects.items():
            step(f"{name}: {part}", f"{values[part]:+.2f} x {factor:.4g}", effect)
        step(f"{name}: within +-100", f"its parts sum to {points:+.2f}", beyond)
        rounding += t["contribution"] - math.fsum([*effects.values(), beyond])
    step("rounding", "pillars' scores are rounded to 0.01", rounding)
    # the lines after the pillars are unchanged
    return [*steps, *lines[len(voters) :]]
