"""
Reads config.ini: its form, the environment over it, each section by its model, then what must hold between sections.

Nothing is raised before all of it has been looked at: one ConfigError tells every mistake.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

import pillars
from alphapivot.config import ini, plugins
from alphapivot.config.checks import check
from alphapivot.config.sections import instrument, runtime, scoring, screen, trading
from alphapivot.config.sections.feeds import FeedSection
from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError
from alphapivot.home import CHECKOUT
from pillars.rules.rules import Rule, Ruled

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
}
OPTIONAL = ("database", "entry", "exit", "sizing", "protections", "quality", "retention", "plugins")
MANY = {
    "feed": "feed.NAME",
    "instrument": "instrument.SYMBOL",
    "pillar": "pillar.NAME",
    "rule": "rule.PILLAR.NAME",
    "broker": "broker.NAME",
}
PREFIX = "ALPHAPIVOT_"
VARIABLES = tuple(  # no keys of the file
    f"{PREFIX}{name}" for name in ("HOME", "CONFIG", "LIVE", "ALERT_URLS", "READER_PASSWORD")
)
NEAR = 0.9  # with the prefix, that of two letters exchanged


def load(
    path: Path | None = None, environ: Mapping[str, str] = os.environ, overrides: Mapping[str, str] = {}
) -> Settings:
    """
    config.ini, over it the ALPHAPIVOT_SECTION__KEY, then ``overrides`` such as {"runtime.feed": "simulated"}.

    Without a path: the file that ALPHAPIVOT_CONFIG names, else config.ini in the checkout. An override of
    ``runtime.feed`` holds for every instrument, also for one that names its own feed. ConfigError tells all mistakes.
    """
    path = _path(path, environ)
    sections, mistakes = _written(path)
    mistakes += [
        f"[{name}] is not a section; {_nearest_section(name)}"
        for name in sections
        if name not in SINGLE and not _family(name)
    ]
    mistakes += _load_plugins(sections, environ, path)
    mistakes += _apply_environment(sections, {k: v for k, v in environ.items() if k != f"{PREFIX}PLUGINS__FOLDER"})
    mistakes += _apply_overrides(sections, overrides)

    valid: dict[str, BaseModel] = {}
    for name, found in sections.items():
        model, reason = _model(name, found)
        if model is None:
            mistakes += [reason] if reason else []
            continue
        given = {"symbol": name.partition(".")[2]} if model is instrument.Instrument else {}
        if (section := ini.validate(model, name, found, given, mistakes)) is not None:
            valid[name] = section
    mistakes += [
        f"[{name}] is missing; it needs {', '.join(f'{k} ({ini.hint(f)})' for k, f in _required(model))}"
        for name, model in SINGLE.items()
        if name not in sections and name not in OPTIONAL
    ]
    mistakes += [
        f"there is no [{form}] section; at least one is needed"
        for family, form in MANY.items()
        if family != "rule" and not any(_family(name) == family for name in sections)
    ]
    _apply_rules(valid, sections, mistakes)
    mistakes += check(valid, sections)
    if mistakes:
        _refuse(path, mistakes)

    def named(family: str) -> dict[str, Any]:
        values = {name.partition(".")[2]: section for name, section in valid.items() if _family(name) == family}
        return {n: v.below(path.parent) if isinstance(v, FeedSection) else v for n, v in values.items()}

    return Settings(
        **{name: section for name, section in valid.items() if name in SINGLE},
        feeds=named("feed"),
        instruments=named("instrument"),
        brokers=named("broker"),
        pillars=named("pillar"),
    )


def database(environ: Mapping[str, str] = os.environ) -> runtime.Database:
    """[database] alone, so that the hub can be reached whatever the rest of the file says."""
    path = _path(None, environ)
    sections, mistakes = _written(path)
    sections = {name: found for name, found in sections.items() if name == "database"}
    mistakes += _apply_environment(
        sections, {name: value for name, value in environ.items() if name.upper().startswith(f"{PREFIX}DATABASE_")}
    )
    section = ini.validate(runtime.Database, "database", sections.get("database", {}), {}, mistakes)
    if section is None or mistakes:
        _refuse(path, mistakes)
    return section


def _path(path: Path | None, environ: Mapping[str, str]) -> Path:
    return Path(path or environ.get("ALPHAPIVOT_CONFIG") or CHECKOUT / "config.ini")


def _refuse(path: Path, mistakes: list[str]) -> NoReturn:
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    raise ConfigError(ini.masked("\n  ".join([f"{shown} cannot be used:", *mistakes]))) from None


def _written(path: Path) -> tuple[ini.Sections, list[str]]:
    """What the file says; a password in it is a mistake even where the environment overrides it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        _refuse(path, ["there is no such file; name one with --config or ALPHAPIVOT_CONFIG"])
    except UnicodeDecodeError as error:
        _refuse(path, [f"byte {error.start} is not UTF-8 text"])
    except OSError as error:
        _refuse(path, [f"it cannot be read: {error.strerror}"])
    sections, mistakes = _parsed(text)
    sections, mistakes = {name: dict(section) for name, section in sections.items()}, list(mistakes)
    if _has_password(sections.get("database", {}).get("url", "")):
        mistakes.append("[database] url holds a password; put the whole address into ALPHAPIVOT_DATABASE__URL")
    return sections, mistakes


