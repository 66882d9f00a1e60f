"""
A user's own pillars, feeds and brokers: entry points of installed packages, and for pillars Python files in a folder.

They join the registry before config.ini is validated, follow the same contract as the built-in ones (`alphapivot
pillars test FILE`), and their source is hashed with the scoring code: an edited file is scored again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pillars
from alphapivot.config.sections.base import Section
from alphapivot.config.sections.brokers import BROKERS, BrokerSection
from alphapivot.config.sections.feeds import FEEDS, FeedSection
from alphapivot.errors import ConfigError

GROUP = "alphapivot.pillars"
KINDS: dict[str, tuple[str, dict[str, Any], type[Section]]] = {  # family -> entry point group, registry, base class
    "feed": ("alphapivot.feeds", FEEDS, FeedSection),
    "broker": ("alphapivot.brokers", BROKERS, BrokerSection),
}
_digests: dict[str, str] = {}  # plug-in in the registry -> digest of its source
_files: dict[Path, tuple[str, list[type[pillars.Pillar]]]] = {}  # file -> its digest and pillars
_loading = threading.RLock()  # tasks of one process restore their settings at the same time


def load(folder: Path | None, names: Iterable[str]) -> None:
    """
    Register the pillars of every file in ``folder``, and the entry points of ``names`` that are not registered.

    Plug-ins loaded before leave the registry. Raises ConfigError, with the line, for a file that cannot be imported,
    and for a name that is taken.
    """
    with _loading:
        files = [(path, *read(path)) for path in _sources(folder)]
        for name in [*_digests]:
            del pillars.PILLARS[name], _digests[name]
        for path, digest, kinds in files:
            for kind in kinds:
                _register(kind, digest, str(path))
        missing = {name for name in names if name not in pillars.PILLARS}
        for point in importlib.metadata.entry_points(group=GROUP) if missing else ():
            if point.name in missing:
                kind = _of_entry_point(point)
                _register(kind, _digest(Path(inspect.getfile(kind))), f"entry point {point.value}")


def digest(name: str) -> str | None:
    """The digest of a plug-in's source; None for a built-in pillar."""
    return _digests.get(name)


def kinds(family: str, kind: str) -> type[Section] | None:
    """
    The section model of ``family`` (feed or broker) and ``kind``: built-in, or an installed package's.

    None for an unknown kind. Raises ConfigError for an entry point that cannot be loaded or has another type.
    """
    group, registry, base = KINDS[family]
    with _loading:
        for point in importlib.metadata.entry_points(group=group, name=kind) if kind not in registry else ():
            model = _load(point, group)
            if not (isinstance(model, type) and issubclass(model, base)):
                raise ConfigError(
                    f"entry point {point.value} of {group} is {model!r}; expected a subclass of"
                    f" {base.__module__}.{base.__name__}"
                )
            registry[kind] = model
        return registry.get(kind)


def names(family: str) -> list[str]:
    """What ``kind`` may be in the sections of ``family``, installed packages included."""
    group, registry, _ = KINDS[family]
    return sorted({*registry, *importlib.metadata.entry_points(group=group).names})


def read(path: Path) -> tuple[str, list[type[pillars.Pillar]]]:
    """The digest of a file and the pillars that it defines; imported again only when its content changes."""
    try:
        now = _digest(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if path in _files and _files[path][0] == now:
        return _files[path]
    name = f"alphapivot_plugin_{path.stem}_{now}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file; expected something like my_pillar.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks annotations up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        reason = f"{type(error).__name__}: {error}"
        if "non-annotated attribute" in reason:  # pydantic's message refers to its own documentation
            reason = (
                f"{str(error).split('. ')[0]}; expected a parameter with its type, such as fast: int = 10, or, for a"
                " constant, a property or fixed: ClassVar[int] = 10"
            )
        raise ConfigError(f"{path}{_line(error, path)} cannot be imported: {reason}") from error
    kinds = [k for k in vars(module).values() if _is_pillar(k) and k.__module__ == name]
    if not kinds:
        raise ConfigError(
            f"{path} defines no pillar; expected a subclass of pillars.base.Pillar with name, history and parts"
        )
    _files[path] = now, kinds
    return _files[path]


def _sources(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise ConfigError(f"[plugins] folder = {folder} is not a folder")
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith(("_", "test_")))


def _of_entry_point(point: importlib.metadata.EntryPoint) -> type[pillars.Pillar]:
    kind = _load(point, GROUP)
    if not _is_pillar(kind):
        raise ConfigError(
            f"entry point {point.value} of {GROUP} is {kind!r}; expected a subclass of pillars.base.Pillar"
        )
    return kind  # type: ignore[no-any-return]


def _load(point: importlib.metadata.EntryPoint, group: str) -> Any:
    try:
        return point.load()
    except Exception as error:
        raise ConfigError(f"entry point {point.value} of {group} cannot be loaded: {error}") from error


def _register(kind: type[pillars.Pillar], digest: str, origin: str) -> None:
    name = getattr(kind, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(
            f"{origin}: {kind.__name__} has name = {name!r}; expected a word such as {kind.__name__.lower()!r}"
        )
    if name in pillars.PILLARS:
        raise ConfigError(
            f"{origin}: the name {name} of {kind.__name__} is taken by {pillars.PILLARS[name].__module__}"
        )
    pillars.PILLARS[name] = kind
    _digests[name] = digest


def _is_pillar(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, pillars.Pillar) and not inspect.isabstract(kind)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _line(error: BaseException, path: Path) -> str:
    """The line of the error in the file, as part of a message; empty if unknown."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno},"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f", line {lines[-1]}," if lines else ""
