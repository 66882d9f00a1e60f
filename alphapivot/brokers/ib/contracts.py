"""
Interactive Brokers' contracts of our instruments, and their terms: GET of contract details.

A future's price is in the exchange's own units: its multiplier divided by the price magnifier is the value of one
point (https://interactivebrokers.github.io/tws-api/classIBApi_1_1ContractDetails.html).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from alphapivot.brokers.base import Hours, Key
from alphapivot.calendar import expiry
from alphapivot.calendar.contracts import LETTERS, UnreadableError, month_of
from alphapivot.errors import ConfigError
from alphapivot.venues.ib.listing import read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alphapivot.config.sections.brokers import IbBroker
    from alphapivot.config.sections.instrument import Instrument

NEAR = timedelta(days=120)  # a contract may be held for a while after its month


class Book:
    """
    Which of IB's contracts is which of ours. ``names``: symbol -> the names of its contracts that are known here: a
    position in one of these months has its name. ``now``: a year of one digit is that of a contract which trades then.
    """

    def __init__(
        self,
        section: IbBroker,
        instruments: Mapping[str, Instrument],
        names: Mapping[str, Iterable[str]],
        now: datetime,
    ) -> None:
        self._near = now - NEAR
        self._wanted = {symbol: _Wanted(section, instrument) for symbol, instrument in instruments.items()}
        self._by_root = {(w.kind, w.root, w.instrument.currency): symbol for symbol, w in self._wanted.items()}
        self._names: dict[tuple[str, int], str] = {}
        for symbol, contracts in names.items():
            if symbol in self._wanted:
                self._learn(symbol, contracts)
        self._keys: dict[int, Key] = {}

    @property
    def symbols(self) -> list[str]:
        return list(self._wanted)

    def wanted(self, key: Key) -> dict[str, Any]:
        """The fields of ib_async's Contract that ask for ``key``."""
        symbol, _, contract = key
        if symbol not in self._wanted:
            raise ConfigError(f"[instrument.{symbol}] is not traded at Interactive Brokers")
        wanted = self._wanted[symbol]
        fields = {"symbol": wanted.root, "exchange": wanted.exchange, "currency": wanted.instrument.currency}
        if wanted.kind == "STK":
            return fields | {"secType": "STK", "primaryExchange": wanted.more}
        if not contract:  # any month has the same hours and terms
            return fields | {"secType": "FUT", "tradingClass": wanted.more}
        month = self._month(symbol, contract)
        self._names[symbol, month] = contract
        when = f"{month // 12:04d}{month % 12 + 1:02d}"
        fields |= {"secType": "FUT", "tradingClass": wanted.more, "lastTradeDateOrContractMonth": when}
        return fields | {"includeExpired": True}  # it may be held to its end

    def learn(self, con_id: int, key: Key) -> None:
        self._keys[con_id] = key

    def key(self, contract: Any) -> Key:
        """Our key of one of IB's contracts; IB's own name for one that is not in the config."""
        if contract.conId in self._keys:
            return self._keys[contract.conId]
        symbol = self._by_root.get((contract.secType, contract.symbol, contract.currency))
        if symbol is None:
            return contract.localSymbol or contract.symbol, "spot" if contract.secType == "STK" else "futures", ""
        if contract.secType == "STK":
            return symbol, "spot", ""
        return symbol, "futures", self._names.get((symbol, self._month_of(contract)), contract.localSymbol)

    def _month_of(self, contract: Any) -> int:
        """The month of its name, which need not be that of its last trade: crude oil of December ends in November."""
        try:
            return month_of(contract.localSymbol, self._near)
        except UnreadableError:
            months = re.match(r"(\d{4})(\d{2})", contract.lastTradeDateOrContractMonth)
            return int(months[1]) * 12 + int(months[2]) - 1 if months else -1

    def _learn(self, symbol: str, contracts: Iterable[str]) -> None:
        for contract in contracts:
            try:
                self._names[symbol, self._month(symbol, contract)] = contract
            except UnreadableError:
                continue  # it was never traded by us

    def _month(self, symbol: str, contract: str) -> int:
        return month_of(contract, self._near, self._wanted[symbol].instrument.last_trade_dates)


