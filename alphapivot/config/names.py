"""
The names in config.ini, and the characters that they may contain.

They become parts of artifact keys, tags, file names, environment variables, comma-separated lists and a broker's order
ids: a name that would break one of these later is rejected when the file is read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}"), "letters a-z, digits, - and _, beginning with a letter or digit"
SYMBOL = (
    re.compile(r"[A-Za-z0-9^][A-Za-z0-9.^=/&_+-]{0,39}"),
    "letters a-z, digits and . ^ = / & _ + -, beginning with a letter, digit or ^",
)
GROUP = (
    re.compile(r"\w[\w .,&/()+'-]{0,39}"),
    "letters, digits, spaces and . , & / ( ) + ' _ -, beginning with a letter, digit or _",
)
FAMILIES = dict.fromkeys(("calendar", "feed", "fees", "broker", "pillar", "rule"), PLAIN) | {"instrument": SYMBOL}
BACKTEST = "bt-"  # prefix of backtest books, whose losses raise no alert


def wrong(name: str, kind: tuple[re.Pattern[str], str] = PLAIN) -> str:
    """What is wrong with ``name``, as the end of a message; empty if it is valid."""
    allowed, words = kind
    if allowed.fullmatch(name):
        return ""
    odd = sorted({repr(c) for c in name if not allowed.fullmatch(f"a{c}")})
    got = f"got {', '.join(odd)}; " if odd else ""
    return f"{got}expected at most 40 characters: {words}"


def mistakes(valid: Mapping[str, Any], present: Collection[str]) -> Iterator[str]:
    """Invalid names of sections ``present``, and of the books, strategies and groups in the ``valid`` ones."""
    for section in present:
        family, _, name = section.partition(".")
        for part in name.split(".") if family == "rule" else [name]:
            if family in FAMILIES and (reason := wrong(part, FAMILIES[family])):
                yield f"[{section}] has an invalid name: {reason}"
    if (execution := valid.get("execution")) is not None:
        for key in ("book", "strategy"):
            if reason := wrong(getattr(execution, key)):
                yield f"[execution] {key} = {getattr(execution, key)}: {reason}"
        if execution.book.startswith(BACKTEST):
            yield f"[execution] book = {execution.book}: {BACKTEST} is reserved for backtests; choose another name"
    for section, model in valid.items():
        if section.startswith("instrument.") and model.group and (reason := wrong(model.group, GROUP)):
            yield f"[{section}] group = {model.group}: {reason}"
