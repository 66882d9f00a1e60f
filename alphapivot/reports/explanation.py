"""One score taken apart: parts -> pillars -> raw -> gates -> score, every number made again and adding up."""

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
    same by part. Both add up exactly. ``score`` is the stored one; None where it is unknown.
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
    The newest composite of ``symbol`` at or before ``at`` (run.as_of for None), taken apart under ``settings``, from
    what ``run`` knew.

    Raises DataError where there is none.
    """
    until = at or run.as_of
    instrument = settings.instruments[symbol]
    composites, terms = blend(hub, settings, run, [instrument], after=until - timedelta(days=30), until=until)
    if composites.empty:
        what = f"{symbol} has no bar in the 30 days up to {until:%Y-%m-%d %H:%M} UTC"
        if run.scope != "live" and run.known_at:
            what += f" of which the hub knew by {run.known_at:%Y-%m-%d %H:%M} UTC"
        raise DataError(f"{what}, hence no score to explain")
    row = composites.iloc[-1]
    own = terms[terms["ts"] == row["ts"]]
    made = {
        (t.pillar, t.interval): parts(
            hub, settings, instrument, t.pillar, t.interval, t.due.to_pydatetime(), run.known_at
        )
        for t in own.itertuples()
        if t.share > 0
    }
    known = row["score"] == row["score"]
    note = f"vetoed: {row['veto']}" if isinstance(row["veto"], str) else ""
    lines = waterfall(own)
    score = float(row["score"]) if known else None
    return Explanation(symbol, row["ts"].to_pydatetime(), score, made, lines, by_part(own, made, lines), note)


def by_part(terms: pd.DataFrame, made: Mapping[tuple[str, str], Mapping[str, float]], lines: list[Line]) -> list[Line]:
    """
    The waterfall of ``lines`` with each pillar's contribution split into its parts: each part's points x what became of
    a point of the pillar. What the parts exceed +-100 by, and the rounding of scores to 0.01, are steps of their own.
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
        name, own = f"{t['pillar']} {t['interval']}", made.get((t["pillar"], t["interval"]), {})
        factor = t["share"] * t["scalar"] * t["cap"] * t["weight"]
        points = fsum(own.values())
        effects = {part: float(composite.exact(value * factor)) for part, value in own.items()}
        beyond = float(composite.exact((min(max(points, -100.0), 100.0) - points) * factor))
        for part, effect in effects.items():
            step(f"{name}: {part}", f"{own[part]:+.2f} x {factor:.4g}", effect)
        step(f"{name}: within +-100", f"its parts sum to {points:+.2f}", beyond)
        rounding += t["contribution"] - math.fsum([*effects.values(), beyond])
    step("rounding", "pillars' scores are kept to 0.01", rounding)
    # what comes after the pillars is as it was
    return [*steps, *lines[len(voters) :]]
