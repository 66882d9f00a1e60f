"""The equity curve as SVG in a data URI, which Prefect's UI and every browser show without a library."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import date
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 880, 300, 90, 44, 16, 34
LINE, FAINT, INK, LOSS = "#2f9e6e", "#8884", "#888", "#d9534f"  # readable on light and dark


def equity(days: Sequence[date], earned: Sequence[float], drawdown: Sequence[float], currency: str) -> str:
    """
    Profit by day as a line, drawdown as an area below zero, as SVG.

    ``earned``: profit since the first day in ``currency``, without deposits; ``drawdown``: 0 or negative, the same
    unit. All of equal length, at least one day.
    """
    low, high = min(0.0, *earned, *drawdown), max(0.0, *earned)
    span = (high - low) or 1.0
    low, high = low - 0.06 * span, high + 0.06 * span

    def x(index: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * index / max(len(days) - 1, 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    def path(values: Sequence[float]) -> str:
        return " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(values))

    marks = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="{FAINT}"/>'
        f'<text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:+,.0f}</text>'
        for v in _ticks(low, high)
    ]
    places = sorted({round(k * (len(days) - 1) / 4) for k in range(5)})
    marks += [f'<text x="{x(i):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{days[i]}</text>' for i in places]
    zero = y(0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' font-family="sans-serif" font-size="12" fill="{INK}">'
        f"<title>Profit and drawdown, {escape(currency)}</title>{''.join(marks)}"
        f'<polygon points="{x(0):.1f},{zero:.1f} {path(drawdown)} {x(len(days) - 1):.1f},{zero:.1f}"'
        f' fill="{LOSS}" fill-opacity="0.25"/>'
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{zero:.1f}" y2="{zero:.1f}" stroke="{INK}"/>'
        f'<polyline points="{path(earned)}" fill="none" stroke="{LINE}" stroke-width="2.5"/>'
        f'<circle cx="{x(len(days) - 1):.1f}" cy="{y(earned[-1]):.1f}" r="4" fill="{LINE}"/></svg>'
    )


def data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers between the two."""
    raw = (high - low) / 6
    magnitude = 10.0 ** (len(str(int(raw))) - 1 if raw >= 1 else 0)
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw)
    first = -(-low // step)
    return [step * (first + k) for k in range(int((high - first * step) // step) + 1)]
