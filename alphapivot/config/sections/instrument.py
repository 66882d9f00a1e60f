"""
[instrument.SYMBOL]: an underlying with its spot and futures markets.

``alphapivot.calendar.hours``, ``alphapivot.calendar.expiry`` and ``alphapivot.data.actions`` define the texts.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from datetime import date
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from alphapivot.calendar import bar_ends, expiry, hours, schedule
from alphapivot.calendar.contracts import month_of
from alphapivot.calendar.hours import Hours
from alphapivot.config.sections.base import Day, Mapped, Positive, Section, Zone
from alphapivot.config.sections.calendar import BreaksText, CalendarSection, SessionText, hours_of
from alphapivot.money import to_tick

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

Rule = Annotated[str, AfterValidator(expiry.rule)]
RollFile = Annotated[str, AfterValidator(hours.validator(expiry.roll_file))]
StampText = Annotated[str, AfterValidator(hours.validator(hours.daily_stamps))]
Market = Literal["spot", "futures"]
MARKETS: tuple[Market, ...] = get_args(Market)


class Conventions(Section):
    """An instrument's trading hours, contract rolls and price adjustment."""

    calendar: str = Field(
        description="a calendar of exchange_calendars (XNYS, CMES, XEUR, 24/7, ...), NSE, NFO, or a [calendar.NAME]"
    )
    session: SessionText = Field(
        "", description="hours such as 09:00-17:30, or with changes: 08:30-15:15, 2008-07-07: 17:00-15:15"
    )
    spot_session: SessionText = Field("", description="hours of the spot market, where they are not those of session")
    futures_session: SessionText = Field(
        "", description="hours of the futures market, where they are not those of session"
    )
    breaks: BreaksText = Field("", description="hours within the session such as 11:30-13:00, or none")
    daily_stamp: StampText = Field(
        "", description="what completes a daily bar: last (the session's close), or such as settlement 15:15"
    )
    timetable: CalendarSection | None = None  # the [calendar.NAME] that ``calendar`` names; set where sections meet
    session_zone: Zone | None = Field(
        None, description="time zone of session, breaks and daily_stamp; default: the calendar's"
    )
    roll: Literal["open_interest", "volume", "calendar"] = Field(
        "open_interest", description="what decides a roll; open_interest uses volume where open interest is unknown"
    )
    roll_before: int = Field(
        0, ge=0, description="sessions before first notice or last trade at which a roll is forced"
    )
    last_trade: Rule | None = Field(None, description="a rule such as third friday, or last session - 1")
    first_notice: Rule | None = Field(None, description="a rule such as last session of month -1")
    last_trade_dates: Mapped[Day] = Field(
        default={}, description="contract: its last trading day, where a rule is not enough"
    )
    first_notice_dates: Mapped[Day] = Field(default={}, description="contract: its first notice day")
    roll_calendar: RollFile | None = Field(
        None, description="a file of rolls published in advance, such as rolls.csv: DATE_TIME + next_contract"
    )
    roll_followed: RollFile | None = Field(
        None, description="a file with the source's own front contract, such as prices.csv: DATETIME + CONTRACT"
    )
    actions: str | None = Field(
        None, description="the feed's file of splits, dividends and other events of the spot market"
    )
    adjust: Literal["all", "splits", "none"] = Field(
        "all", description="what the pillars' spot prices are adjusted for: splits and dividends, splits, or nothing"
    )

    @model_validator(mode="after")
    def _rolls_can_be_decided(self) -> Conventions:
        ends = self.last_trade or self.first_notice or self.last_trade_dates or self.first_notice_dates
        files = self.roll_calendar or self.roll_followed
        if self.roll == "calendar" and not (ends or files):
            raise ValueError("roll = calendar needs last_trade, first_notice or a roll_calendar")
        if self.roll != "calendar" and files:
            raise ValueError(f"roll = {self.roll} takes no roll_calendar or roll_followed; only roll = calendar does")
        if self.roll_before and not ends:
            raise ValueError(f"roll_before = {self.roll_before} needs last_trade or first_notice to count from")
        return self

    @property
    def hours(self) -> Hours:
        """The calendar with the instrument's own hours, whatever the market."""
        return self.hours_of(None)

    def hours_of(self, market: Market | None) -> Hours:
        """The trading hours of one of its markets, as ``alphapivot.calendar.bar_ends`` takes them."""
        session = self.session if market is None else getattr(self, f"{market}_session") or self.session
        of_calendar = hours_of(self.calendar, self.timetable, market)
        return _changed(of_calendar, session, self.breaks, self.daily_stamp, self.session_zone or "")


