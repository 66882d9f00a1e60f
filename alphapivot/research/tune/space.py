"""
The search space: the values that ``--set`` names, one Settings per trial. Pure.

``section.key=a,b,c`` are values, ``section.key=low..high`` is a range; an entry of a mapping is a key of its own, such
as ``composite.weights.trend=0.2,0.4``. Values are text as in config.ini, parsed by the settings' own models, whose
error messages are passed on; ``off`` leaves a key out. Without ``--trials`` every combination is tried (a grid), with
it a random sample.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from alphapivot.config import ini
from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError
from pillars.rules.rules import Ruled

SINGLE = ("timeframes", "composite", "execution", "entry", "exit", "sizing", "risk", "protections")
MANY = {"pillar": "pillars", "rule": "pillars", "broker": "brokers", "instrument": "instruments"}
ONLY_FULL = ("instrument",)  # families that only the full engine tunes
INSTRUMENT_KEYS = ("tradable", "group", "margin", "lot", "tick", "adjust")  # those that ingestion does not use
OFF = "off"  # leaves an optional key out
# names and identities, not parameters to tune
FIXED = {
    "timeframes": ("base",),
    "execution": ("approve", "book", "strategy", "share", "broker", "mode", "foreign_orders", "max_clock_skew"),
}
SUMS_TO_ONE = {("composite", "weights"), ("timeframes", "weights")}
MOST = 20_000  # trials: beyond it the best is only luck


@dataclass(frozen=True)
class Key:
    """``section`` as in config.ini; ``entry`` of a mapping, or "". Either ``values`` or a range."""

    section: str
    key: str
    entry: str
    values: tuple[str, ...]
    low: float = 0.0
    high: float = 0.0
    whole: bool = False  # a range of whole numbers

    @property
    def name(self) -> str:
        return ".".join(part for part in (self.section, self.key, self.entry) if part)

    @property
    def ranged(self) -> bool:
        return not self.values

    def draw(self, rng: np.random.Generator) -> str:
        if self.values:
            return self.values[int(rng.integers(len(self.values)))]
        if self.whole:
            return str(int(rng.integers(int(self.low), int(self.high) + 1)))
        return f"{rng.uniform(self.low, self.high):.4g}"


def parse(texts: Sequence[str], settings: Settings, *, engine: str = "core") -> list[Key]:
    """The keys of ``--set`` for this engine. Raises one ConfigError with all mistakes."""
    mistakes: list[str] = []
    keys: list[Key] = []
    for text in texts:
        try:
            key = _parse(text, settings, engine)
        except ConfigError as error:
            mistakes.append(str(error))
            continue
        if key.name in [k.name for k in keys]:
            mistakes.append(f"duplicate --set {key.name}; give all its values in one")
        else:
            keys.append(key)
    if not texts:
        mistakes.append("nothing to tune: name a key, such as --set execution.entry_threshold=30,40,50")
    if mistakes:
        raise ConfigError("\n  ".join(["this search cannot run:", *mistakes]) if len(mistakes) > 1 else mistakes[0])
    for key in keys:  # each value alone: a typo must not cost hours
        for text in key.values or (_shown(key.low, whole=key.whole), _shown(key.high, whole=key.whole)):
            try:
                apply(settings, {key: text})
            except ConfigError as error:
                mistakes.append(str(error))
    if mistakes:
        raise ConfigError("\n  ".join(["this search cannot run:", *mistakes]) if len(mistakes) > 1 else mistakes[0])
    return keys


def trials(keys: Sequence[Key], count: int | None, seed: int) -> list[tuple[str, ...]]:
    """
    The values of each trial in the order of ``keys``, without repeats. All combinations, or ``count`` of them drawn at
    random: the same for the same ``seed``, and the first ones of a larger count.
    """
    ranged = [key.name for key in keys if key.ranged]
    size = math.prod(len(key.values) for key in keys) if not ranged else None
    if count is not None and count < 1:
        raise ConfigError(f"--trials {count}: at least 1")
    if count is None or (size is not None and count >= size):
        if size is None:
            raise ConfigError(f"{', '.join(ranged)}: a range needs --trials N, or give values such as 0.2,0.3,0.4")
        if size > MOST:
            raise ConfigError(
                f"this grid has {size:,} trials, at most {MOST:,}; use fewer values, or a sample with --trials N"
            )
        return list(itertools.product(*(key.values for key in keys)))
    if count > MOST:
        raise ConfigError(f"--trials {count:,}: at most {MOST:,}")
    rng, drawn = np.random.default_rng(seed), dict[tuple[str, ...], None]()
    for _ in range(100 * count):
        drawn[tuple(key.draw(rng) for key in keys)] = None
        if len(drawn) == count:
            break
    return list(drawn)


def apply(settings: Settings, values: Mapping[Key, str]) -> Settings:
    """``settings`` with the values of one trial. Raises ConfigError with the message of the section's model."""
    sections: dict[str, dict[Key, str]] = {}
    for key, text in values.items():
        sections.setdefault(key.section, {})[key] = text
    applied = settings
    for name, texts in sections.items():
        before = _section(applied, name)
        model = before.pillar if isinstance(before, Ruled) else before
        given = {key.key: _value(model, key, text) for key, text in texts.items() if not key.entry}
        for mapping in dict.fromkeys(key.key for key in texts if key.entry):
            given[mapping] = _mapping(model, mapping, {k: t for k, t in texts.items() if k.key == mapping and k.entry})
        after = _validated(model, name, given, texts)
        applied = _with(applied, name, Ruled(pillar=after, rules=before.rules) if isinstance(before, Ruled) else after)
    return applied


