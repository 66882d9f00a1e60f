"""The waterfall from zero to a score, from the terms of ``composite.compose``; pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from alphapivot.errors import DataError
from alphapivot.scoring.composite import LIMIT, exact


@dataclass(frozen=True)
class Line:
    """One step of the waterfall: its effect, and the running total after it."""

    label: str
    detail: str
    effect: float
    total: float


def waterfall(terms: pd.DataFrame) -> list[Line]:
    """
    The waterfall of one symbol and ts from its ``terms``: the effects add up to the last total, exactly.

    That total is the composite's score before rounding to 0.01; NaN where a gate or every directional pillar is
    missing. Where only some are missing, it is raw x gate, although the composite's score is null under ``no_entries``.
    """
    if terms.duplicated(["pillar", "interval"]).any():
        raise DataError("waterfall: got terms of several symbols or instants; expected one symbol and ts")
    lines: list[Line] = []
    total, gate = 0.0, 1.0
    voters = terms[terms["contribution"].notna()]
    for t in voters.to_dict("records"):
        total += t["contribution"]
        detail = " x ".join(f"{t[name]:.4g} {name}" for name in ("score", "share", "scalar", "cap", "weight"))
        known = t["weight"] > 0 and t["share"] > 0
        detail = detail if known else "unknown"
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
