"""Which sections config.ini may have, and the model of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

import pillars
from alphapivot.config import ini, plugins
from alphapivot.config.sections import instrument, runtime, scoring, screen, trading
from alphapivot.config.sections.brokers import KiteBroker, PaperBroker
from alphapivot.config.sections.calendar import CalendarSection
from alphapivot.config.sections.fees import FeeTable
from alphapivot.errors import ConfigError
from pillars.rules.rules import Rule

SINGLE: dict[str, type[BaseModel]] = {
    "database": runtime.Database,
    "timeframes": scoring.Timeframes,
    "composite": scoring.CompositeSettings,
    "execution": trading.ExecutionSettings,
    "entry": trading.EntrySettings,
    "exit": trading.ExitSettings,
    "sizing": trading.SizingSettings,
    "risk": trading.RiskSettings,
    "protections": trading.ProtectionSettings,
    "quality": screen.Quality,
    "retention": runtime.Retention,
    "plugins": runtime.Plugins,
    "runtime": runtime.Runtime,
    "universe": runtime.Universe,
}
NO_DEFAULT = ("runtime", "universe")  # a key of theirs has none: [runtime] is required, [universe] may be absent
MANY = {
    "feed": "feed.NAME",
    "calendar": "calendar.NAME",
    "fees": "fees.NAME",
    "instrument": "instrument.SYMBOL",
    "pillar": "pillar.NAME",
    "rule": "rule.PILLAR.NAME",
    "broker": "broker.NAME",
}
PLAIN_FAMILIES: dict[str, type[BaseModel]] = {  # without kinds
    "calendar": CalendarSection,
    "fees": FeeTable,
    "instrument": instrument.Instrument,
    "rule": Rule,
}
GIVEN: dict[Any, tuple[str, ...]] = {  # fields that are no keys
    instrument.Instrument: ("symbol", "timetable", "members", "usual", "leg_terms"),
    **dict.fromkeys((PaperBroker, KiteBroker), ("tables",)),
}


def not_keys(model: Any) -> tuple[str, ...]:
    """The fields of a section's model that are no keys; a pillar's ``groups`` come from the instruments."""
    grouped = isinstance(model, type) and issubclass(model, pillars.Pillar) and "groups" in model.model_fields
    return ("groups",) if grouped else GIVEN.get(model, ())


def family(name: str) -> str | None:
    """``feed`` for ``feed.yahoo``; None for a section without a family."""
    first, dot, rest = name.partition(".")
    if first == "rule" and not re.fullmatch(r"[^.]+\.[^.]+", rest):
        return None
    return first if first in MANY and dot and rest else None


def nearest_section(name: str) -> str:
    first, dot, rest = name.partition(".")
    if dot and first in MANY:
        return f"write it as [{MANY[first]}]"
    near = ini.nearest(first, MANY if dot else SINGLE)
    if not near.startswith("did"):
        return f"expected one of {', '.join([*SINGLE, *MANY.values()])}"
    return near.replace("?", f".{rest}?") if dot else near


def missing(sections: Mapping[str, Any]) -> list[str]:
    """The mistakes of a file without a section that it needs."""
    required = [f"{key} ({ini.hint(field)})" for key, field in ini.keys(runtime.Runtime).items() if field.is_required()]
    return [
        *([] if "runtime" in sections else [f"[runtime] is missing; required keys: {', '.join(required)}"]),
        *(
            f"there is no [{form}] section; at least one is needed"
            for first, form in MANY.items()
            if first in ("feed", "instrument", "broker") and not any(family(name) == first for name in sections)
        ),
    ]


def model_of(name: str, texts: Mapping[str, str]) -> tuple[type[BaseModel] | None, str]:
    """The model of a section; or None and the reason ("" for an unknown section, reported elsewhere)."""
    first, rest = family(name), name.partition(".")[2]
    if first is None:
        return SINGLE.get(name), ""
    if first in PLAIN_FAMILIES:
        return PLAIN_FAMILIES[first], ""
    if first == "pillar":
        registry: Mapping[str, type[BaseModel]] = pillars.PILLARS
        return registry.get(rest), f"[{name}]: no such pillar; {ini.nearest(rest, registry)}"
    return _kind(name, first, texts)


def _kind(name: str, first: str, texts: Mapping[str, str]) -> tuple[type[BaseModel] | None, str]:
    """The model of a [feed.NAME] or [broker.NAME] section by its kind; or None and the reason."""
    kind = texts.get("kind")
    if kind is None:
        return None, f"[{name}] kind is missing ({' or '.join(plugins.names(first))})"
    try:
        model = None if kind == instrument.LEGS else plugins.kinds(first, kind)
    except ConfigError as error:
        return None, f"[{name}] kind = {kind}: {error}"
    near = ini.nearest(kind, plugins.names(first))
    return model, "" if model else f"[{name}] kind = {kind}: no such kind of {first}; {near}"
