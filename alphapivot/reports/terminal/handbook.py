"""A pillar's page: idea and formulas from its docstring, its parameters, and the features for rules."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import pandas as pd
from pydantic.fields import FieldInfo

from alphapivot.config.ini import nearest
from alphapivot.errors import ConfigError
from alphapivot.frames import Bars
from pillars.base import BESIDE, Panel, Pillar
from pillars.rules.rules import Ruled

BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def index(registry: Mapping[str, type[Pillar]]) -> pd.DataFrame:
    """One row per pillar: pillar, gives (score, gate), history (bars, with default parameters), asks (its idea)."""
    rows = [(name, _gives(cls), str(cls().history), _idea(cls)) for name, cls in registry.items()]
    return pd.DataFrame(rows, columns=["pillar", "gives", "history", "asks"])


def page(name: str, registry: Mapping[str, type[Pillar]], configured: Pillar | None = None) -> str:
    """The page of one pillar as Markdown, with the values of ``configured``. ConfigError for an unknown name."""
    if name not in registry:
        raise ConfigError(f"there is no pillar {name}; {nearest(name, registry)}")
    cls = registry[name]
    pillar = (configured.pillar if isinstance(configured, Ruled) else configured) or cls()
    title = "value" if configured else "default"
    features = pillar.parts(Panel.of(Bars.empty())).features
    lines = [
        f"# {name}",
        "",
        (inspect.getdoc(cls) or "").replace("``", "`"),
        "",
        f"## Parameters: `[pillar.{name}]` in config.ini",
        "",
        f"| key | {title} | range | meaning |",
        "| --- | --- | --- | --- |",
        *(
            f"| {key} | {getattr(pillar, key):g} | {_range(f)} | {f.description} |"
            for key, f in cls.model_fields.items()
        ),
        "",
        f"With these values a score looks back {pillar.history} bars of its timeframe.",
        "",
        "## Features for rules",
        "",
        ", ".join(f"`{feature}`" for feature in features),
    ]
    if cls.inputs:
        beside = [f"- `{column}`: {BESIDE[column]}" for column in cls.inputs]
        lines += ["", "## Inputs besides the signal market's bars, at the same instants", "", *beside]
    return "\n".join(lines) + "\n"


def _gives(cls: type[Pillar]) -> str:
    gives = [word for word, given in (("score", cls.directional), ("gate", cls.gating)) if given]
    return " and ".join(gives) + (", of all symbols at once" if cls.cross_sectional else "")


def _idea(cls: type[Pillar]) -> str:
    """The first sentence of the pillar's docstring."""
    text = " ".join((inspect.getdoc(cls) or "").split())
    ends = [at for mark in ".?" if (at := text.find(mark)) >= 0]
    return text[: min(ends) + 1] if ends else text


def _range(field: FieldInfo) -> str:
    bounds: list[tuple[str, Any]] = [
        (sign, getattr(rule, key)) for rule in field.metadata for key, sign in BOUNDS.items() if hasattr(rule, key)
    ]
    return ", ".join(f"{sign} {value:g}" for sign, value in bounds)