@functools.cache
def _changed(hours: Hours, session: str, breaks: str, daily_stamp: str, zone: str) -> Hours:
    """``hours`` with an instrument's own changes; cached, as loops over instruments ask for them again and again."""
    own = {"session": session, "breaks": breaks, "daily_stamp": daily_stamp, "zone": zone}
    return replace(hours, **{key: text for key, text in own.items() if text})


IN_HUNDREDTHS = ("GBP", "ILS", "ZAR")  # shares are quoted in pence, agorot, cents: whether a price is, must be said
DATED = ("quote_unit", "multiplier", "tick", "lot", "margin")  # terms that may change on a date
BY_MONTH = re.compile(r"\s*,\s*(\d{4}-(?:0[1-9]|1[0-2]))\s*:\s*([^,\s]+)")  # a lot from the contracts of a month on
Kind = Literal["crypto", "fx", "shares", "futures"]
LEGS = "legs"  # the feed of spreads
MIN_LEGS = 2


class Instrument(Conventions):
    """[instrument.SYMBOL]: one underlying with its spot and futures markets, and how it is quoted and traded."""

    symbol: str
    since: Day | None = Field(
        None, alias="from", description="its first session; bars before it belong to something else"
    )
    until: Day | None = Field(None, description="its last session: what is open then leaves in it")
    members: Mapped[str] = Field({})  # first day -> last day in the universe; set where sections meet
    feed: str | None = Field(
        None,
        description="its feed, and those that stand in when it is late: databento, yahoo; default: [runtime] feed",
    )
    usual: str = ""  # what ``feed`` would be without an override of [runtime] feed; set where sections meet
    legs: Mapped[Decimal] = Field(
        default={},
        description="a spread instead of a market of its own: other instruments and how many of each a unit holds,"
        " negative where it sells, such as GOLD: 1, SILVER: -8",
    )
    leg_prices: Mapped[Positive] = Field(
        default={},
        description="of a spread: a price of each leg, from which fees, slippage, margin and limits are counted, such"
        " as GOLD: 180, SILVER: 22",
    )
    leg_terms: Mapped[Instrument] = Field({})  # leg -> its section; set where sections meet
    spot: str | None = Field(None, description="the feed's ticker (or file) of the spot market")
    futures: str | None = Field(None, description="the feed's ticker (or file) of the futures market")
    spot_interval: str | None = Field(None, description="interval at which spot is fetched; default: [timeframes] base")
    futures_interval: str | None = Field(
        None, description="interval at which futures are fetched; default: [timeframes] base"
    )
    signal_market: Market = Field(description="spot or futures: what pillars read; default: the only one it has")
    trade_market: Market = Field(description="spot or futures: what is traded; default: the only one it has")
    group: str = Field("", description="for limits and reports, such as equity index")
    currency: str = Field(
        pattern="^[A-Z]{3,5}$",
        description="the ISO code of the currency of its profit and loss, such as USD, or a coin: USDT",
    )
    quote_unit: Positive = Field(
        description="currency per quoted unit: 1, or 0.01 for pence and cents; default: 1 for a spot price in a"
        " currency whose shares are not quoted in hundredths (GBP, ILS and ZAR are)"
    )
    multiplier: Positive = Field(description="units of the underlying per contract; default: 1 for spot")
    tick: Positive = Field(description="smallest price change of what is traded, in quoted units")
    lot: Positive = Field(Decimal(1), description="smallest tradable quantity")
    margin: Positive = Field(description="initial margin as a share of notional; default: 1 for spot, paid in full")
    tradable: bool = Field(default=True, description="no: scored, and never entered")
    allow_nonpositive: bool = Field(
        default=False, description="prices may be zero or negative (spreads, crude in 2020)"
    )
    quality: Mapped[float] = Field(default={}, description="its own thresholds, such as spike_z: 40, stale_bars: 0")
    later: Mapped[Mapped[Positive]] = Field(
        default={}, description="date -> terms from that session on; written as lot = 25, 2024-11-20: 75"
    )
    lots: Mapped[Positive] = Field(
        default={}, description="month -> lot of its contracts and later ones; written as lot = 75, 2026-01: 65"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_market(cls, given: Any) -> Any:
        """What the only market of an instrument implies. A futures contract's terms are never assumed."""
        if not isinstance(given, dict):
            return given
        markets = [market for market in MARKETS if given.get(market) is not None]
        implied: dict[str, Any] = {}
        if len(markets) == 1:
            implied = {"signal_market": markets[0], "trade_market": markets[0]}
        if (implied | given).get("trade_market") == "spot":
            implied |= {"multiplier": "1", "margin": "1"}
            implied |= {} if given.get("currency") in IN_HUNDREDTHS else {"quote_unit": "1"}
        return implied | given

    @model_validator(mode="before")
    @classmethod
    def _of_legs(cls, given: Any) -> Any:
        """A spread is quoted in its currency, per unit: what its legs are worth, which may be nothing or less."""
        if not isinstance(given, dict) or not given.get("legs"):
            return given
        try:
            ratios = {leg: Decimal(ratio) for leg, ratio in given["legs"].items()}
        except ArithmeticError:  # the field itself says which
            ratios = {}
        for leg, ratio in ratios.items():
            if not ratio:
                raise ValueError(f"legs: {leg} has the ratio 0; expected how many of it a unit holds, such as 1 or -8")
        if len(given["legs"]) < MIN_LEGS:
            raise ValueError("legs names one instrument; expected at least two, such as GOLD: 1, SILVER: -8")
        shown = " ".join(f"{ratio:+f} {leg}" for leg, ratio in sorted(ratios.items()))
        implied = {"futures": shown, "multiplier": "1", "quote_unit": "1", "margin": "1", "allow_nonpositive": True}
        implied |= {"tick": "0.01", "tradable": "no"}
        return implied | given

    @model_validator(mode="before")
    @classmethod
    def _split_by_date(cls, given: Any) -> Any:
        """
        ``lot = 25, 2024-11-20: 75, 2026-01: 65`` -> lot 25, ``later`` {"2024-11-20": {"lot": 75}} and ``lots``
        {"2026-01": 65}.
        """
        if not isinstance(given, dict):
            return given
        for name in ("later", "lots"):
            if isinstance(given.get(name), str):
                message = f"{name} is no key of config.ini: write the term with its date, lot = 25, 2024-11-20: 75"
                raise ValueError(message)  # noqa: TRY004 - pydantic tells ValueErrors
        terms, later = dict(given), {day: dict(changed) for day, changed in given.get("later", {}).items()}
        if months := re.findall(BY_MONTH, str(terms.get("lot", ""))):
            terms |= {"lot": re.sub(BY_MONTH, "", terms["lot"]), "lots": dict(months)}
        for name in DATED:
            if isinstance(terms.get(name), str) and re.search(r"[,:]", terms[name]):
                terms[name], *changes = _periods(name, terms[name])
                for since, value in changes:
                    later.setdefault(since, {})[name] = value
        return terms | {"later": later} if later else terms

    @model_validator(mode="after")
    def _lives(self) -> Self:
        if self.life[1] < self.life[0]:
            raise ValueError(f"until = {self.until} is before from = {self.since}")
        return self

    @property
    def life(self) -> tuple[date, date]:
        """The dates of its first and its last session."""
        return (
            date.min if self.since is None else date.fromisoformat(self.since),
            date.max if self.until is None else date.fromisoformat(self.until),
        )

    @property
    def trading_spans(self) -> list[tuple[date, date]]:
        """The spans (first day, last day) in which it may be traded: its life, as far as it belongs to the universe."""
        begins, ends = self.life
        if not self.members:
            return [(begins, ends)]
        spans = [
            (max(begins, date.fromisoformat(since)), min(ends, date.fromisoformat(until) if until else date.max))
            for since, until in self.members.items()
        ]
        return [(since, until) for since, until in spans if since <= until]

    @property
    def spans_text(self) -> str:
        """Its spans for messages."""
        words = [
            f"{'' if a == date.min else f'from {a} '}{'' if b == date.max else f'until {b}'}".strip()
            for a, b in self.trading_spans
        ]
        return "listed " + ", ".join(words) if words else "never listed"

    def session_at(self, instant: datetime) -> date:
        """The date of the traded market's session that is open at ``instant``, or else of the next one."""
        return self._session(instant, "right")

    def at(self, day: date) -> Self:
        """Its terms in the session of ``day``."""
        if not self.later:
            return self
        changed: dict[str, Any] = {"later": {}}
        for since, terms in self.later.items():
            if date.fromisoformat(since) <= day:
                changed |= terms
        return self.model_copy(update=changed)

    @property
    def versions(self) -> list[Self]:
        """Its terms as they were before the first change and after each."""
        dated = [self.at(day) for day in (date.min, *map(date.fromisoformat, self.later))]
        return dated + [dated[-1].model_copy(update={"lot": lot}) for lot in self.lots.values()]

    def of(self, contract: str, seen: datetime) -> Self:
        """
        Its terms in ``contract``, whose month may have a lot of its own; ``seen``: an instant of its life. Raises
        DataError if the lot depends on the month and the contract's name does not say it.
        """
        if not (self.lots and contract):
            return self
        month = month_of(contract, seen, self.last_trade_dates)
        lots = [lot for since, lot in self.lots.items() if int(since[:4]) * 12 + int(since[5:]) - 1 <= month]
        return self.model_copy(update={"lot": lots[-1]}) if lots else self

    def trading(self, instant: datetime) -> Self:
        """Its terms for an order that is sent at ``instant``: those of the session that is open, or else the next."""
        return self._of(instant, "right")

    def during(self, bar_end: datetime) -> Self:
        """Its terms in the session of the bar that is complete at ``bar_end``."""
        return self._of(bar_end, "left")

    def _of(self, instant: datetime, side: Literal["left", "right"]) -> Self:
        if not self.later:
            return self
        return self.at(self._session(instant, side))

    def session_of(self, bar_end: datetime) -> date:
        """The date of the traded market's session in which the bar ended that is complete at ``bar_end``."""
        return self._session(bar_end, "left")

    def _session(self, instant: datetime, side: Literal["left", "right"]) -> date:
        sessions = schedule.of(self.trading_hours)
        number = int(np.searchsorted(sessions.closes, bar_ends.naive(instant), side))
        day: date = sessions.labels[min(number, len(sessions.labels) - 1)].astype("datetime64[D]").item()
        return day

    @functools.cached_property
    def leg_worths(self) -> dict[str, Decimal]:
        """leg of a spread -> what a unit holds of it at ``leg_prices``, in the spread's quoted units."""
        terms = self.leg_terms
        return {
            leg: abs(ratio) * self.leg_prices[leg] * terms[leg].multiplier * terms[leg].quote_unit
            for leg, ratio in self.legs.items()
            if leg in self.leg_prices
        }

    def worth(self, price: Decimal) -> Decimal:
        """
        The size of one unit at ``price``, in quoted units: what fees, slippage, margin and limits are shares of. That
        of a spread is the sum of its legs' sizes, on the tick, since its price may be nothing.
        """
        if not self.legs:
            return abs(price)
        return to_tick(sum(self.leg_worths.values(), Decimal(0)), self.tick, ROUND_CEILING)

    @property
    def kind(self) -> Kind:
        """The kind of market that it trades in, by its market and hours: fees differ by it."""
        if self.trade_market == "futures":
            return "futures"
        return {"24/7": "crypto", "24/5": "fx"}.get(self.hours.calendar, "shares")  # type: ignore[return-value]

    @property
    def feeds(self) -> tuple[str, ...]:
        """The names in ``feed``; none: that of [runtime]. The bars of a spread are made of stored ones."""
        if self.legs:
            return (LEGS,)
        return tuple(name.strip() for name in self.feed.split(",")) if self.feed else ()

    @property
    def markets(self) -> tuple[Market, ...]:
        return tuple(m for m in ("spot", "futures") if getattr(self, m) is not None)

    @property
    def trading_hours(self) -> Hours:
        """The hours of the market that is traded."""
        return self.hours_of(self.trade_market)

    @property
    def signal_hours(self) -> Hours:
        """The hours of the market that is scored."""
        return self.hours_of(self.signal_market)

    def source_interval(self, market: Market, base: str) -> str:
        """The interval at which this market's bars are fetched; default: ``base``."""
        return getattr(self, f"{market}_interval") or base


def _periods(name: str, text: str) -> tuple[Any, ...]:
    """``25, 2024-11-20: 75`` -> ("25", ("2024-11-20", "75")); ValueError with an example otherwise."""
    expected = f"expected {name} = VALUE, or such as {name} = 25, 2024-11-20: 75"
    try:
        periods = hours.dated(text, str)
    except ValueError as error:
        raise ValueError(f"{name} = {text}: {error}; {expected}") from None
    if periods[0][0] != hours.ALWAYS or any(len(values) != 1 for _, values in periods):
        raise ValueError(f"{name} = {text}: {expected}")
    for _, (value,) in periods[1:]:
        if not re.fullmatch(r"[\d.eE+-]+", value):
            raise ValueError(f"{name} = {text}: {value!r} is no number; {expected}")
    return periods[0][1][0], *((since.isoformat(), value) for since, (value,) in periods[1:])


def hours_by_market(instruments: Iterable[Instrument]) -> dict[tuple[str, str], Hours]:
    """(symbol, market) -> the trading hours of that market."""
    return {(i.symbol, market): i.hours_of(market) for i in instruments for market in MARKETS}
