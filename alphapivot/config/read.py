"""
Reads config.ini: syntax, overrides from the environment, each section by its model, then consistency between sections.

Everything is checked before anything is raised: one ConfigError lists all mistakes.
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
from alphapivot.config import ini, plugins, universe
from alphapivot.config.checks import check
from alphapivot.config.sections import instrument, runtime, scoring, screen, trading
from alphapivot.config.sections.brokers import PaperBroker
from alphapivot.config.sections.calendar import CalendarSection
from alphapivot.config.sections.feeds import FeedSection
from alphapivot.config.sections.fees import FeeTable
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
    "universe": runtime.Universe,
}
OPTIONAL = ("database", "entry", "exit", "sizing", "protections", "quality", "retention", "plugins", "universe")
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
PREFIX = "ALPHAPIVOT_"
VARIABLES = tuple(  # variables that override no key of the file
    f"{PREFIX}{name}" for name in ("HOME", "CONFIG", "LIVE", "ALERT_URLS", "READER_PASSWORD")
)
GIVEN: dict[Any, tuple[str, ...]] = {  # fields that are no keys
    instrument.Instrument: ("symbol", "timetable", "members", "usual"),
    PaperBroker: ("tables",),
}
SHOWN = 5  # symbols that a warning names
NEAR = 0.9  # difflib's ratio, prefix included: two letters swapped are still near


def load(
    path: Path | None = None, environ: Mapping[str, str] = os.environ, overrides: Mapping[str, str] = {}
) -> Settings:
    """
    config.ini, overridden by ALPHAPIVOT_SECTION__KEY variables, then by ``overrides`` such as
    {"runtime.feed": "simulated"}.

    Default path: the file that ALPHAPIVOT_CONFIG names, else config.ini in the checkout. An override of
    ``runtime.feed`` applies to every instrument, even one with its own feed. Raises one ConfigError with all mistakes.
    """
    path = _path(path, environ)
    sections, mistakes = _read_file(path)
    mistakes += [
        f"[{name}] is not a section; {_nearest_section(name)}"
        for name in sections
        if name not in SINGLE and not _family(name)
    ]
    mistakes += _load_plugins(sections, environ, path)
    mistakes += _apply_environment(sections, {k: v for k, v in environ.items() if k != f"{PREFIX}PLUGINS__FOLDER"})
    usual = _usual_feeds(sections) if "runtime.feed" in overrides else {}
    mistakes += _apply_overrides(sections, overrides)

    valid: dict[str, BaseModel] = {}
    calendars: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    members = _members(sections, path, mistakes)
    for name, texts in sorted(sections.items(), key=lambda item: not item[0].startswith(("calendar.", "fees."))):
        model, reason = _model(name, texts)
        if model is None:
            mistakes += [reason] if reason else []
            continue
        given: dict[str, Any] = {}
        if model is instrument.Instrument:
            symbol = name.partition(".")[2]
            given = {"symbol": symbol, "timetable": calendars.get(texts.get("calendar", ""))}
            given |= {"members": members.get(symbol, {}), "usual": usual.get(symbol, "")}
        if model is PaperBroker:
            given = {"tables": tables}
        if (section := ini.validate(model, name, texts, given, mistakes)) is not None:
            valid[name] = section
            if isinstance(section, CalendarSection):
                calendars[name.partition(".")[2]] = section
            if isinstance(section, FeeTable):
                tables[name.partition(".")[2]] = section
    mistakes += [
        f"[{name}] is missing; required keys: {', '.join(f'{k} ({ini.hint(f)})' for k, f in _required(model))}"
        for name, model in SINGLE.items()
        if name not in sections and name not in OPTIONAL
    ]
    mistakes += [
        f"there is no [{form}] section; at least one is needed"
        for family, form in MANY.items()
        if family not in ("rule", "calendar", "fees") and not any(_family(name) == family for name in sections)
    ]
    _apply_rules(valid, sections, mistakes)
    mistakes += check(valid, sections)
    if mistakes:
        _refuse(path, mistakes)

    def named(family: str) -> dict[str, Any]:
        values = {name.partition(".")[2]: section for name, section in valid.items() if _family(name) == family}
        return {n: v.below(path.parent) if isinstance(v, FeedSection) else v for n, v in values.items()}

    return Settings(
        **{name: section for name, section in valid.items() if name in SINGLE and name != "universe"},
        feeds=named("feed"),
        instruments=named("instrument"),
        calendars=named("calendar"),
        brokers=named("broker"),
        pillars=named("pillar"),
    )


def database(environ: Mapping[str, str] = os.environ) -> runtime.Database:
    """[database] alone, so that the hub can be reached even if the rest of the file is wrong."""
    path = _path(None, environ)
    sections, mistakes = _read_file(path)
    sections = {name: texts for name, texts in sections.items() if name == "database"}
    mistakes += _apply_environment(
        sections, {name: value for name, value in environ.items() if name.upper().startswith(f"{PREFIX}DATABASE_")}
    )
    section = ini.validate(runtime.Database, "database", sections.get("database", {}), {}, mistakes)
    if section is None or mistakes:
        _refuse(path, mistakes)
    return section


def _members(sections: ini.Sections, path: Path, mistakes: list[str]) -> universe.Spans:
    """The spans of the membership file of [universe]."""
    if not (name := sections.get("universe", {}).get("members")):
        return {}
    spans, wrong = universe.read(path.parent / Path(name).expanduser())
    symbols = {other.removeprefix("instrument.") for other in sections if _family(other) == "instrument"}
    if spans and not symbols & set(spans):
        wrong.append(f"[universe] members: {name} names none of the instruments, but {', '.join(sorted(spans)[:5])}")
    mistakes += wrong
    return spans


def _path(path: Path | None, environ: Mapping[str, str]) -> Path:
    return Path(path or environ.get("ALPHAPIVOT_CONFIG") or CHECKOUT / "config.ini")


def _refuse(path: Path, mistakes: list[str]) -> NoReturn:
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    raise ConfigError(ini.masked("\n  ".join([f"{shown} cannot be used:", *mistakes]))) from None


def _read_file(path: Path) -> tuple[ini.Sections, list[str]]:
    """The file's sections and mistakes; a password in it is a mistake even if the environment overrides it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        _refuse(path, ["no such file; name one with --config or ALPHAPIVOT_CONFIG"])
    except UnicodeDecodeError as error:
        _refuse(path, [f"byte {error.start} is not UTF-8 text"])
    except OSError as error:
        _refuse(path, [f"cannot be read: {error.strerror}"])
    sections, mistakes = _parsed(text)
    sections, mistakes = {name: dict(section) for name, section in sections.items()}, list(mistakes)
    if _has_password(sections.get("database", {}).get("url", "")):
        mistakes.append("[database] url contains a password; put the whole address into ALPHAPIVOT_DATABASE__URL")
    return sections, mistakes


