"""
The trading sections of config.ini: execution, entries, exits, sizing, risk limits and protections.

A key that is absent and whose default is None is off.
"""

from __future__ import annotations

import re
from datetime import time
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from alphapivot.config.sections.base import Mapped, Positive, PositiveOrOff, Section, Zone

Mode = Literal["paper", "shadow", "live"]
Form = Literal["trades", "positions"]


def _clock(text: str) -> str:
    time.fromisoformat(text)
    return text


def _window(text: str) -> str:
    begin, dash, end = text.partition("-")
    if not dash or time.fromisoformat(begin.strip()) >= time.fromisoformat(end.strip()):
        raise ValueError("should be from-to within one day, such as 09:45-15:30")
    return text


def _share(value: Any) -> Any:
    """50% as 0.5."""
    text = str(value).strip()
    return text[:-1].strip() + "e-2" if text.endswith("%") else value


Share = Annotated[Decimal, BeforeValidator(_share), Field(gt=0, lt=1)]
ShareOrAll = Annotated[Decimal, BeforeValidator(_share), Field(ge=0, le=1)]


class ExecutionSettings(Section):
    book: str = Field("paper", description="the book's name in trading.*, such as paper")
    strategy: str = Field("pivot", description="the strategy's name; one per book")
    share: ShareOrAll = Field(
        Decimal(1), description="the book's share of its account, where several books trade one; 1: all of it"
    )
    broker: str = Field("paper", description="a [broker.*] section")
    mode: Mode = Field(
        "paper", description="paper: no real money; shadow: orders are journalled, not sent; live: real money"
    )
    approve: Literal["off", "entries"] = Field(
        "off", description="entries: an entry waits for `alphapivot approve`, until the next bar ends; exits never wait"
    )
    form: Form = Field(
        "trades",
        description="trades: entered beyond entry_threshold, at a size that stays, with stop and target;"
        " positions: a target position that follows the score, with a buffer and a stop",
    )
    entry_threshold: float = Field(
        40, gt=0, le=100, description="enter long at or above, short at or below its negative"
    )
    exit_threshold: float = Field(
        10, ge=0, le=100, description="a fresh raw score beyond it on the opposite side closes a trade"
    )
    min_gate: float = Field(0.0, ge=0, le=1, description="no entry below this gate")
    max_score_age: int = Field(1, ge=0, description="age limit of a score, in completed bars of the base timeframe")
    atr: int = Field(14, gt=1, description="bars of the Average True Range behind the stop")
    stop_atr: Positive = Field(Decimal("4.0"), description="stop distance in ATR")
    reward_to_risk: PositiveOrOff = Field(
        Decimal("6.0"),
        description="target distance divided by stop distance; off: no target, trades leave by stop and exit rules",
    )
    allow_shorts: bool = Field(default=True, description="enter short trades; spot too: see [broker.paper]")
    foreign_orders: Literal["adopt", "cancel"] = Field(
        "adopt", description="orders at the broker that are not ours: adopt keeps them and locks their symbol"
    )
    position_wait: float = Field(
        10,
        ge=0,
        le=120,
        description="seconds for which a real broker's positions may lag behind its orders before a symbol is locked",
    )
    max_clock_skew: float = Field(
        5, gt=0, description="seconds between our clock and the broker's above which no entry is made"
    )


class EntrySettings(Section):
    """[entry]: how a trade is entered."""

    order: Literal["market", "limit"] = Field(
        "market", description="market: at the next open; limit: at limit_atr better than the close"
    )
    limit_atr: Decimal = Field(Decimal("0.25"), ge=0, description="a limit entry's distance from the close, in ATR")
    timeout: int | None = Field(
        None,
        ge=0,
        description="completed bars after which an unfilled entry is cancelled; default: [execution] max_score_age",
    )
    confirm: int = Field(1, ge=1, description="scores in a row that must be beyond the threshold")
    windows: tuple[Annotated[str, AfterValidator(_window)], ...] = Field(
        (), description="exchange times at which entries are allowed, such as 09:45-11:30, 13:00-15:30"
    )

    def allows(self, local: time) -> bool:
        """True if ``local``, in exchange time, is within a window, or if there are none."""
        spans = [tuple(time.fromisoformat(t.strip()) for t in window.split("-")) for window in self.windows]
        return not spans or any(begin <= local <= end for begin, end in spans)


