"""
The composite traded in brackets ([execution] form = trades), beside the target positions of ``measure``: same scores,
same prices, same costs.

A trade is entered at a day's close whose score reaches the entry threshold without a veto, with 1 / ATR units, so that
each stop risks the same. It ends at the first close beyond its stop or target, or with a raw score beyond the exit
threshold on the other side, and the next one begins on a later day. The true range of a day that has only a close is
its change; its average is Wilder's (New Concepts in Technical Trading Systems, 1978). As with target positions, no
money, lots or limits: max_open_trades keeps nothing out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot.research.evidence import measure

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.research.evidence.rules import Prices

POSITIONS, BRACKETS = "target positions", "bracket trades"


@dataclass(frozen=True)
class Form:
    """
    The composite traded in one way, on the days that all ways know. ``better``: its net Sharpe ratio less that of
    target positions, and the error.
    """

    name: str
    gross: float
    net: float
    error: float
    turns: float
    better: tuple[float, float]


@dataclass(frozen=True)
class Bracket:
    """The keys of [execution] and [exit] that make a bracket; distances in ATR."""

    entry: float
    exit: float | None  # None: no exit on a reversal
    stop: float
    reward: float | None  # target over stop; None: no target
    trail: float | None  # the stop follows the close at this distance; None: it stays
    atr: int
    shorts: bool

    @classmethod
    def of(cls, settings: Settings) -> Bracket:
        trading, exits = settings.execution, settings.exit
        trails = exits.trail == "close" and exits.trail_atr is not None
        return cls(
            entry=trading.entry_threshold,
            exit=trading.exit_threshold if exits.on_reversal else None,
            stop=float(trading.stop_atr),
            reward=None if trading.reward_to_risk is None else float(trading.reward_to_risk),
            trail=float(exits.trail_atr) if trails and exits.trail_atr is not None else None,
            atr=trading.atr,
            shorts=trading.allow_shorts,
        )

    def without_target(self) -> Bracket:
        return replace(self, reward=None)


def held(
    score: pd.DataFrame, raw: pd.DataFrame, vetoed: pd.DataFrame, prices: Prices, bracket: Bracket
) -> pd.DataFrame:
    """
    Units held from each day's close on, by day and market; NaN before the first ATR. ``vetoed``: True where a veto
    stands.
    """
    ranges = prices.moved().abs().ewm(alpha=1 / bracket.atr, min_periods=bracket.atr).mean().ffill()
    close, scores, raws = (frame.to_numpy(float) for frame in (prices.close, score, raw))
    atr, barred = ranges.to_numpy(float), vetoed.to_numpy(bool)
    side, units, stop, target = (np.zeros(close.shape[1]) for _ in range(4))
    out = np.empty(close.shape)
    for day, (now, said, range_) in enumerate(zip(close, scores, atr, strict=True)):
        known, flat = ~np.isnan(now), side == 0
        left = (now - stop) * side <= 0
        if bracket.reward is not None:
            left |= (now - target) * side >= 0
        if bracket.exit is not None:
            left |= -raws[day] * side > bracket.exit
        side = np.where(known & ~flat & left, 0.0, side)
        if bracket.trail is not None:
            follows = known & (side != 0) & ((now - side * bracket.trail * range_ - stop) * side > 0)
            stop = np.where(follows, now - side * bracket.trail * range_, stop)
        wanted = np.where(said >= bracket.entry, 1.0, np.where((said <= -bracket.entry) & bracket.shorts, -1.0, 0.0))
        enters = known & flat & (wanted != 0) & ~barred[day] & (range_ > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            side, units = np.where(enters, wanted, side), np.where(enters, 1 / range_, units)
        stop = np.where(enters, now - side * bracket.stop * range_, stop)
        if bracket.reward is not None:
            target = np.where(enters, now + side * bracket.reward * bracket.stop * range_, target)
        out[day] = np.where(np.isnan(range_), np.nan, side * units)
    return pd.DataFrame(out, prices.close.index, prices.close.columns)


def forms(
    positions: measure.Account,
    score: pd.DataFrame,
    raw: pd.DataFrame,
    vetoed: pd.DataFrame,
    prices: Prices,
    rolled: pd.DataFrame,
    bracket: Bracket,
) -> list[Form]:
    """The composite as target ``positions``, in brackets as configured, and in those without a target."""
    accounts = {POSITIONS: positions}
    for name, way in {BRACKETS: bracket, f"{BRACKETS}, no target": bracket.without_target()}.items():
        if name == BRACKETS or way != bracket:
            accounts[name] = measure.results(held(score, raw, vetoed, prices, way), prices, rolled)
    days = functools.reduce(pd.Index.intersection, (account.net.index for account in accounts.values()))
    return [
        Form(
            name,
            measure.sharpe(account.gross[days])[0],
            *measure.sharpe(account.net[days]),
            account.turns,
            (np.nan, np.nan) if name == POSITIONS else measure.difference(account.net, positions.net),
        )
        for name, account in accounts.items()
    ]
