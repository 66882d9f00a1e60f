"""Opens the feed that a section describes; ``alphapivot.config.sections.feeds`` lists the kinds."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

from alphapivot.feeds.checked import Checked

if TYPE_CHECKING:
    from alphapivot.config.sections.feeds import FeedSection
    from alphapivot.feeds.base import Feed


def open_feed(name: str, section: FeedSection) -> Feed:
    """The feed of [feed.NAME], by the class that its section's kind names; each of its answers is checked."""
    return Checked(pkgutil.resolve_name(section.opens)(name, section))
