"""[timeframes] and [composite]: how scores are made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from alphapivot.config.sections.base import Mapped, Section


class Timeframes(Section):
    base: str = Field(description="the interval on which decisions are made")
    weights: Mapped[Annotated[float, Field(gt=0)]] = Field(description="timeframe: weight; sums to 1; contains base")


class CompositeSettings(Section):
    weights: Mapped[Annotated[float, Field(gt=0)]] = Field(description="directional pillar: weight; sums to 1")
    gates: Mapped[Annotated[float, Field(ge=0, le=1)]] = Field(
        default={}, description="gating pillar: strength from 0 to 1"
    )
    calibrate: Literal["never", "monthly", "quarterly", "yearly"] = Field(
        "never", description="when scalars and correlations are fitted, from what came before"
    )
    typical_score: float = Field(
        30, gt=0, le=100, description="what calibration brings each pillar's mean absolute score to, points"
    )
    min_bars: int = Field(250, ge=20, description="bars of the base timeframe without which nothing is fitted")
    shrinkage: float = Field(
        0.5, ge=0, le=1, description="how far correlations are drawn to their mean: 0 not, 1 wholly"
    )
    scalars: Mapped[Annotated[float, Field(gt=0)]] = Field(
        default={}, description="pillar: factor of its scores, in place of the fitted one"
    )
    multiplier: Annotated[float, Field(ge=1)] | None = Field(
        None, description="diversification multiplier, in place of that of the fitted correlations"
    )
    max_multiplier: float = Field(2.5, ge=1, description="cap of the fitted diversification multiplier")
    on_missing_pillar: Literal["no_entries", "renormalise"] = Field(
        "no_entries", description="when a pillar has failed or is stale"
    )
