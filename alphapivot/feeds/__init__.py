"""The feeds by kind: the registry is this dict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alphapivot.feeds.base import RAW, Feed, Fetched, Limit, Problem, Request
from alphapivot.feeds.files import Files
from alphapivot.feeds.simulated import Simulated
from alphapivot.feeds.yahoo import Yahoo

if TYPE_CHECKING:
    from collections.abc import Callable

FEEDS: dict[str, Callable[[str, Any], Feed]] = {"files": Files, "simulated": Simulated, "yahoo": Yahoo}
__all__ = ["FEEDS", "RAW", "Feed", "Fetched", "Limit", "Problem", "Request", "open_feed"]


def open_feed(name: str, section: Any) -> Feed:
    """The feed that [feed.NAME] describes; ``section`` is its settings, whose ``kind`` is a key of FEEDS."""
    return FEEDS[section.kind](name, section)
