"""Which code is running: hashes over its sources, which also change with uncommitted edits."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from alphapivot.home import CHECKOUT
from pillars.rules import syntax

# Everything between stored bars and composites, as whole packages, so that no list of files can fall behind. An edit
# there that changes no score costs one run that scores the same values again.
COMPOSITES = (
    "alphapivot/calendar",
    "alphapivot/data",
    "alphapivot/hub/bulk",
    "alphapivot/hub/tables",
    "alphapivot/scoring",
)
SIGNALS = (*COMPOSITES, "pillars")
EVERYTHING = ("alphapivot", "flows", "pillars", "sql", "tasks")
CHECK_PILLARS = ("pillars/kit/contract.py", "pillars/kit/sample.py")  # not part of scoring
LIBRARIES = ("TA-Lib", "numba", "numpy")  # another version may differ in the last bit


@cache
def code_version() -> str:
    """Twelve hex digits over all Python and SQL files that a run may execute, byte for byte."""
    digest = hashlib.sha256()
    for path in _files(*EVERYTHING):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(CHECKOUT).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


@cache
def pillar_code() -> str:
    """Twelve hex digits over the code from bars to signals: when they change, signals are computed again."""
    return _meaning(*SIGNALS)


@cache
def composite_code() -> str:
    """Twelve hex digits over the code that blends signals: when they change, composites are computed again."""
    return _meaning(*COMPOSITES)


def _meaning(*rooms: str) -> str:
    """Hash of the syntax trees: comments, docstrings and line breaks change no score and so do not change the hash."""
    digest = hashlib.sha256()
    for path in _files(*rooms):
        name = path.relative_to(CHECKOUT).as_posix()
        if name not in CHECK_PILLARS:
            digest.update(f"{name}\n{_as_text(_without_docstrings(syntax.parse(path.read_bytes())))}\n".encode())
    for library in LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    return digest.hexdigest()[:12]


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
    """All Python and SQL files below ``rooms``, sorted."""
    yield from sorted(path for room in rooms for path in (CHECKOUT / room).rglob("*") if path.suffix in {".py", ".sql"})