class ExitSettings(Section):
    """[exit]: when a trade is closed, other than by its stop or target."""

    on_reversal: bool = Field(
        default=True, description="close on a raw score beyond exit_threshold on the opposite side"
    )
    on_veto: bool = Field(default=False, description="close on a fresh veto")
    break_even: Positive | None = Field(
        None, description="gain, in stop distances, at which the stop moves to the entry price"
    )
    trail: Literal["close", "chandelier", "parabolic"] = Field(
        "close",
        description="what the stop follows: the close or, chandelier, the best price of trail_bars, at trail_atr;"
        " or Wilder's parabolic stop and reverse",
    )
    trail_atr: Positive | None = Field(
        None, description="distance at which the stop follows the close or the best price, in ATR; parabolic needs none"
    )
    trail_bars: int = Field(22, ge=1, description="bars since the entry, at most, of a chandelier's best price")
    parabolic_step: Positive = Field(
        Decimal("0.02"), le=1, description="share by which a parabolic stop moves to the best price, and its growth"
    )
    parabolic_cap: Positive = Field(Decimal("0.2"), le=1, description="largest such share")
    scale_out: Mapped[Share] = Field(
        default={}, description="gain in stop distances: share of the position that then leaves, as 1R: 50%, 2R: 25%"
    )
    max_bars: int | None = Field(None, ge=1, description="completed bars after which a trade is closed")
    roll: bool = Field(
        default=False, description="roll an open futures trade into the next contract; if off, it is closed"
    )
    session_end: bool = Field(default=False, description="flat by the session's end; needs an intraday base timeframe")

    @property
    def scales(self) -> list[tuple[Decimal, Decimal]]:
        """(gain in stop distances, share of the position that has left by then), nearest first."""
        steps = sorted((Decimal(name.removesuffix("R")), share) for name, share in self.scale_out.items())
        return [(gain, sum((s for g, s in steps if g <= gain), Decimal(0))) for gain, _ in steps]

    @property
    def moves_stop(self) -> bool:
        """True if the stop may move."""
        return self.break_even is not None or self.trail_atr is not None or self.trail == "parabolic"

    @property
    def follows_path(self) -> bool:
        """True if the stop follows the bars since the entry, not the last close alone."""
        return self.trail != "close"

    @model_validator(mode="after")
    def _trail_is_whole(self) -> ExitSettings:
        if self.trail == "chandelier" and self.trail_atr is None:
            raise ValueError("trail = chandelier needs trail_atr, such as 3")
        if self.parabolic_cap < self.parabolic_step:
            raise ValueError(f"parabolic_cap = {self.parabolic_cap} is below parabolic_step = {self.parabolic_step}")
        return self

    @model_validator(mode="after")
    def _scales_leave_a_rest(self) -> ExitSettings:
        for name in self.scale_out:
            if not re.fullmatch(r"\d*\.?\d+R", name) or not Decimal(name[:-1]):
                raise ValueError(f"scale_out: {name} should be a gain in stop distances, such as 1R or 1.5R")
        if len({gain for gain, _ in self.scales}) < len(self.scale_out):
            raise ValueError("scale_out names a gain twice")
        if (total := sum(self.scale_out.values())) >= 1:
            raise ValueError(
                f"scale_out: shares sum to {float(100 * total):g} %, and some must be left to run; less than 100 %"
            )
        return self


