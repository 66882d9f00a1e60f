"""
A user's own pillars, feeds and brokers: entry points of installed packages; pillars and feeds also files in a folder.

They join the registry before config.ini is validated and follow the same contract as the built-in ones (`alphapivot
pillars test FILE`). All files of their packages are hashed with the scoring code: an edited pillar is scored again. A
name that is built in is refused.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pillars
from alphapivot.config import own_feeds
from alphapivot.config.sections.base import Section
from alphapivot.config.sections.brokers import BROKERS, BrokerSection
from alphapivot.config.sections.feeds import FEEDS, FeedSection, LegsFeed
from alphapivot.config.sections.instrument import LEGS
from alphapivot.errors import ConfigError

GROUP = "alphapivot.pillars"
KINDS: dict[str, tuple[str, dict[str, Any], type[Section]]] = {  # family -> entry point group, registry, base class
    "feed": ("alphapivot.feeds", FEEDS, FeedSection),
    "broker": ("alphapivot.brokers", BROKERS, BrokerSection),
}
BUILT_IN = {"pillar": frozenset(pillars.PILLARS)} | {
    family: frozenset(kinds) for family, (_, kinds, _) in KINDS.items()
}
STEPS = {"backfill", "composite", "ingest", "manage", "pillar", "rerun", "trade"}  # progress is stored by name

_digests: dict[str, str] = {}  # plug-in in the registry -> digest of its source
_imported: dict[type, str] = {}  # class -> digest of its source when it was imported: what this process executes
_files: dict[Path, tuple[str, ModuleType]] = {}  # file -> its digest and module
_loading = threading.RLock()  # tasks of one process restore their settings at the same time


def load(folder: Path | None, names: Iterable[str], feeds: Iterable[str] = ()) -> None:
    """
    Register the pillars of every file in ``folder``, and those of ``names`` that installed packages offer; and import
    the files there that the ``feeds``, kinds such as my_feed:MyFeed, name.

    Other plug-ins leave the registry. Raises ConfigError, with the line, for a file that cannot be imported, and for a
    name that is taken.
    """
    with _loading:
        found: dict[str, type[pillars.Pillar]] = {}
        stems = {kind.partition(":")[0] for kind in feeds if ":" in kind}
        modules = {stem: path for stem in stems if folder and (path := folder / f"{stem}.py").is_file()}
        own_feeds.modules = {stem: _module(path)[1] for stem, path in modules.items()}
        for path in _sources(folder):
            for kind in _pillars(path) if path in modules.values() else read(path)[1]:
                _add(found, kind, str(path))
        missing = {name for name in names if name not in found}
        for point in _points(GROUP):
            if point.name in missing:
                _refuse_built_in("pillar", point)
                _add(found, _of_entry_point(point), f"entry point {point.value}")
        digests = {name: _imported[kind] for name, kind in found.items()}
        for name in _digests.keys() - found:
            del pillars.PILLARS[name], _digests[name]
        pillars.PILLARS.update(found)  # what stays is never absent: other threads read the registry meanwhile
        _digests.update(digests)


def digest(name: str) -> str | None:
    """The digest of a plug-in's source; None for a built-in pillar."""
    return _digests.get(name)


def kinds(family: str, kind: str) -> type[Section] | None:
    """
    The section model of ``family`` (feed or broker) and ``kind``: built-in, an installed package's, or that of a class
    such as my_feed:MyFeed.

    None for an unknown kind. Raises ConfigError for an entry point that cannot be loaded or has another type.
    """
    group, registry, base = KINDS[family]
    with _loading:
        if family == "feed" and ":" in kind:
            return own_feeds.section(kind)
        if family == "feed" and kind == LEGS:  # in stored settings: config.ini names no such feed
            return LegsFeed
        for point in [p for p in _points(group) if p.name == kind]:
            _refuse_built_in(family, point)
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
    return sorted({*registry, *(point.name for point in _points(group))})


def read(path: Path) -> tuple[str, list[type[pillars.Pillar]]]:
    """The digest of a file and the pillars that it defines. Raises ConfigError if it has none."""
    kinds = _pillars(path)
    if not kinds:
        raise ConfigError(
            f"{path} defines no pillar; expected a subclass of pillars.base.Pillar with name, history and parts"
        )
    return _module(path)[0], kinds


def _pillars(path: Path) -> list[type[pillars.Pillar]]:
    module = _module(path)[1]
    kinds = [k for k in vars(module).values() if _is_pillar(k) and k.__module__ == module.__name__]
    _imported.update({kind: _digest(kind) for kind in kinds if kind not in _imported})
    return kinds


