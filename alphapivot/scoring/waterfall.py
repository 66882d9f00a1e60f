"""The waterfall from nothing to a score, out of the terms that ``composite.compose`` gives; pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from alphapivot.errors import DataError
from alphapivot.scoring.composite import LIMIT, exact


@dataclass(frozen=True)
class Line:
    """One step of the waterfall from nothing to the score: what it adds, and what there is then."""

    label: str
    detail: str
    effect: float
    total: float


def waterfall(terms: pd.DataFrame) -> list[Line]:
    """
    The waterfall of one symbol and ts from its ``terms``: the effects add up to the last total, exactly.

    That total is the composite's score before it was rounded to 0.01; NaN where a gate or every directional pillar is
    missing. Where only some are, it is raw x gate, though the composite's score is null under ``no_entries``.
    """
    if terms.duplicated(["pillar", "interval"]).any():
        raise DataError("waterfall: got terms of several symbols or instants; expected those of one symbol and ts")
    lines: list[Line] = []
    total, gate = 0.0, 1.0
    voters = terms[terms["contribution"].notna()]
    for t in voters.to_dict("records"):
        total += t["contribution"]
        detail = " x ".join(f"{t[name]:.4g} {name}" for name in ("score", "share", "scalar", "cap", "weight"))
        counts = t["weight"] > 0 and t["share"] > 0
        detail = detail if counts else "not known"
        lines.append(Line(f"{t['pillar']} {t['interval']}", detail, t["contribution"], total))
    multiplier = float(terms["multiplier"].iloc[0]) if len(terms) else 1.0
    raw = float(np.clip(exact(multiplier * total), -LIMIT, LIMIT)) if voters["weight"].gt(0).any() else np.nan
    lines.append(Line("raw", f"x {multiplier:.4g} diversification, within +-{LIMIT:g}", raw - total, raw))
    total = raw
    for t in terms[terms["strength"].notna()].drop_duplicates("pillar").to_dict("records"):
        gate *= t["factor"]
        after = float(exact(raw * gate))
        detail = f"x {t['factor']:.4g} at strength {t['strength']:.4g}"
        lines.append(Line(f"{t['pillar']} gate", detail, after - total, after))
        total = after
    return lines
