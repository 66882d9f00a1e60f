"""
A user's own feed, named by its class: [feed.mine] kind = my_feed:MyFeed.

The module is a file in [plugins] folder, which ``alphapivot.config.plugins`` imports, or any installed one. The class
is the feed; its class ``Section``, if it has one, is the model of the keys of its section.
"""

from __future__ import annotations

import importlib
import inspect
from functools import lru_cache
from types import ModuleType
from typing import Any

from alphapivot.config.ini import nearest
from alphapivot.config.sections.feeds import FeedSection
from alphapivot.errors import ConfigError

modules: dict[str, ModuleType] = {}  # the files of [plugins] folder, by their names without .py


def section(kind: str) -> type[FeedSection]:
    """The section model of a kind MODULE:CLASS. Raises ConfigError for a class that is absent or is not a feed."""
    name, _, class_name = kind.partition(":")
    module = modules.get(name) or _installed(name)
    feed = getattr(module, class_name, None)
    if not isinstance(feed, type):
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__]
        raise ConfigError(f"{module.__file__} has no class {class_name!r}; {nearest(class_name, classes)}")
    return _model(feed, f"{module.__name__}:{class_name}", f"{module.__file__}: {class_name}")


def _installed(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and name.startswith(error.name or "?"):
            raise ConfigError(
                f"there is no module {name}: expected {name}.py in the folder that [plugins] folder names, or an"
                " installed package"
            ) from None
        raise ConfigError(f"module {name} cannot be imported: {error}") from error
    except Exception as error:
        raise ConfigError(f"module {name} cannot be imported: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=64)
def _model(feed: Any, opens: str, place: str) -> type[FeedSection]:
    """The section of a class, checked: one model for a class, so that sections of it are equal."""
    if not callable(getattr(feed, "fetch", None)):
        raise ConfigError(f"{place} has no method fetch; expected fetch(self, requests), which returns Fetched")
    if not hasattr(feed, "limits"):
        raise ConfigError(f"{place} has no limits; expected limits = {{}}, or a Limit for each interval")
    for function, given in ((feed.__init__, ("self", "name", "section")), (feed.fetch, ("self", "requests"))):
        try:
            inspect.signature(function).bind(*given)
        except TypeError:
            raise ConfigError(
                f"{place}.{function.__name__} takes {inspect.signature(function)}; expected ({', '.join(given)})"
            ) from None
    keys = getattr(feed, "Section", FeedSection)
    if not (isinstance(keys, type) and issubclass(keys, FeedSection)):
        raise ConfigError(
            f"{place}.Section is {keys!r}; expected a subclass of {FeedSection.__module__}.{FeedSection.__name__}"
        )
    return type(f"{feed.__name__}Section", (keys,), {"opens": opens, "__module__": keys.__module__})
