"""
Names of one config's work pool and deployments on a Prefect server that several configs may share.

The checkout's config.ini has the plain names (``alphapivot``, ``pipeline/pipeline``); other files add a suffix
(``alphapivot-demo``, ``pipeline/pipeline-demo``). A worker polls one pool, so it never takes another config's run.
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
    """Empty for the checkout's config.ini; files outside the checkout's top folder get a hash of their path."""
    path = home.config().resolve()
    if path == home.CHECKOUT / "config.ini":
        return ""
    stem = slugify(path.stem if path.stem != "config" else path.parent.name)
    if path.parent == home.CHECKOUT:
        return f"-{stem}"
    return f"-{stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:4]}".replace("--", "-")
