"""[timeframes] and [composite]: how scores are computed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from alphapivot.config.sections.base import Mapped, Section

# The blend of a config that sets no weights: docs/evidence.md says why these. Shares have no carry, so it is optional.
WEIGHTS = {"trend": 0.45, "carry": 0.3, "structure": 0.2, "momentum": 0.05}
OPTIONAL = ("carry",)
GATES = {"quality": 0.0, "risk": 0.0}


class Timeframes(Section):
    base: str = Field("1d", description="the interval on which decisions are made")
    weights: Mapped[Annotated[float, Field(gt=0)]] = Field(
        description="timeframe: weight; sums to 1; contains base; default: the base alone"
    )

    @model_validator(mode="before")
    @classmethod
    def _base_alone(cls, given: Any) -> Any:
        if isinstance(given, dict) and "weights" not in given:
            return given | {"weights": {given.get("base", cls.model_fields["base"].default): 1}}
        return given


class CompositeSettings(Section):
    weights: Mapped[Annotated[float, Field(gt=0)]] = Field(
        default=WEIGHTS, description="directional pillar: weight; sums to 1; a default brings its optional and gates"
    )
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

    @model_validator(mode="before")
    @classmethod
    def _usual_blend(cls, given: Any) -> Any:
        """The default weights come with what they need: weights of the user's own do not."""
        if isinstance(given, dict) and "weights" not in given:
            return {"optional": OPTIONAL, "gates": GATES} | given
        return given
