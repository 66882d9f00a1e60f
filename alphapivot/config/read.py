"""
Reads config.ini: syntax, overrides from the environment, each section by its model, then consistency between sections.

Everything is checked before anything is raised: one ConfigError lists all mistakes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ValidationError

import pillars
from alphapivot import home
from alphapivot.config import ini, plugins, universe
from alphapivot.config import overrides as apply
from alphapivot.config.checks import check
from alphapivot.config.grammar import NO_DEFAULT, SINGLE, family, missing, model_of, nearest_section, not_keys
from alphapivot.config.overrides import PREFIX, VARIABLES
from alphapivot.config.sections import instrument, legs, runtime, scoring
from alphapivot.config.sections.brokers import ChargedBroker
from alphapivot.config.sections.calendar import CalendarSection
from alphapivot.config.sections.feeds import FeedSection
from alphapivot.config.sections.fees import FeeTable
from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError
from pillars.rules.rules import Ruled

SHOWN = 5  # symbols that a warning names


@dataclass(frozen=True)
class Reading:
    """A config file: its sections as written, with all overrides, and validated."""

    path: Path
    written: ini.Sections
    sections: ini.Sections
    valid: Mapping[str, BaseModel]
    settings: Settings


def load(
    path: Path | None = None, environ: Mapping[str, str] = os.environ, overrides: Mapping[str, str] = {}
) -> Settings:
    """
    config.ini, overridden by ALPHAPIVOT_SECTION__KEY variables, then by ``overrides`` such as
    {"runtime.feed": "simulated"}.

    Default path: ``home.config()``. An override of
    ``runtime.feed`` applies to every instrument, even one with its own feed. Raises one ConfigError with all mistakes.
    """
    return reading(path, environ, overrides).settings


def reading(
    path: Path | None = None, environ: Mapping[str, str] = os.environ, overrides: Mapping[str, str] = {}
) -> Reading:
    """``load``, with the texts that the settings come from."""
    path = _path(path, environ)
    sections, mistakes = _read_file(path)
    written = {name: dict(texts) for name, texts in sections.items()}
    mistakes += [
        f"[{name}] is not a section; {nearest_section(name)}"
        for name in sections
        if name not in SINGLE and not family(name)
    ]
    blended = _blended(sections, environ, overrides)
    mistakes += _load_plugins(sections, environ, path, blended)
    for name in blended & pillars.PILLARS.keys():
        sections.setdefault(f"pillar.{name}", {})
    mistakes += apply.environment(sections, {k: v for k, v in environ.items() if k != f"{PREFIX}PLUGINS__FOLDER"})
    usual = apply.usual_feeds(sections) if "runtime.feed" in overrides else {}
    mistakes += apply.options(sections, overrides)
    for name in SINGLE.keys() - NO_DEFAULT:
        sections.setdefault(name, {})
    valid = _validated(sections, _members(sections, path, mistakes), usual, mistakes)
    mistakes += missing(sections)
    _apply_rules(valid, sections, mistakes)
    mistakes += check(valid, sections)
    if mistakes:
        _refuse(path, mistakes)

    def named(first: str) -> dict[str, Any]:
        values = {name.partition(".")[2]: section for name, section in valid.items() if family(name) == first}
        return {n: v.below(path.parent) if isinstance(v, FeedSection) else v for n, v in values.items()}

    runtime_ = cast("runtime.Runtime", valid["runtime"])
    settings = Settings(
        **{name: section for name, section in valid.items() if name in SINGLE and name != "universe"},
        feeds=named("feed") | legs.feed(valid, runtime_.feed),
        instruments=named("instrument"),
        calendars=named("calendar"),
        brokers=named("broker"),
        pillars=named("pillar"),
    )
    return Reading(path, written, sections, valid, settings)


def _blended(sections: ini.Sections, environ: Mapping[str, str], overrides: Mapping[str, str]) -> set[str]:
    """The pillars that [composite] weighs or lets gate: they need no section of their own."""
    keys = ("weights", "gates")
    texts = {key: text for key, text in sections.get("composite", {}).items() if key in keys}
    variables = {name.upper(): value for name, value in environ.items()}
    for key in keys:
        texts |= {key: variables[v]} if (v := f"{PREFIX}COMPOSITE__{key.upper()}") in variables else {}
        texts |= {key: overrides[place]} if (place := f"composite.{key}") in overrides else {}
    names = {name for text in texts.values() for name in re.findall(r"([\w-]+)\s*:", text)}
    return names if "weights" in texts else names | {*scoring.WEIGHTS, *scoring.GATES}


def _validated(
    sections: ini.Sections, members: universe.Spans, usual: Mapping[str, str], mistakes: list[str]
) -> dict[str, BaseModel]:
    """The sections that their models accept; calendars and fees first, since others name them."""
    valid: dict[str, BaseModel] = {}
    calendars: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    grouped = {n: t["group"] for n, t in sections.items() if family(n) == "instrument" and "group" in t}
    groups = {name.partition(".")[2]: group for name, group in grouped.items()}
    for name, texts in sorted(sections.items(), key=lambda item: _place(*item)):
        model, reason = model_of(name, texts)
        if model is None:
            mistakes += [reason] if reason else []
            continue
        given: dict[str, Any] = {}
        if model is instrument.Instrument:
            symbol = name.partition(".")[2]
            given = {"symbol": symbol, "timetable": calendars.get(texts.get("calendar", ""))}
            given |= {"members": members.get(symbol, {}), "usual": usual.get(symbol, "")}
        if issubclass(model, ChargedBroker):
            given = {"tables": tables}
        if "groups" in not_keys(model):
            given = {"groups": groups}
        of_legs = legs.given(name, sections, valid, mistakes)
        if of_legs is None:
            continue
        if (section := ini.validate(model, name, texts, given | of_legs, mistakes)) is not None:
            valid[name] = section
            if isinstance(section, CalendarSection):
                calendars[name.partition(".")[2]] = section
            if isinstance(section, FeeTable):
                tables[name.partition(".")[2]] = section
    return valid


def _place(name: str, texts: Mapping[str, str]) -> int:
    """The order in which sections are read: those that others name come first."""
    return 0 if name.startswith(("calendar.", "fees.")) else 2 if legs.is_spread(name, texts) else 1


def database(environ: Mapping[str, str] = os.environ) -> runtime.Database:
    """[database] alone, so that the hub can be reached even if the rest of the file is wrong."""
    path = _path(None, environ)
    sections, mistakes = _read_file(path)
    sections = {name: texts for name, texts in sections.items() if name == "database"}
    mistakes += apply.environment(
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
    symbols = {other.removeprefix("instrument.") for other in sections if family(other) == "instrument"}
    if spans and not symbols & set(spans):
        wrong.append(f"[universe] members: {name} names none of the instruments, but {', '.join(sorted(spans)[:5])}")
    mistakes += wrong
    return spans


def _path(path: Path | None, environ: Mapping[str, str]) -> Path:
    return Path(path or home.config(environ))


def _refuse(path: Path, mistakes: list[str]) -> NoReturn:
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    raise ConfigError(ini.masked("\n  ".join([f"{shown} cannot be used:", *mistakes]))) from None


def _read_file(path: Path) -> tuple[ini.Sections, list[str]]:
    """The file's sections and mistakes; a password in it is a mistake even if the environment overrides it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        _refuse(path, ["no such file; `alphapivot init DIR` makes one, --config or ALPHAPIVOT_CONFIG names one"])
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


