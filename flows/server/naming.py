"""
What belongs to one config on a Prefect server that several may share: its work pool and its deployments, by name.

The checkout's config.ini has the plain names (``alphapivot``, ``pipeline/pipeline``); another file adds its own,
``alphapivot-demo`` and ``pipeline/pipeline-demo``. A worker polls one pool, so it never takes another config's run.
"""

from __future__ import annotations

import hashlib

from slugify import slugify  # a dependency of Prefect

from alphapivot import home

POOL = "alphapivot"


def pool() -> str:
    return f"{POOL}{suffix()}"


def deployment(flow: str) -> str:
    """``FLOW/DEPLOYMENT`` of this config."""
    return f"{flow}/{flow}{suffix()}"


def suffix() -> str:
    """Empty for the checkout's config.ini; files outside the checkout's top folder are told apart by their path."""
    path = home.config().resolve()
    if path == home.CHECKOUT / "config.ini":
        return ""
    stem = slugify(path.stem if path.stem != "config" else path.parent.name)
    if path.parent == home.CHECKOUT:
        return f"-{stem}"
    return f"-{stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:4]}".replace("--", "-")
