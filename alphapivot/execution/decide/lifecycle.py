"""
What becomes of an open trade: pure rules over completed bars, each off or on in [exit].

A missing or stale score moves nothing but the stop; a stop only ever moves towards the price.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from alphapivot.execution.decide.facts import Action, OpenTrade, Quote, Score, SessionMoment
from alphapivot.money import to_tick

if TYPE_CHECKING:
    from alphapivot.config.sections.trading import EntrySettings, ExecutionSettings, ExitSettings


@dataclass(frozen=True)
class LifecycleStep:
    """What to do with a trade, why, and, where its stop moves, to which price."""

    action: Action
    reasons: tuple[str, ...]
    stop: Decimal | None = None


def manage(
    trade: OpenTrade,
    score: Score | None,
    quote: Quote | None,
    *,
    front: str,
    tick: Decimal,
    moment: SessionMoment | None,
    execution: ExecutionSettings,
    entry: EntrySettings,
    exits: ExitSettings,
) -> LifecycleStep:
    """
    The first of these that holds: an exit works already; the contract has rolled and trades do not; the entry waited
    too long; the session ends; the trade is too old; a fresh veto; a fresh reversal; the contract has rolled and the
    trade goes on in the next one. Else the stop may move; else hold.
    """
    if trade.exiting:
        return LifecycleStep("HOLD", ("exit_working",))
    ends = {
        "contract_rolled": trade.contract != front and not (exits.roll and trade.state == "OPEN"),
        "entry_expired": trade.state == "PENDING" and trade.age > patience(execution, entry),
        # filled at the open of the session's last bar
        "session_end": exits.session_end and moment is not None and moment.bars_left <= 1,
        "time_stop": exits.max_bars is not None and trade.state == "OPEN" and trade.held >= exits.max_bars,
    }
    why = next((name for name, holds in ends.items() if holds), None)
    action, reasons = ("EXIT", (why,)) if why is not None else _told(trade, score, execution, exits)
    if action == "HOLD" and trade.contract != front:
        return LifecycleStep("ROLL", ("contract_rolled",))
    if action == "HOLD" and quote is not None and quote.contract == trade.contract:
        found = better_stop(trade, quote, tick=tick, exits=exits) if quote.age <= execution.max_score_age else None
        if found is not None:
            return LifecycleStep("AMEND", (found[0],), found[1])
    return LifecycleStep(action, reasons)


def patience(execution: ExecutionSettings, entry: EntrySettings) -> int:
    """For how many completed bars an entry may wait to fill."""
    return max(1, execution.max_score_age) if entry.timeout is None else entry.timeout


def _told(
    trade: OpenTrade, score: Score | None, execution: ExecutionSettings, exits: ExitSettings
) -> tuple[Action, tuple[str, ...]]:
    """What the score says of a trade."""
    if score is None or score.raw is None:
        return "HOLD", ("already_open", "score_missing")
    if score.age > execution.max_score_age:
        return "HOLD", ("already_open", "score_stale")
    if exits.on_veto and score.veto is not None:
        return "EXIT", (f"veto:{score.veto}",)
    against = -score.raw if trade.side == "LONG" else score.raw
    reversed_ = exits.on_reversal and against > execution.exit_threshold
    return ("EXIT", ("reversal",)) if reversed_ else ("HOLD", ("already_open",))


def better_stop(trade: OpenTrade, quote: Quote, *, tick: Decimal, exits: ExitSettings) -> tuple[str, Decimal] | None:
    """
    (break_even or trailing_stop, the new price) where a completed close allows one that is nearer to the price than
    the stop that works; None where it does not.

    Break-even: from a gain of ``break_even`` times the first stop's distance on, the stop stands at the entry price.
    Trailing: it stands ``trail_atr`` times the Average True Range behind the close. Both on the tick, towards the
    price, and never at or beyond it.
    """
    if trade.state != "OPEN" or trade.stop is None:
        return None
    up = 1 if trade.side == "LONG" else -1
    rounding = ROUND_CEILING if up == 1 else ROUND_FLOOR
    wanted: dict[str, Decimal] = {}
    if exits.break_even is not None and trade.distance is not None:
        gain = (quote.close - trade.price) * up
        if gain >= exits.break_even * trade.distance:
            wanted["break_even"] = to_tick(trade.price, tick, rounding)
    if exits.trail_atr is not None and quote.atr is not None and quote.atr > 0:
        wanted["trailing_stop"] = to_tick(quote.close - up * exits.trail_atr * quote.atr, tick, rounding)
    stop = trade.stop
    nearer = {
        name: price
        for name, price in wanted.items()
        if stop * up < price * up < quote.close * up and (trade.target is None or price * up < trade.target * up)
    }
    return max(nearer.items(), key=lambda item: item[1] * up) if nearer else None
