"""What overrides config.ini: ALPHAPIVOT_SECTION__KEY in the environment, then the options of a command."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from alphapivot.config import ini
from alphapivot.config.grammar import SINGLE, family, model_of, not_keys

PREFIX = "ALPHAPIVOT_"
VARIABLES = tuple(  # variables that override no key of the file
    f"{PREFIX}{name}" for name in ("HOME", "CONFIG", "LIVE", "ALERT_URLS", "HEARTBEAT_URL", "READER_PASSWORD")
)
NEAR = 0.9  # difflib's ratio, prefix included: two letters swapped are still near


def variable_of(section: str, key: str) -> str:
    """The variable that overrides a key; in it _ stands for what is not a letter or digit."""
    return f"{PREFIX}{re.sub('[^A-Za-z0-9]', '_', section)}__{key}".upper()


def environment(sections: ini.Sections, environ: Mapping[str, str]) -> list[str]:
    """Apply ALPHAPIVOT_SECTION__KEY to the sections; returns the mistakes."""
    keys: dict[str, list[tuple[str, str]]] = {}
    for name in [*SINGLE, *(n for n in sections if family(n))]:
        model, _ = model_of(name, sections.get(name, {}))
        for key in {**(ini.keys(model) if model else {}), **sections.get(name, {})}:
            if key not in not_keys(model):
                keys.setdefault(variable_of(name, key), []).append((name, key))
    mistakes = []
    for variable, value in sorted(environ.items()):
        places = keys.get(variable.upper(), [])
        if len(places) == 1:
            section, key = places[0]
            sections.setdefault(section, {})[key] = value.strip()
        elif places:
            mistakes.append(f"{variable} could mean {' or '.join(f'[{section}] {key}' for section, key in places)}")
        elif variable.upper().startswith(PREFIX):
            spelling = variable.upper().replace("__", "_")
            candidates = [key for key in keys if key.replace("__", "_") == spelling]
            if candidates or "__" in variable:
                # compared without the prefix, which would make all of them near
                near = ini.nearest(variable[len(PREFIX) :], [key[len(PREFIX) :] for key in candidates or keys])
                near = near.replace("mean ", f"mean {PREFIX}") if near[:3] == "did" else f"write {PREFIX}SECTION__KEY"
                mistakes.append(f"{variable} in the environment matches no key; {near}")
            elif variable.upper() not in VARIABLES and (
                similar := difflib.get_close_matches(variable.upper(), VARIABLES, n=1, cutoff=NEAR)
            ):
                mistakes.append(f"{variable} in the environment is unknown; did you mean {similar[0]}?")
    return mistakes


def options(sections: ini.Sections, overrides: Mapping[str, str]) -> list[str]:
    """Applies ``section.key`` -> value; a feed for all instruments replaces their own."""
    mistakes = []
    for place, value in overrides.items():
        section, _, key = place.rpartition(".")
        if section in SINGLE or section in sections:
            sections.setdefault(section, {})[key] = value
        else:
            mistakes.append(f"{place} = {value}: no such section; {ini.nearest(section, [*SINGLE, *sections])}")
    if "runtime.feed" in overrides:
        for name, texts in sections.items():
            if family(name) == "instrument":
                texts.pop("feed", None)
    return mistakes


def usual_feeds(sections: ini.Sections) -> dict[str, str]:
    """symbol -> the feeds that the config names for it."""
    default = sections.get("runtime", {}).get("feed", "")
    names = {name.partition(".")[2]: texts for name, texts in sections.items() if family(name) == "instrument"}
    return {symbol: texts.get("feed") or default for symbol, texts in names.items()}
