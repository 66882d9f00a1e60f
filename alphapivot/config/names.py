"""
The names that config.ini gives, and what they may be made of.

They go on into artifact keys, tags, file names, environment variables, lists in one text and a broker's order ids: what
breaks one of these late is refused at once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}"), "letters a-z, digits, - and _"
SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.^=/&_+-]{0,39}"), "letters a-z, digits and . ^ = / & _ + -"
GROUP = re.compile(r"\w[\w .,&/()+'-]{0,39}"), "letters, digits, spaces and . , & / ( ) + ' _ -"
FAMILIES = {"feed": PLAIN, "broker": PLAIN, "pillar": PLAIN, "rule": PLAIN, "instrument": SYMBOL}
BACKTEST = "bt-"  # whose losses alert no one


def wrong(name: str, kind: tuple[re.Pattern[str], str] = PLAIN) -> str:
    """What is wrong with ``name``, as the end of a sentence; empty: nothing."""
    allowed, words = kind
    if allowed.fullmatch(name):
        return ""
    odd = sorted({repr(c) for c in name if not allowed.fullmatch(f"a{c}")})
    found = f"got {', '.join(odd)}; " if odd else ""
    return f"{found}a name is made of {words}, begins with one of the first of these, and has at most 40 of them"


def mistakes(valid: Mapping[str, Any], present: Collection[str]) -> Iterator[str]:
    """Of the sections ``present``, and of the books, strategies and groups that those in ``valid`` name."""
    for section in present:
        family, _, name = section.partition(".")
        for part in name.split(".") if family == "rule" else [name]:
            if family in FAMILIES and (why := wrong(part, FAMILIES[family])):
                yield f"[{section}] cannot be called so: {why}"
    if (execution := valid.get("execution")) is not None:
        for key in ("book", "strategy"):
            if why := wrong(getattr(execution, key)):
                yield f"[execution] {key} = {getattr(execution, key)}: {why}"
        if execution.book.startswith(BACKTEST):
            yield f"[execution] book = {execution.book}: {BACKTEST} begins the names of backtests; give another"
    for section, model in valid.items():
        if section.startswith("instrument.") and model.group and (why := wrong(model.group, GROUP)):
            yield f"[{section}] group = {model.group}: {why}"
