"""The pieces of the desk's sections, as HTML in which every text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from html import escape
from typing import Any

import pandas as pd

from alphapivot.reports.page import cells
from alphapivot.reports.terminal import views


def card(
    heading: str,
    told: str,
    table: pd.DataFrame,
    last: Sequence[str] | None = None,
    *,
    wide: str | None = None,
    long: bool = False,
) -> str:
    inside = cells.html(table, wide, toned=("score",), long=long, last=last)
    return f'<div class="card"><h2>{escape(heading)}</h2><p>{escape(told)}</p>{inside}</div>'


def button(
    action: str, label: str, effect: str, words: Mapping[str, str] | None = None, *, bad: bool = False, ask: str = ""
) -> str:
    """A button that opens the confirmation of an action. ``words``: of the order; ``ask``: a word to ask for."""
    stored = "".join(f' data-word-{name}="{escape(value)}"' for name, value in (words or {}).items())
    named = f"{label} {words['symbol']}" if words else label
    return (
        f'<button type="button" class="{"bad" if bad else ""}" data-action="{action}" data-named="{escape(named)}"'
        f' data-effect="{escape(effect)}" data-ask="{ask}"{stored}>{label}</button>'
    )


def issue(row: Any) -> dict[str, str]:
    """The words that name a data issue."""
    words = {"symbol": row.symbol, "market": row.market, "interval": row.interval, "check": row.check_name}
    return words | {"at": row.ts.isoformat()}


def bar(levels: Mapping[str, Decimal]) -> str:
    """A line from the stop to the target, or as far as the price went, with entry and last price on it."""
    if "stop" not in levels or "last" not in levels:
        return ""
    far = levels.get(
        "target", max(levels["last"], levels.get("entry", levels["last"]), key=lambda p: abs(p - levels["stop"]))
    )
    whole = far - levels["stop"]
    if not whole:
        return ""
    places = {name: min(max(float((price - levels["stop"]) / whole), 0.0), 1.0) for name, price in levels.items()}
    marks = "".join(
        f'<i class="{name}" style="left:{100 * places[name]:.1f}%"></i>' for name in ("entry", "last") if name in places
    )
    low, high = sorted((places.get("entry", places["last"]), places["last"]))
    tone = "up" if places["last"] >= places.get("entry", places["last"]) else "down"
    gain = f'<u class="{tone}" style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></u>'
    ends = f"<span>stop</span><span>{'target' if 'target' in levels else 'best'}</span>"
    return f'<div class="track">{gain}{marks}</div><div class="ends">{ends}</div>'


def meter(name: str, used: Any, allowed: Any) -> str:
    if used is None:
        return f'<div class="meter"><span>{escape(name)}</span><small>unknown: a rate is missing</small></div>'
    share = min(float(used) / float(allowed), 1.0) if allowed else 0.0
    tone = "full" if share >= 1 else "near" if share >= 0.8 else ""
    limit = f"of {allowed}" if allowed is not None else "no limit"
    fill = f'<div class="fill {tone}"><u style="width:{100 * share:.1f}%"></u></div>' if allowed is not None else ""
    return f'<div class="meter"><span>{escape(name)}</span><small>{used} {limit}</small>{fill}</div>'


def score(row: Any, threshold: float) -> str:
    """One line: a bar from the middle, longer and darker beyond the entry threshold."""
    known = row.score is not None
    score = float(row.score) if known else 0.0
    side = "up" if score >= 0 else "down"
    left, width = (50.0, score / 2) if score >= 0 else (50 + score / 2, -score / 2)
    strong = " strong" if abs(score) >= threshold else ""
    veto = f' <small class="odd">{escape(row.veto)}</small>' if row.veto else ""
    return (
        f'<button type="button" class="score" data-explain="{escape(row.symbol)}">'
        f"<span>{escape(row.symbol)}{veto}</span>"
        f'<span class="scale"><u class="{side}{strong}" style="left:{left:.1f}%;width:{width:.1f}%"></u></span>'
        f'<b class="{side if known else ""}">{views.points(score) if known else "–"}</b>'
        f"<small>{views.instant(row.ts)}</small></button>"
    )


def tone(value: Any) -> str:
    return "" if value is None or pd.isna(value) or not value else "up" if value > 0 else "down"
