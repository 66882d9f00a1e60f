"""Where the program keeps its files on disk: ``ALPHAPIVOT_HOME`` and the folders below it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

CHECKOUT = Path(__file__).resolve().parent.parent  # holds our packages: the checkout, or where a wheel is installed


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


def config(environ: Mapping[str, str] = os.environ) -> Path:
    """The config file: ``ALPHAPIVOT_CONFIG``, or config.ini in the checkout; without one, in the working folder."""
    usual = (CHECKOUT if is_checkout() else Path.cwd()) / "config.ini"
    return Path(environ.get("ALPHAPIVOT_CONFIG") or usual).expanduser().absolute()


def choose_config() -> None:
    """A project's own config: config.ini in the working folder is the one of this process and those that it starts."""
    here = Path("config.ini").absolute()
    if not os.environ.get("ALPHAPIVOT_CONFIG") and here.is_file() and here != CHECKOUT / "config.ini":
        os.environ["ALPHAPIVOT_CONFIG"] = str(here)


def shipped(name: str) -> Path:
    """sql, prefect.yaml or a config of ours: the checkout's, or the copy in the wheel."""
    return CHECKOUT / name if is_checkout() else CHECKOUT / "alphapivot" / "shipped" / name


def is_checkout() -> bool:
    """False in an installed wheel."""
    return (CHECKOUT / "prefect.yaml").is_file()


def _is_root() -> bool:
    return os.geteuid() == 0
