"""Where each value of a config comes from: a line of its file, the environment, an option, or its default."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr

from alphapivot.config import ini
from alphapivot.config.grammar import SINGLE, model_of, not_keys
from alphapivot.config.overrides import variable_of

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from alphapivot.config.read import Reading

INNER = ("later", "lots")  # fields that a dated term such as lot = 25, 2024-11-20: 75 becomes


@dataclass(frozen=True)
class Value:
    """A key: its text as config.ini has it ("" if it is off), where it comes from, its default and its meaning."""

    section: str
    key: str
    text: str
    source: str  # config.ini:12, a variable, an option, or default
    default: str | None  # None: it has none
    meaning: str

    @property
    def set(self) -> bool:
        return self.source != "default"

    @property
    def differs(self) -> bool:
        """True if it means something else than the default: 3 means 3.0, and a mapping has no order."""
        return self.default is None or _meaning(self.text) != _meaning(self.default)

    def means(self, other: Value) -> bool:
        """True if ``other`` means the same."""
        return _meaning(self.text) == _meaning(other.text)


def values(
    reading: Reading, environ: Mapping[str, str] = os.environ, options: Mapping[str, str] = {}
) -> Iterator[Value]:
    """Each key of each section, in the file's order, then sections that it leaves out; ``options``: place -> option."""
    lines = _lines(reading)
    variables = {name.upper(): name for name in environ}
    order = [*reading.written, *(name for name in SINGLE if name not in reading.written), *sorted(reading.sections)]
    for name in dict.fromkeys(order):
        if name not in reading.sections:
            continue
        texts = reading.sections[name]
        model, _ = model_of(name, texts)
        if model is None:
            continue
        own = {key: field for key, field in ini.keys(model).items() if key not in (*not_keys(model), *INNER)}
        usual = _defaults(model, name, texts, own, reading)
        for key, field in own.items():
            source = options.get(f"{name}.{key}") or variables.get(variable_of(name, key)) or lines.get((name, key), "")
            if key not in texts:
                yield Value(name, key, usual[key] or "", "default", usual[key], field.description or "")
                continue
            file = source == lines.get((name, key))
            text = reading.written[name][key] if file else texts[key]  # a folder as written, not made absolute
            yield Value(name, key, _one_line(text, field), source, usual[key], field.description or "")


def text_of(value: Any) -> str:
    """A value as config.ini writes it; empty for one that is off."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {text_of(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(text_of, value))
    if isinstance(value, SecretStr):
        return "***"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _meaning(text: str) -> float | list[tuple[str, str]]:
    try:
        return float(text)
    except ValueError:
        items = [item.strip().partition(":") for item in text.lower().split(",")]
        said = {"true": "yes", "on": "yes", "false": "no", "off": "no"}
        return sorted((said.get(name.strip(), name.strip()), _number(value)) for name, _, value in items)


def _number(text: str) -> str:
    try:
        return str(float(text))
    except ValueError:
        return text.strip()


def _one_line(text: str, field: FieldInfo) -> str:
    joined = ", ".join(line.strip().rstrip(",") for line in text.splitlines() if line.strip())
    return ini.masked(joined) if "SecretStr" in str(field.annotation) else joined


def _defaults(
    model: type[BaseModel], name: str, texts: Mapping[str, str], own: Mapping[str, FieldInfo], reading: Reading
) -> dict[str, str | None]:
    """
    The default of each key, None for one without: what the section has if the key is left out, which may follow from
    its other keys.
    """
    valid = reading.valid[name]
    valid = getattr(valid, "pillar", valid) if name.startswith("pillar.") else valid
    fixed = {key: getattr(valid, key) for key in not_keys(model)}
    found: dict[str, str | None] = {}
    for key in own:
        section: Any = valid
        if key in texts:
            section = ini.validate(model, name, {k: t for k, t in texts.items() if k != key}, fixed, [])
        if (
            section is None and not own[key].is_required()
        ):  # without this key another one is wrong: no mistake of its own
            found[key] = text_of(own[key].get_default(call_default_factory=True))
        else:
            found[key] = None if section is None else text_of(getattr(section, _field(model, key)))
    return found


def _field(model: type[BaseModel], key: str) -> str:
    return next(name for name, field in model.model_fields.items() if (field.alias or name) == key)


def _lines(reading: Reading) -> dict[tuple[str, str], str]:
    """(section, key) -> file:line."""
    section = ""
    found: dict[tuple[str, str], str] = {}
    for number, line in enumerate(reading.path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if header := re.match(r"\s*\[([^]]+)\]", line):
            section = header[1]
        elif key := re.match(r"\s*([^\s=#;][^=]*?)\s*=", line):
            found.setdefault((section, key[1]), f"{reading.path.name}:{number}")
    return found
