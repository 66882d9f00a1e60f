"""A table made to fit the width that there is: what says nothing goes first, then what can be spared."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

GAP = 2  # between columns
# wrapped at words; all else stays on one line
PROSE = frozenset({"reasons", "reason", "message", "detail", "how", "asks"})
FEW = 2
PROSE_WIDTH = 24  # that prose wants at least


def fit(view: pd.DataFrame, width: int, spare: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """
    The columns of a table of text that fit into ``width`` characters, and the names of those left out although they
    say something: of ``spare``, the first first, then from the right. Columns without a word (blank, or dashes alone)
    go before those; the first column, which names the row, and the next FEW stay: they can be wrapped.
    """
    hidden: list[str] = []
    if needed(view) > width:
        view = view.drop(columns=[c for c in view.columns if set(view[c]) <= {"", "–"}])
    for name in [*spare, *reversed([c for c in view.columns[1 + FEW :] if c not in spare])]:
        if needed(view) > width and name in view:
            view = view.drop(columns=name)
            hidden.append(name)
    return view, hidden


def needed(view: pd.DataFrame) -> int:
    """Characters of the widest line; a heading may be broken at its spaces, and prose be wrapped."""
    return sum(_width(name, view[name]) for name in view.columns) + GAP * max(len(view.columns) - 1, 0)


def _width(name: str, cells: pd.Series) -> int:
    widest = int(cells.str.len().max()) if len(cells) else 0
    heading = max(map(len, name.split()), default=0)
    return max(heading, min(widest, PROSE_WIDTH) if name in PROSE else widest)
