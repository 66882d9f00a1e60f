"""A pillar's page: idea and formulas from its docstring, what it showed, its parameters, the features for rules."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic.fields import FieldInfo

from alphapivot.config.grammar import not_keys
from alphapivot.config.ini import nearest
from alphapivot.errors import ConfigError
from alphapivot.frames import Bars
from alphapivot.reports.terminal import views
from pillars.base import BESIDE, Panel, Pillar
from pillars.rules.rules import Ruled

EVIDENCE = Path(inspect.getfile(Pillar)).parent / "evidence.csv"  # written by `alphapivot evidence --figures`
DIGITS = {"net": 2, "error": 2, "turns": 1, "ic": 3, "t": 1, "correlation": 2, "worst": 2, "best": 2}
COLUMNS = ["net", "error", "turns", "ic", "t", "correlation", "with", "worst", "best"]
MEASURED = (
    "Net Sharpe ratio with its standard error, round turns a year, information coefficient over 20 days with its t"
    " value, correlation with the most similar other pillar, net Sharpe ratio of the worst and the best market; with"
    " the defaults. docs/evidence.md names the markets, says how it is measured, and what to hold it against."
)
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
        "## What it showed on real prices, after costs",
        "",
        _evidence(name, cls),
        "",
        f"## Parameters: `[pillar.{name}]` in config.ini",
        "",
        f"| key | {title} | range | meaning |",
        "| --- | --- | --- | --- |",
        *(
            f"| {key} | {getattr(pillar, key):g} | {_range(f)} | {f.description} |"
            for key, f in cls.model_fields.items()
            if key not in not_keys(cls)
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


def _evidence(name: str, cls: type[Pillar]) -> str:
    """The figures of a pillar and its parts, or of the composite with its gate and vetoes, for each set of markets."""
    every = pd.read_csv(EVIDENCE)
    gated = f"composite x {name}"
    if cls.directional:
        found = every[every["kind"].isin(["pillar", "part"]) & (every["name"].str.partition(".")[0] == name)]
    else:
        found = every[every["name"].isin(["composite", gated, "composite, entries vetoed"])]
    if not found["name"].isin([name, gated]).any():
        return f"Not measured: `alphapivot evidence --data FOLDER` measures it where {name} is in config.ini."
    figures = {column: found[column].map(f"{{:.{digits}f}}".format) for column, digits in DIGITS.items()}
    shown = found.rename(columns={"similar": "with"}).assign(**figures)[["set", "name", *COLUMNS]]
    return f"{MEASURED}\n\n{views.markdown(shown.replace('nan', '')).rstrip()}"


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
