"""
The part of [instrument.*] that says when it trades, how its contracts roll and what its prices are adjusted for.

``alphapivot.calendar.hours``, ``alphapivot.calendar.expiry`` and ``alphapivot.data.actions`` say what the texts mean.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from alphapivot.calendar import expiry, hours
from alphapivot.calendar.hours import Hours
from alphapivot.config.sections.base import Day, Mapped, Positive, Section, Zone

SessionText = Annotated[str, AfterValidator(hours.validator(hours.sessions))]
BreaksText = Annotated[str, AfterValidator(hours.validator(hours.breaks))]
StampText = Annotated[str, AfterValidator(hours.validator(hours.daily_stamps))]
Rule = Annotated[str, AfterValidator(expiry.rule)]
RollFile = Annotated[str, AfterValidator(hours.validator(expiry.roll_file))]


class Terms(Section):
    """When an instrument trades, how its contracts roll, what its prices are adjusted for."""

    calendar: str = Field(description="a calendar of exchange_calendars: XNYS, CMES, XEUR, 24/7, ...")
    session: SessionText = Field(
        "", description="hours such as 09:00-17:30, or from dates on 08:30-15:15, 2008-07-07: 17:00-15:15"
    )
    breaks: BreaksText = Field("", description="hours within the session such as 11:30-13:00, or none")
    daily_stamp: StampText = Field(
        "", description="what completes a day's bar: last, the session's close, or settlement 15:15"
    )
    session_zone: Zone | None = Field(
        None, description="time zone of session, breaks and daily_stamp; the calendar's own when absent"
    )
    roll: Literal["open_interest", "volume", "calendar"] = Field(
        "open_interest", description="what says that the next contract leads; volume where no open interest is known"
    )
    roll_before: int = Field(
        0, ge=0, description="sessions before first notice or last trade on which a roll is decided at the latest"
    )
    last_trade: Rule | None = Field(None, description="a rule such as third friday, or last session - 1")
    first_notice: Rule | None = Field(None, description="a rule such as last session of month -1")
    last_trade_dates: Mapped[Day] = Field(default={}, description="contract: its last day, where a rule is not enough")
    first_notice_dates: Mapped[Day] = Field(default={}, description="contract: its first notice day")
    roll_calendar: RollFile | None = Field(
        None, description="a file of rolls published beforehand, such as rolls.csv: DATE_TIME + next_contract"
    )
    roll_followed: RollFile | None = Field(
        None, description="a file whose rows name the source's own front contract: prices.csv: DATETIME + CONTRACT"
    )
    actions: str | None = Field(None, description="the feed's file of the spot market's splits and dividends")
    adjust: Literal["all", "splits", "none"] = Field(
        "all", description="what the pillars' spot prices are adjusted for: splits and dividends, splits, or nothing"
    )

    @model_validator(mode="after")
    def _rolls_can_be_decided(self) -> Terms:
        ends = self.last_trade or self.first_notice or self.last_trade_dates or self.first_notice_dates
        files = self.roll_calendar or self.roll_followed
        if self.roll == "calendar" and not (ends or files):
            raise ValueError("roll = calendar needs last_trade, first_notice or a roll_calendar to go by")
        if self.roll != "calendar" and files:
            raise ValueError(f"roll = {self.roll} takes no roll_calendar and no roll_followed; roll = calendar does")
        if self.roll_before and not ends:
            raise ValueError(f"roll_before = {self.roll_before} needs last_trade or first_notice to count from")
        return self

    @property
    def hours(self) -> Hours:
        """Its calendar with its own hours, as ``alphapivot.calendar.bar_ends`` takes it."""
        return Hours(self.calendar, self.session, self.breaks, self.daily_stamp, self.session_zone or "")


Market = Literal["spot", "futures"]


class Instrument(Terms):
    """[instrument.SYMBOL]: one underlying with its spot and futures markets and the terms of the one that is traded."""

    symbol: str
    feed: str | None = Field(None, description="its feed; [runtime] feed when absent")
    spot: str | None = Field(None, description="the feed's ticker (or file) of the spot market")
    futures: str | None = Field(None, description="the feed's ticker (or file) of the futures market")
    spot_interval: str | None = Field(
        None, description="interval at which spot is fetched; [timeframes] base when absent"
    )
    futures_interval: str | None = Field(
        None, description="interval at which futures are fetched; [timeframes] base when absent"
    )
    signal_market: Market
    trade_market: Market
    group: str = Field("", description="for limits and reports, such as equity index")
    currency: str = Field(
        pattern="^[A-Z]{3}$", description="the ISO code of the currency of its profit and loss, such as USD"
    )
    quote_unit: Positive = Field(description="currency per quoted unit: 1, or 0.01 for pence and cents")
    multiplier: Positive = Field(description="units of the underlying per contract; 1 for spot")
    tick: Positive = Field(description="smallest price change of what is traded, in quoted units")
    lot: Positive = Field(description="smallest tradable quantity")
    margin: Positive = Field(description="initial margin as a share of notional; 1 for cash")
    tradable: bool
    allow_nonpositive: bool = Field(
        default=False, description="may prices be zero or negative (spreads, crude in 2020)?"
    )
    quality: Mapped[float] = Field(default={}, description="its own thresholds, such as spike_z: 40, stale_bars: 0")

    @property
    def markets(self) -> tuple[Market, ...]:
        return tuple(m for m in ("spot", "futures") if getattr(self, m) is not None)

    def source_interval(self, market: Market, base: str) -> str:
        """The interval at which this market's bars are fetched; ``base`` unless the section names another."""
        return getattr(self, f"{market}_interval") or base
