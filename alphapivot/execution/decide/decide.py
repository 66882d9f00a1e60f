"""
What to do with every instrument at one as_of: pure, total, in a fixed order, each answer with its reasons.

A missing score is no score: it neither opens nor closes. A veto or a closed gate blocks entries and closes nothing,
unless [exit] on_veto says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from alphapivot.execution.decide.facts import (
    Action,
    ControlState,
    Decision,
    Gate,
    Moment,
    OpenTrade,
    Quote,
    Score,
    Standing,
)
from alphapivot.execution.decide.round import Round, Rules

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.execution.decide.facts import Plan

__all__ = [
    "Action",
    "ControlState",
    "Decision",
    "Gate",
    "Moment",
    "OpenTrade",
    "Quote",
    "Rules",
    "Score",
    "Standing",
    "ask_again",
    "decide",
]


def decide(
    instruments: Mapping[str, Instrument],
    scores: Mapping[str, Score],
    quotes: Mapping[str, Quote],
    trades: Mapping[str, OpenTrade],
    standing: Standing,
    *,
    rules: Rules,
    fronts: Mapping[str, str],
    fx: Mapping[str, Decimal],
    now: datetime,
    moments: Mapping[str, Moment] | None = None,
    only: Collection[str] | None = None,
    leaving: Collection[OpenTrade] = (),
    spreads: Mapping[str, Decimal] | None = None,
) -> list[Decision]:
    """
    One Decision for every instrument (of ``only``), the strongest absolute score first, then by symbol; limits
    are used up in that order.

    ``scores``, ``quotes``, ``trades``: by symbol. ``fronts``: symbol -> the contract to trade now (empty for spot and
    a continuous ticker). ``fx``: currency -> book currency for one unit of it. ``moments``: symbol -> where its session
    stands; entry windows and the session's end are asked only of those. ``instruments`` that have a trade but are not
    given are left out: the caller refuses to start. ``leaving``: trades that a roll left behind, open beside the
    ones that follow them. ``spreads``: symbol -> by how much stop and target of its trade shift at a roll. Exposure and
    free funds count pending entries and those decided here.
    """
    book = Round(
        instruments,
        scores,
        quotes,
        trades,
        standing,
        rules,
        fronts,
        fx,
        moments or {},
        now,
        leaving=leaving,
        spreads=spreads or {},
    )
    return [book.decide(symbol) for symbol in _strongest(instruments if only is None else only, scores)]


def ask_again(
    entries: Mapping[str, Plan],
    instruments: Mapping[str, Instrument],
    scores: Mapping[str, Score],
    quotes: Mapping[str, Quote],
    trades: Mapping[str, OpenTrade],
    standing: Standing,
    *,
    rules: Rules,
    fronts: Mapping[str, str],
    fx: Mapping[str, Decimal],
    now: datetime,
    moments: Mapping[str, Moment],
    leaving: Collection[OpenTrade] = (),
) -> dict[str, tuple[str, ...]]:
    """
    symbol -> the reasons of the gates that say no to an entry decided before and not sent yet, the strongest score
    first; each uses up the limits for those after it. The other arguments as for ``decide``.
    """
    others = {symbol: trade for symbol, trade in trades.items() if symbol not in entries}
    book = Round(instruments, scores, quotes, others, standing, rules, fronts, fx, moments, now, leaving=leaving)
    return {symbol: book.again(symbol, entries[symbol]) for symbol in _strongest(entries, scores)}


def _strongest(symbols: Collection[str], scores: Mapping[str, Score]) -> list[str]:
    """By absolute score, then by name."""
    strength = {s: abs(scores[s].score or 0.0) if s in scores else 0.0 for s in symbols}
    return sorted(symbols, key=lambda s: (-strength[s], s))
