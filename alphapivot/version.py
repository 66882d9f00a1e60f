"""Which code is running: hashes over its sources and libraries, which also change with uncommitted edits."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath

from alphapivot import home
from alphapivot.config import plugins
from alphapivot.home import CHECKOUT
from pillars.rules import syntax

# Everything between stored bars and composites, as whole rooms where possible, so that no list of files can fall
# behind. An edit there that changes no score costs one run that scores the same values again.
COMPOSITES = (
    "alphapivot/calendar",
    "alphapivot/config/sections",
    "alphapivot/config/settings.py",
    "alphapivot/data",
    "alphapivot/frames.py",
    "alphapivot/hub/__init__.py",
    "alphapivot/hub/bulk",
    "alphapivot/hub/shared.py",
    "alphapivot/hub/tables",
    "alphapivot/scoring",
    "tasks/composite.py",
)
SIGNALS = (*COMPOSITES, "pillars", "tasks/pillars.py", "tasks/rerun.py")
SQL = "sql"
EVERYTHING = ("alphapivot", "flows", "pillars", SQL, "tasks")
CHECK_PILLARS = ("pillars/kit/contract.py", "pillars/kit/sample.py")  # not part of scoring
# What computes, converts numbers or knows sessions, and what these stand on: another version may move a score.
LIBRARIES = (
    "TA-Lib",
    "adbc-driver-manager",
    "adbc-driver-postgresql",
    "exchange_calendars",
    "korean_lunar_calendar",
    "llvmlite",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
    "pyluach",
    "python-dateutil",
    "tzdata",
)
KEPT = 32  # hashes in the cache folder, of the newest sources
_DIGEST = re.compile("[0-9a-f]{12}")
# how sources become a hash: this file and Python's parser
_OURSELVES = f"{sys.version} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"


def code_version(pillars: Iterable[str] = ()) -> str:
    """
    Twelve hex digits over all that a run may execute: every Python and SQL file byte for byte, the libraries that move
    a score, and the sources of those of ``pillars`` that are plug-ins.
    """
    plug_ins = [f"{name} {digest}" for name in sorted(pillars) if (digest := plugins.digest(name)) is not None]
    return _hash([_all_files(), *plug_ins])


def pillar_code(pillar: str) -> str:
    """Twelve hex digits over the code from bars to a pillar's signals: when they change, it is scored again."""
    return _hash([_meaning(*SIGNALS), str(plugins.digest(pillar))])


def composite_code() -> str:
    """Twelve hex digits over the code that blends signals: when they change, composites are computed again."""
    return _hash([_meaning(*COMPOSITES)])


@cache
def _all_files() -> str:
    return _hash(
        [
            *(f"{_name(path)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in _files(*EVERYTHING)),
            *_libraries(),
        ]
    )


@cache
def _meaning(*rooms: str) -> str:
    """Hash of the syntax trees: comments, docstrings and line breaks change no score and so do not change the hash."""
    sources = {_name(path): path.read_bytes() for path in _files(*rooms) if _name(path) not in CHECK_PILLARS}
    libraries = _libraries()

    def parsed() -> str:
        trees = (f"{name}\n{_as_text(_without_docstrings(syntax.parse(text)))}" for name, text in sources.items())
        return _hash([*trees, *libraries])

    digests = (f"{name} {hashlib.sha256(text).hexdigest()}" for name, text in sources.items())
    return _stored(_hash([_OURSELVES, *digests, *libraries], 64), parsed)


def _stored(key: str, compute: Callable[[], str]) -> str:
    """
    ``compute()``, read from the cache folder if an earlier process has stored it: parsing takes seconds. ``key`` is a
    hash of all that it depends on, so a stored value is never out of date.
    """
    folder = home.cache() / "code"
    with suppress(OSError, ValueError):
        if _DIGEST.fullmatch(stored := (folder / key).read_text()):
            return stored
    value = compute()
    with suppress(OSError):  # a home that cannot be written: the next process parses again
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f"{key}.{os.getpid()}.{threading.get_ident()}"
        fresh.write_text(value)
        fresh.replace(folder / key)
        for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink()
    return value


def _libraries() -> list[str]:
    return [f"{library} {importlib.metadata.version(library)}" for library in LIBRARIES]


def _hash(lines: Iterable[str], digits: int = 12) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()[:digits]


def _name(path: Path) -> str:
    """The same in a checkout and in a wheel."""
    sql = home.shipped(SQL)
    return path.relative_to(sql.parent if path.is_relative_to(sql) else CHECKOUT).as_posix()


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def _as_text(node: object) -> str:
    """A tree as text that is the same on every version of Python: ast.dump shows empty fields, and 3.12 adds some."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({', '.join(f'{name}={_as_text(value)}' for name, value in fields)})"
    return f"[{', '.join(map(_as_text, node))}]" if isinstance(node, list) else repr(node)


def _files(*rooms: str) -> Iterator[Path]:
    """All Python and SQL files below ``rooms``, sorted; a room may be one file."""
    places = (home.shipped(room) if room == SQL else CHECKOUT / room for room in rooms)
    found = (path for place in places for path in (place, *place.rglob("*")))
    sources = {path for path in found if path.suffix in {".py", ".sql"}}  # a wheel has sql/ within alphapivot/
    yield from sorted(sources, key=lambda path: PurePosixPath(_name(path)))
