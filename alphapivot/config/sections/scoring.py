"""[timeframes] and [composite]: how scores are computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from alphapivot.config.sections.base import Mapped, Section


class Timeframes(Section):
    base: str = Field(description="the interval on which decisions are made")
    weights: Mapped[Annotated[float, Field(gt=0)]] = Field(description="timeframe: weight; sums to 1; contains base")


class CompositeSettings(Section):
    weights: Mapped[Annotated[float, Field(gt=0)]] = Field(description="directional pillar: weight; sums to 1")
    optional: tuple[str, ...] = Field(
        (), description="directional pillars that need not know every market: where one is unknown, the others decide"
    )
    gates: Mapped[Annotated[float, Field(ge=0, le=1)]] = Field(
        default={}, description="gating pillar: strength from 0 (its vetoes only) to 1"
    )
    calibrate: Literal["never", "monthly", "quarterly", "yearly"] = Field(
        "never", description="when scalars and correlations are fitted, from earlier scores only"
    )
    typical_score: float = Field(
        30, gt=0, le=100, description="mean absolute score to which calibration scales each pillar, points"
    )
    min_bars: int = Field(250, ge=20, description="bars of the base timeframe needed to fit")
    shrinkage: float = Field(
        0.5, ge=0, le=1, description="how far correlations are shrunk to their mean: 0 not at all, 1 fully"
    )
    scalars: Mapped[Annotated[float, Field(gt=0)]] = Field(
        default={}, description="pillar: factor of its scores, instead of the fitted one"
    )
    multiplier: Annotated[float, Field(ge=1)] | None = Field(
        None, description="diversification multiplier, instead of the fitted one"
    )
    max_multiplier: float = Field(2.5, ge=1, description="cap of the fitted diversification multiplier")
    on_missing_pillar: Literal["no_entries", "renormalise"] = Field(
        "no_entries", description="when a pillar failed or is stale"
    )