@lru_cache(maxsize=4)
def _parsed(text: str) -> tuple[ini.Sections, list[str]]:
    """Cached, since every step reads [database]: parsing takes 50 ms with 500 instruments."""
    return ini.parse(text)


def _has_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.password) or "password" in parse_qs(parts.query)
    except ValueError:  # not an address: the model reports it
        return False


def _family(name: str) -> str | None:
    """``feed`` for ``feed.yahoo``; None for a section without a family."""
    family, dot, rest = name.partition(".")
    if family == "rule" and not re.fullmatch(r"[^.]+\.[^.]+", rest):
        return None
    return family if family in MANY and dot and rest else None


def _nearest_section(name: str) -> str:
    family, dot, rest = name.partition(".")
    if dot and family in MANY:
        return f"write it as [{MANY[family]}]"
    near = ini.nearest(family, MANY if dot else SINGLE)
    if not near.startswith("did"):
        return f"expected one of {', '.join([*SINGLE, *MANY.values()])}"
    return near.replace("?", f".{rest}?") if dot else near


def _required(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return [(key, field) for key, field in model.model_fields.items() if field.is_required()]


def _model(name: str, texts: Mapping[str, str]) -> tuple[type[BaseModel] | None, str]:
    """The model of a section; or None and the reason ("" for an unknown section, reported elsewhere)."""
    family, rest = _family(name), name.partition(".")[2]
    if family is None:
        return SINGLE.get(name), ""
    if family in PLAIN_FAMILIES:
        return PLAIN_FAMILIES[family], ""
    if family == "pillar":
        registry: Mapping[str, type[BaseModel]] = pillars.PILLARS
        return registry.get(rest), f"[{name}]: no such pillar; {ini.nearest(rest, registry)}"
    return _kind(name, family, texts)


def _kind(name: str, family: str, texts: Mapping[str, str]) -> tuple[type[BaseModel] | None, str]:
    """The model of a [feed.NAME] or [broker.NAME] section by its kind; or None and the reason."""
    kind = texts.get("kind")
    if kind is None:
        return None, f"[{name}] kind is missing ({' or '.join(plugins.names(family))})"
    try:
        model = plugins.kinds(family, kind)
    except ConfigError as error:
        return None, f"[{name}] kind = {kind}: {error}"
    near = ini.nearest(kind, plugins.names(family))
    return model, "" if model else f"[{name}] kind = {kind}: no such kind of {family}; {near}"


def _apply_environment(sections: ini.Sections, environ: Mapping[str, str]) -> list[str]:
    """Apply ALPHAPIVOT_SECTION__KEY to the sections; in the variable, _ stands for what is not a letter or digit."""
    keys: dict[str, list[tuple[str, str]]] = {}
    for name in [*SINGLE, *(n for n in sections if _family(n))]:
        model, _ = _model(name, sections.get(name, {}))
        for key in {**(ini.keys(model) if model else {}), **sections.get(name, {})}:
            if key not in GIVEN.get(model, ()):
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


def meaningless(environ: Mapping[str, str]) -> list[str]:
    """Warnings for `check`: unknown variables with our prefix, and members of the universe without an instrument."""
    unknown = [
        f"{variable} in the environment is unknown; {ini.nearest(variable, [*VARIABLES, f'{PREFIX}SECTION__KEY'])}"
        for variable in sorted(environ)
        if variable.startswith(PREFIX) and "__" not in variable and variable not in VARIABLES
    ]
    path = _path(None, environ)
    sections, _ = _read_file(path)
    _apply_environment(sections, environ)
    absent = sorted({*_members(sections, path, [])} - {n.partition(".")[2] for n in sections})
    if absent:
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        listed = f"{'symbol has' if len(absent) == 1 else 'symbols have'} no [instrument.*]"
        file = sections["universe"]["members"]
        unknown.append(
            f"[universe] members = {file}: {len(absent)} {listed} and never trade: {', '.join(absent[:SHOWN])}{more}; "
            "a backtest without them knows who survived"
        )
    return unknown


def _usual_feeds(sections: ini.Sections) -> dict[str, str]:
    """symbol -> the feeds that the config names for it."""
    default = sections.get("runtime", {}).get("feed", "")
    names = {name.partition(".")[2]: texts for name, texts in sections.items() if _family(name) == "instrument"}
    return {symbol: texts.get("feed") or default for symbol, texts in names.items()}


def _apply_overrides(sections: ini.Sections, overrides: Mapping[str, str]) -> list[str]:
    mistakes = []
    for place, value in overrides.items():
        section, _, key = place.rpartition(".")
        if section in SINGLE or section in sections:
            sections.setdefault(section, {})[key] = value
        else:
            mistakes.append(f"{place} = {value}: no such section; {ini.nearest(section, [*SINGLE, *sections])}")
    if "runtime.feed" in overrides:
        for name, texts in sections.items():
            if _family(name) == "instrument":
                texts.pop("feed", None)
    return mistakes


def _apply_rules(valid: dict[str, BaseModel], sections: ini.Sections, mistakes: list[str]) -> None:
    """Wrap each pillar that has rules in ``Ruled``."""
    rules: dict[str, dict[str, BaseModel]] = {}
    for section in [name for name in valid if _family(name) == "rule"]:
        _, pillar, name = section.split(".", 2)
        configured = [other.removeprefix("pillar.") for other in sections if _family(other) == "pillar"]
        if pillar not in configured:
            near = ini.nearest(pillar, configured)
            mistakes.append(f"[{section}] is a rule of {pillar}, but there is no [pillar.{pillar}]; {near}")
        elif (model := valid.get(f"pillar.{pillar}")) is not None:
            try:
                Ruled(pillar=model, rules={name: valid[section]})
            except ValidationError as error:
                mistakes += [f"[{section}] {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
            else:
                rules.setdefault(pillar, {})[name] = valid[section]
    for pillar, pillar_rules in rules.items():
        valid[f"pillar.{pillar}"] = Ruled(pillar=valid[f"pillar.{pillar}"], rules=pillar_rules)


def _load_plugins(sections: ini.Sections, environ: Mapping[str, str], path: Path) -> list[str]:
    """Import the user's own pillars and feeds before their sections are read; makes their folder absolute."""
    section = sections.get("plugins", {})
    folder = environ.get(f"{PREFIX}PLUGINS__FOLDER", section.get("folder"))
    if folder:
        folder = str((path.parent / Path(folder).expanduser()).resolve())
        sections["plugins"] = section | {"folder": folder}
    try:
        plugins.load(
            Path(folder) if folder else None,
            [n.removeprefix("pillar.") for n in sections if n[:7] == "pillar."],
            [texts.get("kind", "") for n, texts in sections.items() if n[:5] == "feed."],
        )
    except ConfigError as error:
        return [str(error)]
    return []
