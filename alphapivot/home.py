"""Where everything that the program keeps is on disk: ``ALPHAPIVOT_HOME``, and the folders below it."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CHECKOUT = Path(__file__).resolve().parent.parent  # sql/, config.ini and prefect.yaml stand here


def home() -> Path:
    """``ALPHAPIVOT_HOME``; by default the user's data folder, and /var/lib/alphapivot for root."""
    if chosen := os.environ.get("ALPHAPIVOT_HOME"):
        return Path(chosen).expanduser().absolute()
    if _is_root():
        return Path("/var/lib/alphapivot")  # root's own home is closed to the unprivileged user that runs the server
    return Path(platformdirs.user_data_dir("alphapivot", appauthor=False))


def postgres() -> Path:
    """The embedded server: its data, password, log, and (for root) a copy of its binaries."""
    return home() / "postgres"


def prefect() -> Path:
    """Prefect's home."""
    return home() / "prefect"


def private(folder: Path) -> Path:
    """The folder, made if needed, closed to everyone but its owner."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def cache() -> Path:
    """What can be made again: compiled functions, the feeds' caches."""
    return home() / "cache"


def config() -> Path:
    """The config file: ``ALPHAPIVOT_CONFIG``, or config.ini in the checkout."""
    return Path(os.environ.get("ALPHAPIVOT_CONFIG") or CHECKOUT / "config.ini").expanduser().absolute()


def _is_root() -> bool:
    return os.geteuid() == 0