def _parse(text: str, settings: Settings, engine: str) -> Key:
    name, equals, values = (part.strip() for part in text.partition("="))
    names = sections(settings)
    if not equals or not values:
        raise ConfigError(f"--set {text}: write section.key=values, such as execution.entry_threshold=30,40,50")
    section = next((s for s in sorted(names, key=len, reverse=True) if name.startswith(f"{s}.")), None)
    if section is None:
        parts = name.split(".")
        unknown = ".".join(parts[: {"rule": 3}.get(parts[0], 2 if parts[0] in MANY else 1)])
        raise ConfigError(f"--set {name}: {unknown} is not a section to tune; {ini.nearest(unknown, names)}")
    if engine == "core" and section.split(".")[0] in ONLY_FULL:
        raise ConfigError(f"--set {name}: the screening engine cannot tune [{section}]; --engine full can")
    key, entry, annotation = _field(name, section, settings)
    low, dots, high = values.partition("..")
    if not dots:
        return Key(section, key, entry, tuple(dict.fromkeys(v.strip() for v in values.split(",") if v.strip())))
    try:
        ends = float(low), float(high)
    except ValueError:
        raise ConfigError(f"--set {name}={values}: write a range as number..number, such as 0.2..0.6") from None
    if not ends[0] < ends[1]:
        raise ConfigError(f"--set {name}={values}: write the smaller number first")
    return Key(section, key, entry, (), *ends, whole=not entry and _is_whole(annotation))


def _field(name: str, section: str, settings: Settings) -> tuple[str, str, Any]:
    """The key, the entry of a mapping or "", and the key's type annotation."""
    key, _, entry = name.removeprefix(f"{section}.").partition(".")
    model = _section(settings, section)
    model = model.pillar if isinstance(model, Ruled) else model
    fields = {n: field for n, field in type(model).model_fields.items() if n not in FIXED.get(section, ("kind",))}
    if section.startswith("instrument."):
        fields = {n: fields[n] for n in INSTRUMENT_KEYS}
    if key not in fields:
        raise ConfigError(
            f"--set {name}: {key or '(empty)'} is not a key of [{section}] to tune; {ini.nearest(key, fields)}"
        )
    now = getattr(model, key)
    if isinstance(now, dict):
        if not entry:
            raise ConfigError(f"--set {name}: it is a mapping; tune an entry, such as {name}.{next(iter(now), 'NAME')}")
        if entry not in now:
            raise ConfigError(f"--set {name}: [{section}] {key} has no {entry}; {ini.nearest(entry, now)}")
    elif entry:
        raise ConfigError(f"--set {name}: [{section}] {key} is not a mapping; write {section}.{key}")
    return key, entry, fields[key].annotation


def sections(settings: Settings) -> list[str]:
    """The sections whose keys can be tuned."""
    ruled = {name: pillar for name, pillar in settings.pillars.items() if isinstance(pillar, Ruled)}
    rules = [f"rule.{name}.{rule}" for name, pillar in ruled.items() for rule in pillar.rules]
    many = [f"{family}.{n}" for family, field in MANY.items() if family != "rule" for n in getattr(settings, field)]
    return [*SINGLE, *many, *rules]