def meaningless(environ: Mapping[str, str]) -> list[str]:
    """Warnings for `check`: unknown variables with our prefix, and members of the universe without an instrument."""
    unknown = [
        f"{variable} in the environment is unknown; {ini.nearest(variable, [*VARIABLES, f'{PREFIX}SECTION__KEY'])}"
        for variable in sorted(environ)
        if variable.startswith(PREFIX) and "__" not in variable and variable not in VARIABLES
    ]
    path = _path(None, environ)
    sections, _ = _read_file(path)
    apply.environment(sections, environ)
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


def _apply_rules(valid: dict[str, BaseModel], sections: ini.Sections, mistakes: list[str]) -> None:
    """Wrap each pillar that has rules in ``Ruled``."""
    rules: dict[str, dict[str, BaseModel]] = {}
    for section in [name for name in valid if family(name) == "rule"]:
        _, pillar, name = section.split(".", 2)
        configured = [other.removeprefix("pillar.") for other in sections if family(other) == "pillar"]
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


def _load_plugins(
    sections: ini.Sections, environ: Mapping[str, str], path: Path, blended: Collection[str]
) -> list[str]:
    """Import the user's own pillars and feeds before their sections are read; makes their folder absolute."""
    section = sections.get("plugins", {})
    folder = environ.get(f"{PREFIX}PLUGINS__FOLDER", section.get("folder"))
    if folder:
        folder = str((path.parent / Path(folder).expanduser()).resolve())
        sections["plugins"] = section | {"folder": folder}
    try:
        plugins.load(
            Path(folder) if folder else None,
            [*(n.removeprefix("pillar.") for n in sections if n[:7] == "pillar."), *blended],
            [texts.get("kind", "") for n, texts in sections.items() if n[:5] == "feed."],
        )
    except ConfigError as error:
        return [str(error)]
    return []
