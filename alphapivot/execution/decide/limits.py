"""
Risk limits on entries: of the book, of one order, of exposure, and pauses after losses. Pure; each gate has a reason.

Exposure is in book currency and includes open trades, pending entries and those decided earlier in the same run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from alphapivot.execution.decide.facts import Direction, Gate, Standing

if TYPE_CHECKING:
    from alphapivot.config.sections.trading import ProtectionSettings, RiskSettings
    from alphapivot.execution.decide.facts import Plan

Checked = Iterator[tuple[str, str, Gate]]  # gate name, reason code if it fails, the gate


@dataclass
class Exposure:
    """Running totals of notional: gross, net, by symbol and by group."""

    gross: Decimal = Decimal(0)
    net: Decimal = Decimal(0)  # without unfilled entries and pending exits
    unsure: dict[Direction, Decimal] = field(default_factory=lambda: {"LONG": Decimal(0), "SHORT": Decimal(0)})
    symbols: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    groups: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def add(self, symbol: str, group: str, side: Direction, notional: Decimal, *, unsure: bool = False) -> None:
        """
        ``notional``: absolute. ``unsure``: unfilled entries and pending exits; they never offset other exposure.
        """
        self.gross += notional
        if unsure:
            self.unsure[side] += notional
        else:
            self.net += notional if side == "LONG" else -notional
        self.symbols[symbol] += notional
        self.groups[group] += notional

    def worst_net(self, more: Decimal = Decimal(0)) -> Decimal:
        """The worst-case net exposure with ``more`` added: the larger in size, whichever unsure parts fill."""
        net = self.net + more
        return max(net + self.unsure["LONG"], net - self.unsure["SHORT"], key=abs)


def risk_day(at: datetime, risk: RiskSettings) -> date:
    """The risk day of an instant; a risk day starts at ``day_starts`` in ``day_zone``."""
    begins = time.fromisoformat(risk.day_starts)
    return (at.astimezone(ZoneInfo(risk.day_zone)) - timedelta(hours=begins.hour, minutes=begins.minute)).date()


def share_lost(start: Decimal, equity: Decimal) -> Decimal:
    """The share of ``start`` that is lost; 0 if ``start`` is not positive."""
    return (start - equity) / start if start > 0 else Decimal(0)


def breached(standing: Standing, risk: RiskSettings) -> tuple[str, str] | None:
    """
    Returns (reason code, message) of a loss that stops the book until an operator resumes it; None within the limits.
    """
    equity = standing.account.equity
    loss = share_lost(standing.day_start_equity, equity)
    if loss >= risk.daily_loss_limit:
        return "daily_loss", f"{loss:.4%} of the day's opening equity is lost, the limit is {risk.daily_loss_limit:.4%}"
    if risk.max_drawdown is not None and standing.peak_equity is not None:
        loss = share_lost(standing.peak_equity, equity)
        if loss >= risk.max_drawdown:
            return "drawdown", f"{loss:.4%} of the peak equity is lost, the limit is {risk.max_drawdown:.4%}"
    return None


def of_book(symbol: str, standing: Standing, risk: RiskSettings, protections: ProtectionSettings) -> Checked:
    """Losses and the pauses after them, unexplained cash, messages to the broker, repeated entries."""
    equity = standing.account.equity
    loss = share_lost(standing.day_start_equity, equity)
    yield "daily_loss", "daily_loss", Gate(loss < risk.daily_loss_limit, f"{loss:.6f}", f"< {risk.daily_loss_limit}")
    if risk.max_drawdown is not None:
        loss = share_lost(standing.peak_equity or equity, equity)
        yield "drawdown", "drawdown", Gate(loss < risk.max_drawdown, f"{loss:.6f}", f"< {risk.max_drawdown}")
    if standing.unexplained is not None:
        yield "cash", "cash_unexplained", Gate(passed=False, value=standing.unexplained, limit="none")
    if protections.cooldown and symbol in standing.lost:
        since, pause = standing.lost[symbol], protections.cooldown
        yield "cooldown", "cooldown", Gate(since >= pause, f"{since} bars since a loss", f">= {pause} bars")
    if protections.stops_in_a_row is not None:
        passed = standing.stops < protections.stops_in_a_row or standing.last_stop >= protections.pause
        value = f"{standing.stops} stops in a row, {standing.last_stop} bars ago"
        allowed = f"< {protections.stops_in_a_row}, or {protections.pause} bars"
        yield "stops_in_a_row", "stops_in_a_row", Gate(passed, value, allowed)
    if risk.max_messages is not None:
        passed = standing.messages < risk.max_messages
        yield "messages", "max_messages", Gate(passed, f"{standing.messages} today", f"< {risk.max_messages}")
    if risk.max_repeats is not None:
        sent = standing.repeats.get(symbol, 0)
        value = f"{sent} entries in {risk.repeat_hours:g} hours"
        yield "repeats", "repeated", Gate(sent < risk.max_repeats, value, f"< {risk.max_repeats}")


def of_order(
    symbol: str,
    plan: Plan,
    close: Decimal,
    *,
    risk: RiskSettings,
    positive: bool = True,
    worth: Decimal | None = None,
) -> Checked:
    """
    One order's quantity, notional and prices. ``close``: the contract's last close; ``positive``: its market has no
    prices at zero or below; ``worth``: ``Instrument.worth``, default: the close.
    """
    levels = {"stop": plan.stop} if plan.target is None else {"stop": plan.stop, "target": plan.target}
    for name, price in levels.items():
        yield name, f"{name}_not_a_price", Gate(price > 0 or not positive, f"{price:f}", "> 0" if positive else "any")
    max_qty = risk.max_quantity.get(symbol)
    if max_qty is not None:
        yield "max_quantity", "max_quantity", Gate(plan.qty <= max_qty, f"{plan.qty:f}", f"<= {max_qty:f}")
    if risk.max_order_notional is not None:
        notional, limit = plan.notional, risk.max_order_notional
        yield "order_notional", "order_notional", Gate(notional <= limit, f"{notional:.2f}", f"<= {limit:.2f}")
    if risk.price_collar is not None:
        width = risk.price_collar * (abs(close) if worth is None else worth)
        farthest = max((plan.reference, *levels.values()), key=lambda price: abs(price - close))
        inside = abs(farthest - close) <= width
        yield "price_collar", "price_collar", Gate(inside, f"{farthest:f}", f"{close:f} +- {width:f}")


def of_exposure(
    symbol: str, group: str, plan: Plan, exposure: Exposure, equity: Decimal, *, risk: RiskSettings
) -> Checked:
    """The book's exposure after ``plan`` fills, against limits that are shares of equity."""
    gross = exposure.gross + plan.notional
    limit = risk.max_gross_exposure * equity
    yield "gross_exposure", "gross_exposure", Gate(gross <= limit, f"{gross:.2f}", f"<= {limit:.2f}")
    if risk.max_net_exposure is not None:
        before = exposure.worst_net()
        net = exposure.worst_net(plan.notional if plan.side == "LONG" else -plan.notional)
        limit = risk.max_net_exposure * equity
        # an entry that brings the net closer to zero passes even above the limit
        passed = abs(net) <= limit or abs(net) < abs(before)
        yield "net_exposure", "net_exposure", Gate(passed, f"{net:.2f}", f"+-{limit:.2f}")
    if risk.max_symbol_exposure is not None:
        held, limit = exposure.symbols.get(symbol, Decimal(0)) + plan.notional, risk.max_symbol_exposure * equity
        yield "symbol_exposure", "symbol_exposure", Gate(held <= limit, f"{held:.2f}", f"<= {limit:.2f}")
    if risk.max_group_exposure is not None and group:
        held, limit = exposure.groups.get(group, Decimal(0)) + plan.notional, risk.max_group_exposure * equity
        yield "group_exposure", "group_exposure", Gate(held <= limit, f"{group}: {held:.2f}", f"<= {limit:.2f}")
