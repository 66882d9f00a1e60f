"""What [execution] form = positions needs, and the keys that mean nothing in it: refused rather than ignored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pydantic import BaseModel

    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.sections.trading import ExecutionSettings, SizingSettings

# section -> keys of trades whose size and exits are fixed at the entry
OF_TRADES = {
    "execution": ("entry_threshold", "exit_threshold"),
    "entry": ("order", "confirm"),
    "exit": ("on_reversal", "scale_out"),
    "sizing": ("size_by_score", "weight"),
}


def mistakes(valid: Mapping[str, BaseModel]) -> Iterator[str]:
    """All keys that contradict [execution] form = positions; ``valid``: sections by name."""
    execution = cast("ExecutionSettings | None", valid.get("execution"))
    sizing = cast("SizingSettings | None", valid.get("sizing"))
    if execution is None or execution.form == "trades":
        return
    if execution.reward_to_risk is not None:
        yield (
            f"[execution] reward_to_risk = {execution.reward_to_risk}: form = positions has no target, as a position"
            " follows its score; expected off"
        )
    yield from _changed(valid)
    if sizing is not None and sizing.target_volatility is None:
        yield "[sizing] target_volatility is missing: form = positions sizes by it (a share of equity, such as 0.2)"
    if sizing is not None and sizing.max_cost is not None:
        instruments = [cast("Instrument", model) for name, model in valid.items() if name.startswith("instrument.")]
        unknown = sorted(i.symbol for i in instruments if i.tradable and i.symbol not in sizing.costs)
        if unknown:
            yield f"[sizing] max_cost needs the costs of {', '.join(unknown)}: expected such as costs = {unknown[0]}: 2"
    if sizing is not None and sizing.weights:
        total = math.fsum(sizing.weights.values())
        if not math.isclose(total, 1, abs_tol=1e-9):
            yield f"[sizing] weights sum to {total:.10g}; expected 1"


def _changed(valid: Mapping[str, BaseModel]) -> Iterator[str]:
    """Keys of trades that are not at their defaults: somebody expects something of them."""
    for section, names in OF_TRADES.items():
        model = valid.get(section)
        if model is None:
            continue
        for name in names:
            value, usual = getattr(model, name), type(model).model_fields[name].get_default(call_default_factory=True)
            if value != usual:
                text = ", ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, Mapping) else value
                yield f"[{section}] {name} = {text} has no effect with [execution] form = positions: leave it out"
