"""
Decides what to do with every instrument at one as_of: pure, in a fixed order. [execution] form says how: by trades
whose size stays (``round``), or by positions that follow their scores (``positions``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from decimal import Decimal

from alphapivot.execution.decide.facts import Decision, Facts, OpenTrade, Plan, Score
from alphapivot.execution.decide.positions import PositionRound
from alphapivot.execution.decide.round import DecisionRound

ROUNDS = {"trades": DecisionRound, "positions": PositionRound}


def decide(facts: Facts, only: Collection[str] | None = None) -> list[Decision]:
    """
    Returns one Decision per instrument (of ``only``), strongest absolute score first, then by symbol; limits are used
    up in that order. Exposure and free funds include pending entries and those decided here.
    """
    book = _round(facts)
    return [book.decide(symbol) for symbol in _strongest(facts.instruments if only is None else only, facts.scores)]


def recheck(facts: Facts, entries: Mapping[str, Plan]) -> dict[str, tuple[str, ...]]:
    """
    Checks entries that were decided earlier and not sent yet against every gate again, strongest score first; each one
    that passes uses up limits for the next. Returns symbol -> the reasons of the gates that deny it (empty: it passes).
    """
    trades = {symbol: _without(trade) if symbol in entries else trade for symbol, trade in facts.trades.items()}
    book = _round(replace(facts, trades={symbol: trade for symbol, trade in trades.items() if trade is not None}))
    return {symbol: book.recheck(symbol, entries[symbol]) for symbol in _strongest(entries, facts.scores)}


def _round(facts: Facts) -> DecisionRound:
    return ROUNDS[facts.rules.execution.form](facts)


def _without(trade: OpenTrade) -> OpenTrade | None:
    """The trade without what its waiting entry may fill; None if that is all of it."""
    return None if trade.state == "PENDING" else replace(trade, coming=Decimal(0))


def _strongest(symbols: Collection[str], scores: Mapping[str, Score]) -> list[str]:
    """Sorted by absolute score, then by name."""
    strength = {s: abs(scores[s].score or 0.0) if s in scores else 0.0 for s in symbols}
    return sorted(symbols, key=lambda s: (-strength[s], s))