class _Wanted:
    """How one instrument is asked for: ``contracts = ES: ES@CME, SI: SI@COMEX/SI``, or the spot ticker at SMART."""

    def __init__(self, section: IbBroker, instrument: Instrument) -> None:
        self.instrument, symbol = instrument, instrument.symbol
        self.kind = "FUT" if instrument.trade_market == "futures" else "STK"
        given = section.contracts.get(symbol)
        if given is None and self.kind == "FUT":
            raise ConfigError(
                f"[instrument.{symbol}] trades futures: say where, such as [broker.*] contracts = {symbol}: ES@CME"
            )
        listing = read(given or f"{instrument.spot}@SMART")
        if listing is None:
            raise ConfigError(f"[broker.*] contracts = {symbol}: {given}: expected SYMBOL@EXCHANGE, such as ES@CME")
        self.root, self.exchange, self.more = listing


def zone(details: Any) -> ZoneInfo:
    """The time zone of a contract's dates."""
    return ZoneInfo(details.timeZoneId)


def last_trade(details: Any) -> date | None:
    """The date of a contract's last trade; None if it has none."""
    text = details.contract.lastTradeDateOrContractMonth
    return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) >= 8 else None


def hours(details: Any, now: datetime) -> Hours:
    """Whether its market takes orders now, by the hours that IB gives for the next days."""
    place = zone(details)
    futures = details.contract.secType == "FUT"
    text = details.tradingHours if futures else details.liquidHours
    spans = sorted(_span(day, place) for day in text.split(";") if day and not day.endswith("CLOSED"))
    is_open = any(begins <= now < ends for begins, ends in spans)
    return Hours(is_open, next((begins for begins, _ in spans if begins > now), None))


def _span(text: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """``20251128:0930-20251128:1600`` in the contract's time zone."""
    begins, ends = (datetime.strptime(part, "%Y%m%d:%H%M").replace(tzinfo=zone) for part in text.split("-"))
    return begins.astimezone(UTC), ends.astimezone(UTC)


def contradictions(instrument: Instrument, details: Any) -> list[str]:
    """What the config says of an instrument and IB's contract does not have."""
    tick = Decimal(str(details.minTick))
    value = Decimal(details.contract.multiplier or 1) / Decimal(int(details.priceMagnifier) or 1)
    ours = instrument.multiplier * instrument.quote_unit
    lot = Decimal(str(details.sizeIncrement or 1))
    return [
        text
        for text in (
            "" if not instrument.tick % tick else f"tick = {instrument.tick:f}: IB takes prices in steps of {tick:f}",
            ""
            if ours == value
            else f"multiplier x quote_unit = {ours:f}: one point is worth {value:f} {details.contract.currency} at IB",
            "" if not instrument.lot % lot else f"lot = {instrument.lot:f}: IB takes quantities in steps of {lot:f}",
        )
        if text
    ]


def misdated(instrument: Instrument, details: Any) -> str:
    """What the config says of the last trade of a contract, if that is another day at IB; empty otherwise."""
    theirs, month = last_trade(details), str(details.contractMonth or "")[:6]
    if theirs is None or len(month) < 6 or instrument.last_trade is None:
        return ""
    number = int(month[:4]) * 12 + int(month[4:]) - 1
    ours = expiry.day(instrument.last_trade, number, instrument.hours_of("futures")).astype("datetime64[D]").item()
    name = f"{details.contract.tradingClass or details.contract.symbol}{LETTERS[number % 12]}{month[2:4]}"
    if not isinstance(ours, date) or ours == theirs or name in instrument.last_trade_dates:
        return ""
    return (
        f"last_trade of {name} is {ours} by the config and {theirs} at IB: correct the rule, or write last_trade_dates"
        f" = {name}: {theirs}"
    )
