"""Price files of one's own as sections of a new config: what the sniffer finds, without what is a default."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from alphapivot.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from alphapivot.feeds.sniff.sniffed import Sniffed

TERMS = ("currency", "calendar")  # what no file shows, and a price cannot be traded without
DEFAULTS = {"quote_unit": "1", "multiplier": "1", "lot": "1", "margin": "1"}


def sections(files: Iterable[Path], folder: Path, currency: str | None, calendar: str | None) -> list[str]:
    """
    The sections of the feeds and instruments. Without ``currency`` and ``calendar`` they are guesses, and nothing is
    tradable until someone confirms them.
    """
    from alphapivot.feeds.sniff.sniff import sniff

    feeds: dict[str, dict[str, str]] = {}
    instruments: dict[str, str] = {}
    for file in files:
        try:
            found = sniff(file)
        except DataError as error:
            raise ConfigError(f"{file}: {error}") from None
        if found.fetched is None or not len(found.fetched.bars):
            raise ConfigError(f"{file}: no bar can be read; `alphapivot data sniff {file}` says why")
        if found.symbol in instruments:
            raise ConfigError(f"{file}: a second file of {found.symbol}; expected one file for each instrument")
        keys = found.feed | {"root": _below(found.feed["root"], folder)}
        name = next((name for name, other in feeds.items() if other == keys), f"files{len(feeds) + 1 if feeds else ''}")
        feeds[name] = keys
        instruments[found.symbol] = _instrument(found, name, currency, calendar)
    return [_section(f"feed.{name}", keys) for name, keys in feeds.items()] + list(instruments.values())


def _below(root: str, folder: Path) -> str:
    """A price folder within the project as the config may name it: relative, so that the project can move."""
    relative = os.path.relpath(root, folder)
    return root if relative.startswith("..") else relative


def _instrument(found: Sniffed, feed: str, currency: str | None, calendar: str | None) -> str:
    market = found.instrument["signal_market"]
    keys = {k: v for k, v in found.instrument.items() if k not in ("signal_market", "trade_market", "tradable")}
    if market == "spot":
        keys = {key: value for key, value in keys.items() if DEFAULTS.get(key) != value}
    keys |= {key: value for key, value in zip(TERMS, (currency, calendar), strict=True) if value is not None}
    guessed = [key for key, value in zip(TERMS, (currency, calendar), strict=True) if value is None]
    if market == "futures":
        guessed += ["quote_unit", "multiplier", "margin"]
    if feed != "files":
        keys = {"feed": feed} | keys
    text = _section(f"instrument.{found.symbol}", keys)
    if guessed:
        text += f"tradable = no           ; {', '.join(guessed)}: guesses; correct them, then take this line out\n"
    return text


def _section(name: str, keys: dict[str, str]) -> str:
    return "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in keys.items()), ""])
