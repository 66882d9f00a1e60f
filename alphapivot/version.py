"""Which code is running: a hash over its sources, so that it also tells edits that were never committed."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def code_version() -> str:
    """Twelve hex digits over everything that a run executes, Python and SQL."""
    return _digest("alphapivot/**/*.py", "flows/**/*.py", "tasks/**/*.py", "pillars/**/*.py", "sql/**/*.sql")


@cache
def pillar_code() -> str:
    """Twelve hex digits over the pillars alone: when it changes, their signals are computed anew."""
    return _digest("pillars/**/*.py")


@cache
def composite_code() -> str:
    """Twelve hex digits over what blends signals: when it changes, composites are made anew."""
    return _digest("alphapivot/composite.py", "alphapivot/calibration.py")


def _digest(*patterns: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]
