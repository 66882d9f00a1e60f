"""``alphapivot config``: what is configured, where each value comes from, and what differs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, Add, action

if TYPE_CHECKING:
    from alphapivot.config.origin import Value

COLUMN = 40  # where comments begin


def add(command: Add) -> None:
    sub = command("config", _config, "show the configuration: each value with its origin, and what differs")
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = action(actions, "show", "print what is set, with the file's line or the variable that sets it")
    show.add_argument("section", metavar="SECTION", nargs="?", help="only this section, such as risk or pillar.trend")
    show.add_argument("--all", action="store_true", help="defaults too, each with its meaning: a whole config file")
    diff = action(actions, "diff", "print what differs from the defaults, or from another file")
    diff.add_argument("file", metavar="FILE", nargs="?", help="the other config file; default: the defaults")
    diff.add_argument("second", metavar="FILE", nargs="?", help="compare FILE with this one instead of --config")


def _config(options: argparse.Namespace) -> int:
    return _show(options) if options.action == "show" else _diff(options)


def _show(options: argparse.Namespace) -> int:
    from alphapivot.config.ini import nearest
    from alphapivot.errors import ConfigError
    from alphapivot.reports.terminal import layout

    values = _values(options.config, options.feed)
    sections = dict.fromkeys(value.section for value in values)
    if options.section is not None and options.section not in sections:
        raise ConfigError(f"there is no [{options.section}]; {nearest(options.section, sections)}")
    values = [v for v in values if options.section in (None, v.section)]
    if layout.machine():
        _table([v for v in values if options.all or v.set], "Configuration")
        return DONE
    for section, keys in groupby(values, key=lambda value: value.section):
        lines = [_line(value, explained=options.all) for value in keys if options.all or value.set]
        if lines or section.startswith("pillar."):  # a pillar is scored though none of its parameters is set
            print("\n".join([f"[{section}]", *lines, ""]))  # noqa: T201
    return DONE


def _diff(options: argparse.Namespace) -> int:
    from alphapivot import home
    from alphapivot.reports.terminal import terminal

    if options.file is None:
        _table([v for v in _values(options.config, options.feed) if v.differs and v.set], "What differs from defaults")
        return DONE
    names = [options.file, options.second] if options.second else [options.config, options.file]
    left, right = ({(v.section, v.key): v for v in _values(name, options.feed)} for name in names)
    rows = [
        {"section": place[0], "key": place[1], "here": _said(left, place), "there": _said(right, place)}
        for place in dict.fromkeys([*left, *right])
        if (place in left and place in right and not left[place].means(right[place]))
        or ((place in left) != (place in right) and (left.get(place) or right[place]).set)
    ]
    import pandas as pd

    here, there = (Path(name).name if name else home.config().name for name in names)
    if here == there:
        here, there = (str(Path(name).absolute()) if name else str(home.config()) for name in names)
    table = pd.DataFrame(rows, columns=["section", "key", "here", "there"])
    terminal.show(table.rename(columns={"here": here, "there": there}), f"What differs between {here} and {there}")
    return DONE


def _values(config: str | None, feed: str | None) -> list[Value]:
    """Every value of a config; ConfigError if it cannot be used."""
    from alphapivot.config import origin, read

    changes = {"runtime.feed": feed} if feed else {}
    path = Path(config).expanduser().absolute() if config else None
    return list(origin.values(read.reading(path, overrides=changes), options=dict.fromkeys(changes, "--feed")))


def _line(value: Value, *, explained: bool) -> str:
    text = f"{value.key} = {value.text}" if value.text or value.set else f"# {value.key} ="
    source = value.source if value.text or value.set else "off"
    return f"{text:<{COLUMN - 1}} ; {source}{f': {value.meaning}' if explained and value.meaning else ''}"


def _said(values: Mapping[tuple[str, str], Value], place: tuple[str, str]) -> str:
    return values[place].text or "off" if place in values else "–"


def _table(values: Iterable[Value], title: str) -> None:
    import pandas as pd

    from alphapivot.reports.terminal import terminal

    rows = [(v.section, v.key, v.text, v.source, "–" if v.default is None else v.default or "off") for v in values]
    terminal.show(pd.DataFrame(rows, columns=["section", "key", "value", "from", "default"]), title)