def _module(path: Path) -> tuple[str, ModuleType]:
    """The digest of a file and what it is imported as; again only when its content changes."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    now = hashlib.sha256(source).hexdigest()[:12]
    if path in _files and _files[path][0] == now:
        return _files[path]
    name = f"alphapivot_plugin_{path.stem}_{now}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file; expected something like my_pillar.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks annotations up there
    try:  # not by its loader, which takes bytecode of another text that was as long and of the same second
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102
    except Exception as error:
        del sys.modules[name]
        reason = f"{type(error).__name__}: {error}"
        if "non-annotated attribute" in reason:  # pydantic's message refers to its own documentation
            reason = (
                f"{str(error).split('. ')[0]}; expected a parameter with its type, such as fast: int = 10, or, for a"
                " constant, a property or fixed: ClassVar[int] = 10"
            )
        raise ConfigError(f"{path}{_line(error, path)} cannot be imported: {reason}") from error
    _files[path] = now, module
    return _files[path]


def _sources(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise ConfigError(f"[plugins] folder = {folder} is not a folder")
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith(("_", "test_")))


@lru_cache(maxsize=8)
def _entry_points(group: str, _path: tuple[str, ...]) -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=group)


def _points(group: str) -> importlib.metadata.EntryPoints:
    """The entry points of all installed packages; cached, since each step asks and looking takes 15 ms."""
    return _entry_points(group, tuple(sys.path))


def _refuse_built_in(family: str, point: importlib.metadata.EntryPoint) -> None:
    if point.name in BUILT_IN[family]:
        package = f"package {point.dist.name}" if point.dist else "an installed package"
        raise ConfigError(
            f"{package} offers a {family} named {point.name} (entry point {point.value}), which is built in; expected"
            " another name: rename it there, or uninstall the package"
        )


def _of_entry_point(point: importlib.metadata.EntryPoint) -> type[pillars.Pillar]:
    kind = _load(point, GROUP)
    if not _is_pillar(kind):
        raise ConfigError(
            f"entry point {point.value} of {GROUP} is {kind!r}; expected a subclass of pillars.base.Pillar"
        )
    _imported.setdefault(kind, _digest(kind, point.dist))
    return kind  # type: ignore[no-any-return]


def _load(point: importlib.metadata.EntryPoint, group: str) -> Any:
    try:
        return point.load()
    except Exception as error:
        raise ConfigError(f"entry point {point.value} of {group} cannot be loaded: {error}") from error


def _add(found: dict[str, type[pillars.Pillar]], kind: type[pillars.Pillar], origin: str) -> None:
    name = getattr(kind, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(
            f"{origin}: {kind.__name__} has name = {name!r}; expected a word such as {kind.__name__.lower()!r}"
        )
    if name in STEPS:
        raise ConfigError(
            f"{origin}: the name {name} of {kind.__name__} is a step of the pipeline; expected another one"
        )
    if name in BUILT_IN["pillar"] or found.get(name, kind) is not kind:
        taken = found.get(name) or pillars.PILLARS[name]
        raise ConfigError(f"{origin}: the name {name} of {kind.__name__} is taken by {taken.__module__}")
    found[name] = kind


def _is_pillar(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, pillars.Pillar) and not inspect.isabstract(kind)


def _digest(kind: type, distribution: importlib.metadata.Distribution | None = None) -> str:
    """
    The digest of all files that a pillar's code may come from, its data files too: the whole package of its class and
    of each class that it inherits from, and all that was installed with it.
    """
    files: dict[str, Path] = {}
    for module in dict.fromkeys(c.__module__ for c in inspect.getmro(kind)):
        if module.partition(".")[0] not in {"pillars", "pydantic", *sys.stdlib_module_names}:
            files.update(_package(module))
    for file in (distribution and distribution.files) or ():
        if ".dist-info" not in str(file):
            files[file.as_posix()] = Path(str(file.locate()))
    digest = hashlib.sha256()
    for name in sorted(files):
        if files[name].is_file() and "__pycache__" not in name:
            content = files[name].read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _package(module: str) -> Iterator[tuple[str, Path]]:
    """(name, path) of each file of the outermost package around a module; of the module alone if there is none."""
    parts = module.split(".")
    around = [sys.modules.get(".".join(parts[:n])) for n in range(1, len(parts) + 1)]
    outermost = next((m.__file__ for m in around if m is not None and getattr(m, "__file__", None)), None)
    if outermost is None:  # a namespace without a file
        return
    path = Path(outermost)
    for file in path.parent.rglob("*") if path.stem == "__init__" else [path]:
        yield file.relative_to(path.parent.parent).as_posix(), file


def _line(error: BaseException, path: Path) -> str:
    """The line of the error in the file, as part of a message; empty if unknown."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno},"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f", line {lines[-1]}," if lines else ""
