"""
The config file and the database of this process: set where it starts (command line, flow), read by every task.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from alphapivot.config import read, settings

SIMULATED = "alphapivot_simulated"


def configure(
    config: str | Path | None = None, feed: str | None = None, changes: Mapping[str, str] | None = None
) -> settings.Settings:
    """
    Load the settings, and make their file and database this process's. ``changes``: section.key -> value to override.

    A simulated market gets its own database on the embedded server: its prices must never mix with real ones.
    """
    if config := config or os.environ.get("ALPHAPIVOT_CONFIG"):  # absolute: a worker's working directory differs
        os.environ["ALPHAPIVOT_CONFIG"] = str(Path(config).expanduser().resolve())
    loaded = read.load(overrides={**(changes or {}), **({"runtime.feed": feed} if feed else {})})
    if os.environ.get("ALPHAPIVOT_DATABASE__NAME") == SIMULATED and "name" in loaded.database.model_fields_set:
        del os.environ["ALPHAPIVOT_DATABASE__NAME"]  # set by an earlier call in this process
        return configure(config, feed, changes)
    simulated = loaded.feeds[loaded.runtime.feed].simulated
    if simulated and loaded.database.url is None and "name" not in loaded.database.model_fields_set:
        os.environ["ALPHAPIVOT_DATABASE__NAME"] = SIMULATED
    return loaded
