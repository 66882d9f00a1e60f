"""Which code is running: hashes over its sources, so that they also tell edits that were never committed."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from alphapivot.home import CHECKOUT
from pillars.rules import syntax

# Between stored bars and composites. Whole rooms, so that no list of files can fall behind: an edit in one of them
# that changes no score costs one scoring that finds the same values.
COMPOSITES = (
    "alphapivot/calendar",
    "alphapivot/data",
    "alphapivot/hub/bulk",
    "alphapivot/hub/tables",
    "alphapivot/scoring",
)
SIGNALS = (*COMPOSITES, "pillars")
EVERYTHING = ("alphapivot", "flows", "pillars", "sql", "tasks")
CHECK_PILLARS = ("pillars/kit/contract.py", "pillars/kit/sample.py")  # make no score
LIBRARIES = ("TA-Lib", "numba", "numpy")  # another version may differ in the last bit


@cache
def code_version() -> str:
    """Twelve hex digits over everything that a run executes, Python and SQL, to the last character."""
    digest = hashlib.sha256()
    for path in _files(*EVERYTHING):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(CHECKOUT).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


@cache
def pillar_code() -> str:
    """Twelve hex digits over what makes signals of bars: when they change, signals are made again."""
    return _meaning(*SIGNALS)


@cache
def composite_code() -> str:
    """Twelve hex digits over what blends signals: when they change, composites are made again."""
    return _meaning(*COMPOSITES)


def _meaning(*rooms: str) -> str:
    """Of the code alone: a comment, a docstring or another line break changes no score, and so no digit of it."""
    digest = hashlib.sha256()
    for path in _files(*rooms):
        name = path.relative_to(CHECKOUT).as_posix()
        if name not in CHECK_PILLARS:
            digest.update(f"{name}\n{_told(_without_docstrings(syntax.parse(path.read_bytes())))}\n".encode())
    for library in LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    return digest.hexdigest()[:12]


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def _told(node: object) -> str:
    """A tree as text that no version of Python changes: ast.dump shows fields that are empty, and 3.12 has more."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({', '.join(f'{name}={_told(value)}' for name, value in fields)})"
    return f"[{', '.join(map(_told, node))}]" if isinstance(node, list) else repr(node)


def _files(*rooms: str) -> Iterator[Path]:
    """Every Python and SQL file below ``rooms``, in order."""
    yield from sorted(path for room in rooms for path in (CHECKOUT / room).rglob("*") if path.suffix in {".py", ".sql"})
