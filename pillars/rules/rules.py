"""
The rules of config.ini: where a condition over a pillar's features holds, they add points, narrow its gate, or veto.
An unknown condition does not hold. ``pillars.rules.expression`` is their language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SerializeAsAny, model_validator

from pillars.base import VALUES, Column, Panel, Parts, Pillar
from pillars.rules.expression import Compiled, ExpressionError, compile_condition

Fired = Mapping[str, npt.NDArray[np.bool_]]  # rule -> where it fires


class Rule(BaseModel):
    """One [rule.PILLAR.NAME] of config.ini: points, a gate or a veto where ``when`` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    when: str = Field(description="a condition over the pillar's features, such as close > mean_slow and adx > 25")
    score: float | None = Field(None, ge=-100, le=100, description="points where it holds, such as +10")
    gate: float | None = Field(None, ge=0, le=1, description="gate where it holds, 0 (closed) to 1 (open)")
    veto: str | None = Field(
        None, pattern="^[a-z][a-z0-9_-]{0,39}$", description="a reason code where it holds: a-z, 0-9, _ and -"
    )
    mode: Literal["add", "override"] = Field("add", description="add to the pillar's own result, or override it")

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.score is None and self.gate is None and self.veto is None:
            raise ValueError("the rule has no effect; give score, gate or veto")
        return self


def _in_order(rules: dict[str, Rule]) -> dict[str, Rule]:
    return dict(sorted(rules.items()))


class Ruled(Pillar):
    """
    A pillar with its rules: the pillar's own result, followed by the parts of the rules that fire.

    Scores add up, gates multiply. Where a rule with ``mode = override`` fires, the pillar's own parts (for a gate: its
    own gate; for a veto: its own vetoes) do not count. A value that is unknown to the pillar stays unknown.
    """

    pillar: SerializeAsAny[Pillar]
    rules: Annotated[dict[str, Rule], AfterValidator(_in_order)]
    _compiled: dict[str, Compiled] = PrivateAttr()

    @model_validator(mode="after")
    def _compile(self) -> Self:
        names = features(self.pillar)
        self._compiled = {name: _checked(self.pillar, names, rule) for name, rule in self.rules.items()}
        return self

    @property
    def name(self) -> str:  # type: ignore[override]  # per instance, unlike in other pillars
        return self.pillar.name

    @property
    def directional(self) -> bool:  # type: ignore[override]  # as above
        return self.pillar.directional

    @property
    def gating(self) -> bool:  # type: ignore[override]  # as above
        return self.pillar.gating or any(rule.gate is not None for rule in self.rules.values())

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]  # as above
        return self.pillar.inputs

    @property
    def cross_sectional(self) -> bool:  # type: ignore[override]  # as above
        return self.pillar.cross_sectional

    @property
    def looks_back(self) -> bool:  # type: ignore[override]  # a condition may use features of earlier rows
        return True

    @property
    def common_history(self) -> int:
        return self.pillar.common_history

    def common(self, closes: Panel) -> dict[str, Column]:
        return self.pillar.common(closes)

    @property
    def history(self) -> int:
        return self.pillar.history + max((c.back for c in self._compiled.values()), default=0)

    def parts(self, bars: Panel) -> Parts:
        result = self.pillar.parts(replace(bars, asked=None))  # a condition may use features of any row
        place = np.arange(len(bars.ts)) - bars.bounds[:-1][bars.slices]
        # a comparison with NaN is false: an unknown condition does not fire
        fired = {name: c.value(result.features, place) == 1 for name, c in self._compiled.items()}
        return replace(
            result,
            parts=self._parts(result, fired),
            gate=self._gate(result, fired),
            veto=self._veto(result, fired, len(place)),
        )

    def _select(self, key: str, fired: Fired) -> dict[str, tuple[Any, Any]]:
        return {
            name: (getattr(rule, key), fired[name])
            for name, rule in self.rules.items()
            if getattr(rule, key) is not None
        }

    def _silenced(self, key: str, fired: Fired) -> Any:
        chosen = [at for name, (_, at) in self._select(key, fired).items() if self.rules[name].mode == "override"]
        return np.logical_or.reduce(chosen) if chosen else np.False_

    def _parts(self, result: Parts, fired: Fired) -> dict[str, Column]:
        silenced = self._silenced("score", fired)
        own = {n: np.where(silenced & ~np.isnan(column), 0.0, column) for n, column in result.parts.items()}
        scores = self._select("score", fired)
        return own | {f"rule {name}": np.where(at, points, 0.0) for name, (points, at) in scores.items()}

    def _gate(self, result: Parts, fired: Fired) -> Column | None:
        gates = self._select("gate", fired)
        if not gates:
            return result.gate
        own = np.ones(len(next(iter(fired.values())))) if result.gate is None else result.gate
        gate = np.where(self._silenced("gate", fired) & ~np.isnan(own), 1.0, own)
        for factor, at in gates.values():
            gate = np.where(at, gate * factor, gate)
        return gate

    def _veto(self, result: Parts, fired: Fired, count: int) -> npt.NDArray[np.object_] | None:
        vetoes = self._select("veto", fired)
        if not vetoes:
            return result.veto
        own = np.full(count, None, np.object_) if result.veto is None else result.veto.copy()
        own[np.broadcast_to(self._silenced("veto", fired), count)] = None
        veto, free = own.copy(), pd.isna(own)
        for code, at in reversed(vetoes.values()):  # one code per row: the pillar's own, else the first rule's
            veto[at & free] = code
        return veto


def features(pillar: Pillar) -> list[str]:
    """The features that a rule of this pillar may use, sorted; they do not depend on the bars."""
    return sorted(pillar.parts(_nothing()).features)


def _checked(pillar: Pillar, names: list[str], rule: Rule) -> Compiled:
    if rule.score is not None and not pillar.directional:
        raise ValueError(f"{pillar.name} is not directional: its rules may set gate or veto, not score")
    try:
        return compile_condition(rule.when, names, pillar.name)
    except ExpressionError as error:
        raise ValueError(f"when: {error}") from None


def _nothing() -> Panel:
    none: dict[str, Any] = {name: [] for name in ("symbol", "interval", *VALUES)}
    return Panel.of(pd.DataFrame(none | {"ts": pd.DatetimeIndex([], tz="UTC")}))
