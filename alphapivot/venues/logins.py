"""Whether a login is missing, as the function that a section's ``logins`` names says."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

from alphapivot.errors import ConfigError, TradingHalted, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from alphapivot.config.settings import Settings


def missing(logins: str, settings: Settings, opens: datetime, environ: Mapping[str, str]) -> str:
    """What is wrong with a login, for the open at ``opens``, and what to do; empty: nothing."""
    try:
        pkgutil.resolve_name(logins)(settings, opens, environ)
    except (ConfigError, TradingHalted, Unavailable) as error:
        return str(error)
    return ""
