"""The files that a ticker names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alphapivot.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def version(path: Path) -> tuple[int, int, int]:
    """What changes whenever the file does."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size


def name_of(path: Path) -> str:
    """A file's name without its suffixes: ESH24 of ESH24.csv.gz."""
    known: tuple[str, ...] = (".csv", ".txt", ".tsv", ".parquet", ".json", ".jsonl", ".dbn")
    known += (".gz", ".zip", ".bz2", ".xz", ".zst", ".tar")
    name = path.name
    while name.lower().endswith(known):
        name = name[: name.rindex(".")]
    return name


def paths_of(root: Path, files: str) -> list[Path]:
    """The files that a path or glob names, sorted. Raises DataError for an invalid path or glob below ``root``."""
    try:
        return sorted(path for path in root.glob(files.strip()) if path.is_file() and not path.name.startswith("."))
    except (OSError, ValueError, NotImplementedError, IndexError) as error:
        raise DataError(f"{files!r} is not a path or glob below {root}: {error}") from error
