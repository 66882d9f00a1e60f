"""Where the program keeps its files on disk: ``ALPHAPIVOT_HOME`` and the folders below it."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CHECKOUT = Path(__file__).resolve().parent.parent  # holds sql/, config.ini and prefect.yaml


def home() -> Path:
    """``ALPHAPIVOT_HOME``; default: the user's data folder, or /var/lib/alphapivot for root."""
    if chosen := os.environ.get("ALPHAPIVOT_HOME"):
        return Path(chosen).expanduser().absolute()
    if _is_root():
        return Path("/var/lib/alphapivot")  # the unprivileged user that runs the server cannot read root's home
    return Path(platformdirs.user_data_dir("alphapivot", appauthor=False))


def postgres() -> Path:
    """Folder of the embedded server: data, password, log, and (for root) a copy of its binaries."""
    return home() / "postgres"


def prefect() -> Path:
    """Prefect's home."""
    return home() / "prefect"


def private(folder: Path) -> Path:
    """``folder``, created if needed, with access for its owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def cache() -> Path:
    """Folder of what can be rebuilt: compiled functions, the feeds' caches."""
    return home() / "cache"


def config() -> Path:
    """The config file: ``ALPHAPIVOT_CONFIG``, or config.ini in the checkout."""
    return Path(os.environ.get("ALPHAPIVOT_CONFIG") or CHECKOUT / "config.ini").expanduser().absolute()


def _is_root() -> bool:
    return os.geteuid() == 0