@lru_cache(maxsize=4)
def _parsed(text: str) -> tuple[ini.Sections, list[str]]:
    """Each step asks where the database is: 50 ms with 500 instruments."""
    return ini.parse(text)


def _has_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.password) or "password" in parse_qs(parts.query)
    except ValueError:  # not an address at all: its model says so
        return False


def _family(name: str) -> str | None:
    """``feed`` of ``feed.yahoo``; None for what is no such section."""
    family, dot, rest = name.partition(".")
    if family == "rule" and not re.fullmatch(r"[^.]+\.[^.]+", rest):
        return None
    return family if family in MANY and dot and rest else None


def _nearest_section(name: str) -> str:
    family, dot, rest = name.partition(".")
    if dot and family in MANY:
        return f"it is written [{MANY[family]}]"
    near = ini.nearest(family, MANY if dot else SINGLE)
    if not near.startswith("did"):
        return f"it may be {', '.join([*SINGLE, *MANY.values()])}"
    return near.replace("?", f".{rest}?") if dot else near


def _required(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return [(key, field) for key, field in model.model_fields.items() if field.is_required()]


def _model(name: str, found: Mapping[str, str]) -> tuple[type[BaseModel] | None, str]:
    """The model of a section; or none, and why ("" for an unknown section, told elsewhere)."""
    family, rest = _family(name), name.partition(".")[2]
    if family is None:
        return SINGLE.get(name), ""
    if family == "instrument":
        return instrument.Instrument, ""
    if family == "pillar":
        known: Mapping[str, type[BaseModel]] = pillars.PILLARS
        return known.get(rest), f"[{name}] names no pillar; {ini.nearest(rest, known)}"
    if family == "rule":
        return Rule, ""
    return _kind(name, family, found)


def _kind(name: str, family: str, found: Mapping[str, str]) -> tuple[type[BaseModel] | None, str]:
    """The model of a [feed.NAME] or [broker.NAME] section by its kind; or none, and why."""
    kind = found.get("kind")
    if kind is None:
        return None, f"[{name}] kind is missing ({' or '.join(plugins.names(family))})"
    try:
        model = plugins.kinds(family, kind)
    except ConfigError as error:
        return None, f"[{name}] kind = {kind}: {error}"
    near = ini.nearest(kind, plugins.names(family))
    return model, "" if model else f"[{name}] kind = {kind}: no such kind of {family}; {near}"


def _apply_environment(sections: ini.Sections, environ: Mapping[str, str]) -> list[str]:
    """Writes ALPHAPIVOT_SECTION__KEY over the sections; all but letters and digits of a section's name is _ there."""
    keys: dict[str, list[tuple[str, str]]] = {}
    for name in [*SINGLE, *(n for n in sections if _family(n))]:
        model, _ = _model(name, sections.get(name, {}))
        for key in {**(model.model_fields if model else {}), **sections.get(name, {})}:
            if not (model is instrument.Instrument and key == "symbol"):
                variable = f"{PREFIX}{re.sub('[^A-Za-z0-9]', '_', name)}__{key}".upper()
                keys.setdefault(variable, []).append((name, key))
    mistakes = []
    for variable, value in sorted(environ.items()):
        places = keys.get(variable.upper(), [])
        if len(places) == 1:
            section, key = places[0]
            sections.setdefault(section, {})[key] = value.strip()
        elif places:
            mistakes.append(f"{variable} could mean {' or '.join(f'[{section}] {key}' for section, key in places)}")
        elif variable.upper().startswith(PREFIX):
            meant = [known for known in keys if known.replace("__", "_") == variable.upper().replace("__", "_")]
            if meant or "__" in variable:
                # compared without the prefix, which would bring all of them near
                near = ini.nearest(variable[len(PREFIX) :], [known[len(PREFIX) :] for known in meant or keys])
                near = near.replace("mean ", f"mean {PREFIX}") if near[:3] == "did" else f"write {PREFIX}SECTION__KEY"
                mistakes.append(f"{variable} in the environment names no key; {near}")
            elif variable.upper() not in VARIABLES and (
                known := difflib.get_close_matches(variable.upper(), VARIABLES, n=1, cutoff=NEAR)
            ):
                mistakes.append(f"{variable} in the environment means nothing; did you mean {known[0]}?")
    return mistakes


def meaningless(environ: Mapping[str, str]) -> list[str]:
    """Of variables that look like ours, name no key and are near none: a sentence each, for `check` to warn."""
    return [
        f"{variable} in the environment means nothing; {ini.nearest(variable, [*VARIABLES, f'{PREFIX}SECTION__KEY'])}"
        for variable in sorted(environ)
        if variable.startswith(PREFIX) and "__" not in variable and variable not in VARIABLES
    ]


def _apply_overrides(sections: ini.Sections, overrides: Mapping[str, str]) -> list[str]:
    mistakes = []
    for place, value in overrides.items():
        section, _, key = place.rpartition(".")
        if section in SINGLE or section in sections:
            sections.setdefault(section, {})[key] = value
        else:
            mistakes.append(f"{place} = {value} names no section; {ini.nearest(section, [*SINGLE, *sections])}")
    if "runtime.feed" in overrides:
        for name, found in sections.items():
            if _family(name) == "instrument":
                found.pop("feed", None)
    return mistakes


def _apply_rules(valid: dict[str, BaseModel], sections: ini.Sections, mistakes: list[str]) -> None:
    """Makes each pillar that has rules a ``Ruled`` one."""
    rules: dict[str, dict[str, BaseModel]] = {}
    for section in [name for name in valid if _family(name) == "rule"]:
        _, pillar, name = section.split(".", 2)
        configured = [other.removeprefix("pillar.") for other in sections if _family(other) == "pillar"]
        if pillar not in configured:
            near = ini.nearest(pillar, configured)
            mistakes.append(f"[{section}] is a rule of {pillar}, but there is no [pillar.{pillar}]; {near}")
        elif (chosen := valid.get(f"pillar.{pillar}")) is not None:
            try:
                Ruled(pillar=chosen, rules={name: valid[section]})
            except ValidationError as error:
                mistakes += [f"[{section}] {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
            else:
                rules.setdefault(pillar, {})[name] = valid[section]
    for pillar, own in rules.items():
        valid[f"pillar.{pillar}"] = Ruled(pillar=valid[f"pillar.{pillar}"], rules=own)


def _load_plugins(sections: ini.Sections, environ: Mapping[str, str], path: Path) -> list[str]:
    """Imports the user's own pillars, before anything is asked about their sections; makes their folder absolute."""
    section = sections.get("plugins", {})
    folder = environ.get(f"{PREFIX}PLUGINS__FOLDER", section.get("folder"))
    if folder:
        folder = str((path.parent / Path(folder).expanduser()).resolve())
        sections["plugins"] = section | {"folder": folder}
    try:
        plugins.load(
            Path(folder) if folder else None, [n.removeprefix("pillar.") for n in sections if n[:7] == "pillar."]
        )
    except ConfigError as error:
        return [str(error)]
    return []
