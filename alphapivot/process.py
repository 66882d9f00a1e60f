"""
What this process works on: one config file, one database. Set at the front door (command line, flow), found by every
task.
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
    Reads the settings and makes their file and database this process's. ``changes``: section.key -> another value.

    A simulated market gets a database of its own on the embedded server: its prices must never stand among real ones.
    """
    if config := config or os.environ.get("ALPHAPIVOT_CONFIG"):  # absolute: a worker has another working directory
        os.environ["ALPHAPIVOT_CONFIG"] = str(Path(config).expanduser().resolve())
    loaded = read.load(overrides={**(changes or {}), **({"runtime.feed": feed} if feed else {})})
    if os.environ.get("ALPHAPIVOT_DATABASE__NAME") == SIMULATED and "name" in loaded.database.model_fields_set:
        del os.environ["ALPHAPIVOT_DATABASE__NAME"]  # set by an earlier call in this process
        return configure(config, feed, changes)
    simulated = loaded.feeds[loaded.runtime.feed].simulated
    if simulated and loaded.database.url is None and "name" not in loaded.database.model_fields_set:
        os.environ["ALPHAPIVOT_DATABASE__NAME"] = SIMULATED
    return loaded
