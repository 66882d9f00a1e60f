"""Mean outcomes by tenth of a score as SVG: one panel of bars per subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import isnan

WIDTH, HEIGHT, COLUMNS = 220, 130, 4  # of a panel; panels per row
MARGIN, TITLE = 12, 20
UP, DOWN, INK, FAINT = "#2f9e6e", "#d9534f", "#888", "#8886"  # readable on light and dark


def panels(subjects: Mapping[str, Sequence[float]], unit: str) -> str:
    """
    ``subjects``: title -> ten values, lowest tenth first, NaN for none; all drawn to one scale, in ``unit``.
    """
    largest = max((abs(v) for values in subjects.values() for v in values if not isnan(v)), default=0.0) or 1.0
    rows = -(-len(subjects) // COLUMNS)
    width, height = WIDTH * min(len(subjects), COLUMNS), HEIGHT * rows
    drawn = [
        _panel(title, values, largest, unit, WIDTH * (i % COLUMNS), HEIGHT * (i // COLUMNS))
        for i, (title, values) in enumerate(subjects.items())
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' font-family="sans-serif" font-size="12" fill="{INK}">{"".join(drawn)}</svg>'
    )


def _panel(title: str, values: Sequence[float], largest: float, unit: str, left: int, top: int) -> str:
    half = (HEIGHT - TITLE - MARGIN) / 2
    zero, step = top + TITLE + half, (WIDTH - 2 * MARGIN) / max(len(values), 1)
    bars = [
        f'<rect x="{left + MARGIN + step * i + 1:.1f}" y="{zero - max(v, 0) / largest * half:.1f}"'
        f' width="{step - 2:.1f}" height="{abs(v) / largest * half:.1f}" fill="{UP if v > 0 else DOWN}">'
        f"<title>tenth {i + 1}: {v:+,.2f} {escape(unit)}</title></rect>"
        for i, v in enumerate(values)
        if not isnan(v)
    ]
    line = f'<line x1="{left + MARGIN}" x2="{left + WIDTH - MARGIN}" y1="{zero:.1f}" y2="{zero:.1f}" stroke="{FAINT}"/>'
    return f'<text x="{left + MARGIN}" y="{top + 14}">{escape(title)}</text>{line}{"".join(bars)}'
