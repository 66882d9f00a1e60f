"""Which code is running: hashes over its sources, so that they also tell edits that were never committed."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pillars import syntax

ROOT = Path(__file__).parents[1]
# From stored bars to signals: the pillars, and what chooses, joins and adjusts the bars that they see. What makes the
# stored bars (ingestion, resampling, the decision of rolls) is not here: it speaks through them.
SCORING = (
    *("pillars/**/*.py", "alphapivot/scoring.py", "alphapivot/actions.py", "alphapivot/beside.py"),
    *("alphapivot/rolls.py", "alphapivot/hub/bars.py", "alphapivot/hub/read.py"),
)
# From signals to composites: also which bar is due when.
BLENDING = (
    *("alphapivot/scoring.py", "alphapivot/grid.py", "alphapivot/composite.py", "alphapivot/calibration.py"),
    *("alphapivot/calendars.py", "alphapivot/schedule.py", "alphapivot/hours.py", "alphapivot/hub/calibrations.py"),
    *("alphapivot/hub/bars.py", "alphapivot/hub/read.py"),
)
SAYS_NOTHING = ("pillars/contract.py", "pillars/sample.py")  # they check pillars and make no score
LIBRARIES = ("TA-Lib", "numba", "numpy")  # another version may differ in the last bit


@cache
def code_version() -> str:
    """Twelve hex digits over everything that a run executes, Python and SQL, to the last character."""
    digest = hashlib.sha256()
    for path in _files("alphapivot/**/*.py", "flows/**/*.py", "tasks/**/*.py", "pillars/**/*.py", "sql/**/*.sql"):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


@cache
def pillar_code() -> str:
    """Twelve hex digits over what makes signals of bars: when they change, signals are made anew."""
    return _meaning(*SCORING)


@cache
def composite_code() -> str:
    """Twelve hex digits over what blends signals: when they change, composites are made anew."""
    return _meaning(*BLENDING)


def _meaning(*patterns: str) -> str:
    """Of the code alone: a comment, a docstring or another line break changes no score, and so no digit of it."""
    digest = hashlib.sha256()
    for path in _files(*patterns):
        name = path.relative_to(ROOT).as_posix()
        if name not in SAYS_NOTHING:
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


def _files(*patterns: str) -> Iterator[Path]:
    yield from sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
