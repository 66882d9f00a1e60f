"""
The next step of an open trade: pure rules over completed bars, each switched on or off in [exit].

With a missing or stale score only the stop may move; a stop only ever moves towards the price.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from alphapivot.brokers.events import EXACT
from alphapivot.execution.decide import trailing
from alphapivot.execution.decide.facts import Action, OpenTrade, Quote, Score, SessionMoment
from alphapivot.money import to_level, to_tick

if TYPE_CHECKING:
    from alphapivot.config.sections.trading import EntrySettings, ExecutionSettings, ExitSettings


SCALE_OUT = "scale_out"
SMALLER = "target_smaller"
PARTS = (SCALE_OUT, SMALLER)  # reasons of exits that leave a part


@dataclass(frozen=True)
class LifecycleStep:
    """What to do with a trade, the reasons, the new stop price if it moves, and the quantity of an ADD or a REDUCE."""

    action: Action
    reasons: tuple[str, ...]
    stop: Decimal | None = None
    qty: Decimal | None = None


def manage(
    trade: OpenTrade,
    score: Score | None,
    quote: Quote | None,
    *,
    front: str,
    tick: Decimal,
    lot: Decimal,
    moment: SessionMoment | None,
    listed: bool = True,
    execution: ExecutionSettings,
    entry: EntrySettings,
    exits: ExitSettings,
) -> LifecycleStep:
    """
    Returns the step of the first rule that applies: an exit is already working; the instrument's listing ends (not
    ``listed``: at most one bar is left); the contract has rolled and the trade
    does not roll; the entry has waited too long; the session ends; the trade has reached its maximum age; a fresh veto;
    a fresh reversal; the contract has rolled and the trade rolls with it. Otherwise a part may leave and the stop may
    move; otherwise hold.
    """
    if trade.exiting:
        return LifecycleStep("HOLD", ("exit_working",))
    exit_rules = {
        "not_listed": not listed,
        "contract_rolled": trade.contract != front and not (exits.roll and trade.state == "OPEN"),
        "entry_expired": trade.state == "PENDING" and trade.age > patience(execution, entry),
        # the exit fills at the open of the session's last bar
        "session_end": exits.session_end and moment is not None and moment.bars_left <= 1,
        "time_stop": exits.max_bars is not None and trade.state == "OPEN" and trade.held >= exits.max_bars,
    }
    reason = next((name for name, applies in exit_rules.items() if applies), None)
    action, reasons = ("EXIT", (reason,)) if reason is not None else _by_score(trade, score, execution, exits)
    if action == "HOLD" and trade.contract != front:
        return LifecycleStep("ROLL", ("contract_rolled",))
    if action == "HOLD" and quote is not None and quote.contract == trade.contract:
        fresh = quote.age <= execution.max_score_age
        amendment = better_stop(trade, quote, tick=tick, exits=exits) if fresh else None
        qty = surplus(trade, quote, lot=lot, exits=exits) if fresh else Decimal(0)
        if qty:
            why = (SCALE_OUT,) if amendment is None else (SCALE_OUT, amendment[0])
            return LifecycleStep("REDUCE", why, None if amendment is None else amendment[1], qty)
        if amendment is not None:
            return LifecycleStep("AMEND", (amendment[0],), amendment[1])
    return LifecycleStep(action, reasons)


def surplus(trade: OpenTrade, quote: Quote, *, lot: Decimal, exits: ExitSettings) -> Decimal:
    """
    What [exit] scale_out takes out of a trade at the last close, in whole lots: the quantity beyond the share that may
    stay after this gain, whatever has left before and why. 0 if there is none.
    """
    if trade.state != "OPEN" or trade.coming or trade.distance is None or trade.first_qty is None:
        return Decimal(0)
    gain = (quote.close - trade.price) * (1 if trade.side == "LONG" else -1)
    share = max((out for r, out in exits.scales if gain >= r * trade.distance), default=Decimal(0))
    if not share:
        return share
    beyond = (trade.qty - trade.first_qty * (1 - share)).quantize(EXACT)  # after a split ratios are floats
    return max(to_tick(beyond, lot, ROUND_FLOOR), Decimal(0))


def patience(execution: ExecutionSettings, entry: EntrySettings) -> int:
    """The number of completed bars that an entry may wait to fill."""
    return max(1, execution.max_score_age) if entry.timeout is None else entry.timeout


def _by_score(
    trade: OpenTrade, score: Score | None, execution: ExecutionSettings, exits: ExitSettings
) -> tuple[Action, tuple[str, ...]]:
    """EXIT on a veto or a reversal, as configured; otherwise HOLD. Positions follow their targets, which reverse."""
    if score is None or score.raw is None:
        return "HOLD", ("already_open", "score_missing")
    if score.age > execution.max_score_age:
        return "HOLD", ("already_open", "score_stale")
    if exits.on_veto and score.veto is not None:
        return "EXIT", (f"veto:{score.veto}",)
    against = -score.raw if trade.side == "LONG" else score.raw
    reversed_ = execution.form == "trades" and exits.on_reversal and against > execution.exit_threshold
    return ("EXIT", ("reversal",)) if reversed_ else ("HOLD", ("already_open",))


def better_stop(trade: OpenTrade, quote: Quote, *, tick: Decimal, exits: ExitSettings) -> tuple[str, Decimal] | None:
    """
    Returns (reason, the new price) if the completed bars allow a stop nearer to the price than the working one;
    otherwise None. The reason: ``break_even``, or one of ``trailing.REASONS``.

    Break-even: once the gain reaches ``break_even`` times the initial stop distance, the stop moves to the entry price.
    Trailing: see ``trailing``. Both are rounded to the tick towards the price, and stay short of it.
    """
    if trade.state != "OPEN" or trade.stop is None:
        return None
    up = 1 if trade.side == "LONG" else -1
    rounding = ROUND_CEILING if up == 1 else ROUND_FLOOR
    candidates: dict[str, Decimal] = {}
    if exits.break_even is not None and trade.distance is not None:
        gain = (quote.close - trade.price) * up
        if gain >= exits.break_even * trade.distance:
            candidates["break_even"] = to_level(trade.price, tick, rounding)
    follows = trailing.trailed(trade, quote, exits)
    if follows is not None:
        candidates[trailing.REASONS[exits.trail]] = to_level(follows, tick, rounding)
    stop = trade.stop
    nearer = {
        name: price
        for name, price in candidates.items()
        if stop * up < price * up < quote.close * up and (trade.target is None or price * up < trade.target * up)
    }
    return max(nearer.items(), key=lambda item: item[1] * up) if nearer else None
