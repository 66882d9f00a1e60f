"""Opens the feed that a section describes; ``alphapivot.config.sections.feeds`` lists the kinds."""

from __future__ import annotations

import os
import pkgutil
from typing import TYPE_CHECKING

from alphapivot.config.sections.feeds import LoginFeed
from alphapivot.feeds.checked import Checked
from alphapivot.venues import logins

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from alphapivot.config.sections.feeds import FeedSection
    from alphapivot.config.settings import Settings
    from alphapivot.feeds.base import Feed


def open_feed(name: str, section: FeedSection) -> Feed:
    """The feed of [feed.NAME], by the class that its section's kind names; each of its answers is checked."""
    return Checked(pkgutil.resolve_name(section.opens)(name, section))


def logged_out(settings: Settings, name: str, opens: datetime, environ: Mapping[str, str] = os.environ) -> str:
    """What is wrong with the login to [feed.NAME], for the open at ``opens``, and what to do; empty: nothing."""
    section = settings.feeds[name]
    return logins.missing(section.logins, settings, opens, environ) if isinstance(section, LoginFeed) else ""