class SizingSettings(Section):
    """[sizing]: limits on a position's size besides [risk] risk_per_trade; the smallest applies."""

    target_volatility: Positive | None = Field(
        None, description="annual volatility of the whole book as a share of equity, such as 0.2"
    )
    weight: Positive = Field(Decimal("0.1"), le=1, description="one trade's share of target_volatility")
    volatility_bars: int = Field(60, ge=10, description="price changes from which volatility is estimated")
    gap_quantile: float | None = Field(
        None, gt=0.5, lt=1, description="share of a market's past opening gaps that gap_loss covers, such as 0.99"
    )
    gap_bars: int = Field(250, ge=20, description="bars whose openings are looked at")
    max_gap_loss: Positive | None = Field(
        None, lt=1, description="largest loss by an opening gap of gap_quantile, as a share of equity"
    )
    max_volume: Positive | None = Field(None, le=1, description="largest share of the last bar's volume")
    size_by_score: bool = Field(default=False, description="scale risk and volatility by |score| / 100")
    weights: Mapped[Positive] = Field(
        default={},
        description="form = positions: symbol: share of target_volatility; default: all that are tradable alike",
    )
    diversification: Decimal = Field(
        Decimal(1),
        ge=1,
        le=Decimal("2.5"),
        description="form = positions: factor on all positions, as a mix of markets moves less than each of them",
    )
    forecast_cap: Decimal = Field(
        Decimal(20),
        ge=10,
        le=100,
        description="form = positions: largest forecast, where 10 is that of an average score",
    )
    buffer: Decimal = Field(
        Decimal("0.1"),
        ge=0,
        le=1,
        description="form = positions: share of an average position by which a position may be off its target",
    )

    max_cost: Positive | None = Field(
        None,
        description="form = positions: largest expected cost of a year as a share of a market's annual volatility, such"
        " as 0.1; dearer markets are neither entered nor added to",
    )
    costs: Mapped[Annotated[Decimal, Field(ge=0)]] = Field(
        default={},
        description="form = positions: symbol: cost of each fill, slippage included, in basis points of its notional",
    )
    turnover: Positive = Field(
        Decimal(10), description="form = positions: average positions bought and sold again in a year, for max_cost"
    )

    @model_validator(mode="after")
    def _gap_is_known(self) -> SizingSettings:
        if self.max_gap_loss is not None and self.gap_quantile is None:
            raise ValueError("max_gap_loss needs gap_quantile, such as 0.99")
        return self


class RiskSettings(Section):
    risk_per_trade: Positive = Field(
        Decimal("0.01"), lt=1, description="share of equity lost when the stop is hit at its price"
    )
    max_open_trades: int = Field(8, gt=0, description="largest number of open trades")
    max_notional: Positive = Field(Decimal("0.5"), description="largest notional of one trade, as a share of equity")
    max_gross_exposure: Positive = Field(Decimal("3.0"), description="sum of absolute notionals, as a share of equity")
    daily_loss_limit: Positive = Field(Decimal("0.02"), lt=1, description="a share of equity, such as 0.02")
    max_drawdown: Positive | None = Field(None, lt=1, description="loss from peak equity, as a share of it")
    max_net_exposure: Positive | None = Field(
        None, description="absolute value of longs minus shorts, as a share of equity"
    )
    max_symbol_exposure: Positive | None = Field(
        None, description="largest exposure to one symbol, as a share of equity"
    )
    max_group_exposure: Positive | None = Field(
        None, description="largest exposure to one group of instruments, as a share of equity"
    )
    max_volatility: Positive | None = Field(
        None, description="largest volatility of the book ex ante, a share of equity per year; entries are sized to it"
    )
    covariance_bars: int = Field(
        250, ge=100, description="price changes from which the volatility of the book is estimated"
    )
    max_quantity: Mapped[Positive] = Field(default={}, description="symbol: largest quantity of one order")
    max_order_notional: Positive | None = Field(None, description="largest notional of one order, in book currency")
    price_collar: Positive | None = Field(
        None, description="largest distance of an order's price from the last close, as a share of it"
    )
    max_messages: int | None = Field(None, ge=1, description="largest number of messages to the broker in one risk day")
    messages_per_second: Positive | None = Field(None, description="rate limit; the sender waits to keep it")
    max_repeats: int | None = Field(
        None, ge=1, description="entries in one symbol within repeat_hours after which it is locked"
    )
    repeat_hours: float = Field(24, gt=0, description="how long an entry counts for max_repeats")
    unexplained_cash: Positive = Field(
        Decimal("0.001"),
        lt=1,
        description="change of the account's cash without a known cause, as a share of equity, that blocks entries",
    )
    day_starts: Annotated[str, AfterValidator(_clock)] = Field("00:00", description="time at which the risk day starts")
    day_zone: Zone = Field("UTC", description="time zone of day_starts")


class ProtectionSettings(Section):
    """[protections]: pauses after losses."""

    cooldown: int = Field(0, ge=0, description="bars without an entry in a symbol after a losing trade in it; 0: off")
    stops_in_a_row: int | None = Field(None, ge=1, description="stopped-out trades in a row that pause entries")
    pause: int = Field(10, ge=1, description="bars for which stops_in_a_row pauses entries")