def _is_whole(annotation: Any) -> bool:
    kinds = re.findall(r"\b(int|float|Decimal|bool)\b", str(annotation))
    return "int" in kinds and "float" not in kinds and "Decimal" not in kinds


def _shown(number: float, *, whole: bool) -> str:
    return str(int(number)) if whole else f"{number:.4g}"


def _section(settings: Settings, name: str) -> Any:
    family, _, rest = name.partition(".")
    if family == "rule":
        pillar, _, rule = rest.partition(".")
        ruled: Any = settings.pillars[pillar]
        return ruled.rules[rule]
    return getattr(settings, MANY[family])[rest] if family in MANY else getattr(settings, name)


def _with(settings: Settings, name: str, section: BaseModel) -> Settings:
    family, _, rest = name.partition(".")
    if family == "rule":
        rest, _, rule = rest.partition(".")
        ruled: Any = settings.pillars[rest]
        section = Ruled(pillar=ruled.pillar, rules={**ruled.rules, rule: section})
    if family in MANY:
        return settings.model_copy(update={MANY[family]: {**getattr(settings, MANY[family]), rest: section}})
    return settings.model_copy(update={name: section})


def _value(model: BaseModel, key: Key, text: str) -> Any:
    field = type(model).model_fields[key.key]
    if text == OFF and field.default in (None, ()):  # a required key reads the word itself
        return field.default
    try:
        return ini.typed(text, field)
    except ValueError as error:
        raise ConfigError(f"--set {key.name}={text}: {error}") from None


def _mapping(model: BaseModel, name: str, entries: Mapping[Key, str]) -> dict[str, Any]:
    """The mapping with its new entries; if it must sum to 1, the other entries are scaled to the rest."""
    now: dict[str, Any] = dict(getattr(model, name))
    given = {key.entry: _number(key, text) for key, text in entries.items()}
    section = next(iter(entries)).section
    if (section, name) not in SUMS_TO_ONE:
        return now | given
    rest = {n: float(v) for n, v in now.items() if n not in given}
    left = 1 - math.fsum(given.values())
    if rest and left <= 1e-9:
        given_text = ", ".join(f"{n} {v:g}" for n, v in given.items())
        raise ConfigError(f"--set {section}.{name}: {given_text} leave nothing for {', '.join(rest)}: weights sum to 1")
    if rest:
        return given | {n: v * left / math.fsum(rest.values()) for n, v in rest.items()}
    return {n: v / math.fsum(given.values()) for n, v in given.items()}


def _number(key: Key, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"--set {key.name}={text}: should be a number") from None
    if not math.isfinite(value) or value < 0:
        raise ConfigError(f"--set {key.name}={text}: should be a finite number, 0 or more")
    return value


def _validated(model: BaseModel, name: str, given: Mapping[str, Any], texts: Mapping[Key, str]) -> BaseModel:
    try:
        return type(model).model_validate({**dict(model), **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        text = next((t for k, t in texts.items() if first["loc"] and k.key == first["loc"][0]), None)
        place = f"{name}.{first['loc'][0]}" if first["loc"] else name
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"--set {place}{'' if text is None else '=' + text}: {message[:1].lower()}{message[1:]}"
        ) from None


def as_text(value: Any) -> str:
    """A value as config.ini writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal | float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


def lines(settings: Settings, keys: Sequence[Key], values: Sequence[str]) -> list[str]:
    """A trial as lines of config.ini, ready to be copied."""
    chosen = apply(settings, dict(zip(keys, values, strict=True)))
    by_section: dict[str, dict[str, str]] = {}
    for key in keys:
        model = _section(chosen, key.section)
        now = getattr(model.pillar if isinstance(model, Ruled) else model, key.key)
        text = ", ".join(f"{n}: {v:.6g}" for n, v in now.items()) if isinstance(now, dict) else as_text(now)
        by_section.setdefault(key.section, {})[key.key] = (
            f"{key.key} = {text}" if now not in (None, ()) else f"; no {key.key}"
        )
    return [line for section, entries in by_section.items() for line in (f"[{section}]", *entries.values())]
