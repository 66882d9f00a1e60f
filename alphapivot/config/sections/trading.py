"""
The sections of config.ini that speak of trading: what to enter, how much, when to leave, what never to do, where.

A key that is absent, or whose default is none, is off.
"""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from alphapivot.config.sections.base import Mapped, Positive, Section, Zone

Mode = Literal["paper", "shadow", "live"]


def _clock(text: str) -> str:
    time.fromisoformat(text)
    return text


def _window(text: str) -> str:
    begin, dash, end = text.partition("-")
    if not dash or time.fromisoformat(begin.strip()) >= time.fromisoformat(end.strip()):
        raise ValueError("should be from-to within one day, such as 09:45-15:30")
    return text


class ExecutionSettings(Section):
    book: str = Field(description="the account's name in trading.*, such as paper")
    strategy: str = Field(description="one strategy a book")
    broker: str = Field(description="a [broker.*] section")
    mode: Mode = Field(
        "paper", description="paper: no real money; shadow: orders are journalled, none is sent; live: real money"
    )
    entry_threshold: float = Field(gt=0, le=100, description="enter long at or above, short at or below its negative")
    exit_threshold: float = Field(
        ge=0, le=100, description="a fresh raw score beyond it on the other side closes a trade"
    )
    min_gate: float = Field(0.0, ge=0, le=1, description="no entry below this gate")
    max_score_age: int = Field(1, ge=0, description="completed bars of the base timeframe since the score's bar")
    atr: int = Field(14, gt=1, description="bars of the Average True Range behind the stop")
    stop_atr: Positive = Field(description="stop distance in ATR")
    reward_to_risk: Positive = Field(description="target distance over stop distance")
    allow_shorts: bool = True
    foreign_orders: Literal["adopt", "cancel"] = Field(
        "adopt", description="orders at the broker that are not ours: they stay and lock their symbol, or are cancelled"
    )
    max_clock_skew: float = Field(5, gt=0, description="seconds between our clock and the broker's; no entry beyond it")


class EntrySettings(Section):
    """[entry]: how a trade is entered."""

    order: Literal["market", "limit"] = Field("market", description="at the next open, or at a better price or not")
    limit_atr: Decimal = Field(Decimal("0.25"), ge=0, description="a limit entry's distance from the close, in ATR")
    timeout: int | None = Field(
        None, ge=0, description="completed bars after which an unfilled entry is cancelled; [execution] max_score_age"
    )
    confirm: int = Field(1, ge=1, description="scores in a row that must be beyond the threshold")
    windows: tuple[Annotated[str, AfterValidator(_window)], ...] = Field(
        (), description="times of the exchange's day at which entries are allowed, such as 09:45-11:30, 13:00-15:30"
    )

    def allows(self, local: time) -> bool:
        """Is ``local``, of the exchange's own clock, within a window? Without windows any time is."""
        spans = [tuple(time.fromisoformat(t.strip()) for t in window.split("-")) for window in self.windows]
        return not spans or any(begin <= local <= end for begin, end in spans)


class ExitSettings(Section):
    """[exit]: when a trade ends, beside its stop and its target."""

    on_reversal: bool = Field(default=True, description="close on a raw score beyond exit_threshold on the other side")
    on_veto: bool = Field(default=False, description="close on a fresh veto")
    break_even: Positive | None = Field(
        None, description="gain, in stop distances, from which the stop stands at the entry price"
    )
    trail_atr: Positive | None = Field(None, description="distance at which the stop follows the close, in ATR")
    max_bars: int | None = Field(None, ge=1, description="completed bars after which a trade is closed")
    roll: bool = Field(
        default=False, description="an open futures trade goes on in the next contract; without it, it is closed"
    )
    session_end: bool = Field(default=False, description="flat by the session's end; needs an intraday base timeframe")


class SizingSettings(Section):
    """[sizing]: what a position may be, beside the risk of [risk] risk_per_trade; the smallest wins."""

    target_volatility: Positive | None = Field(
        None, description="annual volatility of the whole book as a share of equity, such as 0.2"
    )
    weight: Positive = Field(Decimal("0.1"), le=1, description="one trade's share of target_volatility")
    volatility_bars: int = Field(60, ge=10, description="price changes behind the volatility")
    max_volume: Positive | None = Field(None, le=1, description="largest share of the last bar's volume")
    size_by_score: bool = Field(default=False, description="scale risk and volatility by the score over 100")


class RiskSettings(Section):
    risk_per_trade: Positive = Field(lt=1, description="share of equity lost when the stop is hit at its price")
    max_open_trades: int = Field(gt=0)
    max_notional: Positive = Field(description="largest notional of one trade, as a share of equity")
    max_gross_exposure: Positive = Field(description="sum of absolute notionals, as a share of equity")
    daily_loss_limit: Positive = Field(lt=1, description="a share of equity, such as 0.02")
    max_drawdown: Positive | None = Field(None, lt=1, description="loss from the highest equity, as a share of it")
    max_net_exposure: Positive | None = Field(None, description="longs less shorts, as a share of equity")
    max_symbol_exposure: Positive | None = Field(None, description="of one symbol, as a share of equity")
    max_group_exposure: Positive | None = Field(None, description="of one group of instruments, as a share of equity")
    max_quantity: Mapped[Positive] = Field(default={}, description="symbol: largest quantity of one order")
    max_order_notional: Positive | None = Field(None, description="largest notional of one order, in book currency")
    price_collar: Positive | None = Field(
        None, description="no price of an order is further from the last close, as a share of it"
    )
    max_messages: int | None = Field(None, ge=1, description="messages to the broker in one risk day")
    messages_per_second: Positive | None = Field(None, description="the sender waits to keep to it")
    max_repeats: int | None = Field(
        None, ge=1, description="entries in one symbol within repeat_hours; more lock it until a person unlocks"
    )
    repeat_hours: float = Field(24, gt=0, description="how long an entry counts for max_repeats")
    day_starts: Annotated[str, AfterValidator(_clock)] = Field("00:00", description="when the risk day rolls")
    day_zone: Zone = Field("UTC", description="time zone of day_starts")


class ProtectionSettings(Section):
    """[protections]: pauses after losses."""

    cooldown: int = Field(0, ge=0, description="bars without an entry in a symbol after a losing trade in it; 0: off")
    stops_in_a_row: int | None = Field(None, ge=1, description="trades in a row ended by their stop that stop entries")
    pause: int = Field(10, ge=1, description="bars for which they do")
