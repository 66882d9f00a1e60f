"""Fits a table to the terminal's width: drops empty columns first, then the dispensable ones."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

GAP = 2  # between columns
# wrapped at words; all other columns stay on one line
PROSE = frozenset({"reasons", "reason", "message", "detail", "how", "asks"})
FEW = 2
PROSE_WIDTH = 24  # minimum for prose


def fit(view: pd.DataFrame, width: int, spare: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """
    (the table without the columns that do not fit into ``width`` characters, the names of the non-empty ones dropped).

    Empty columns (blank or dashes only) go first, then those of ``spare`` in order, then from the right. The first
    column, which names the row, and the next FEW stay: they can wrap.
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
    """The width of the widest line in characters; headings may break at spaces, and prose may wrap."""
    return sum(_width(name, view[name]) for name in view.columns) + GAP * max(len(view.columns) - 1, 0)


def _width(name: str, cells: pd.Series) -> int:
    widest = int(cells.str.len().max()) if len(cells) else 0
    heading = max(map(len, name.split()), default=0)
    return max(heading, min(widest, PROSE_WIDTH) if name in PROSE else widest)
