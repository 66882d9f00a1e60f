"""Which of Interactive Brokers' contracts a request is for, and their names here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from alphapivot.calendar.contracts import LETTERS
from alphapivot.feeds.wire import RefusedError
from alphapivot.venues.ib import listing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from alphapivot.config.sections.instrument import Instrument, Market


@dataclass(frozen=True)
class Wanted:
    """A contract to ask for: ``name`` here (empty for a share), IB's ``contract``, its bars of (``begin``, ``end``]."""

    name: str
    contract: Any
    begin: datetime
    end: datetime


def asked(instrument: Instrument, market: Market) -> dict[str, Any]:
    """The fields of ib_async's Contract for which details are requested; RefusedError for a ticker that is none."""
    ticker = getattr(instrument, market)
    if ticker is None:
        raise RefusedError(f"[instrument.{instrument.symbol}] has no {market} ticker")
    place = listing.read(ticker if "@" in ticker or market == "futures" else f"{ticker}@SMART")
    if place is None:
        raise RefusedError(
            f"[instrument.{instrument.symbol}] {market} = {ticker}: expected SYMBOL@EXCHANGE, such as ES@CME"
        )
    fields = {"symbol": place.root, "exchange": place.exchange, "currency": instrument.currency}
    if market == "spot":
        return fields | {"secType": "STK", "primaryExchange": place.more}
    return fields | {"secType": "FUT", "tradingClass": place.more, "includeExpired": True}


def share(found: list[Any], text: str) -> Any:
    """The only contract among the details of a share; RefusedError for none or several."""
    ids = {details.contract.conId: details for details in found}
    if not ids:
        raise RefusedError(f"Interactive Brokers has no share {text}: is the ticker right, and its currency?")
    if len(ids) > 1:
        some = ", ".join(f"{d.contract.symbol}@SMART/{d.contract.primaryExchange}" for d in list(ids.values())[:3])
        raise RefusedError(f"Interactive Brokers has {len(ids)} shares {text}: say which, such as {some}")
    return next(iter(ids.values())).contract


def futures(found: Iterable[Any], text: str, begin: datetime, end: datetime, days: int) -> list[Wanted]:
    """
    The contracts that are in their last ``days`` before their last trade within (``begin``, ``end``], by their end.
    RefusedError for none, and where several classes have one symbol.
    """
    details = sorted(found, key=lambda d: d.contract.lastTradeDateOrContractMonth)
    if not details:
        raise RefusedError(f"Interactive Brokers has no futures {text}: are symbol, exchange and currency right?")
    classes = {d.contract.tradingClass for d in details}
    if len(classes) > 1:
        one = f"{details[0].contract.symbol}@{details[0].contract.exchange}/{min(classes)}"
        raise RefusedError(f"{text} are of the classes {', '.join(sorted(classes))}: say which, such as {one}")
    wanted = []
    for each in details:
        last = _day(each.contract.lastTradeDateOrContractMonth)
        since = begin if last is None else max(begin, _at(begin, last - timedelta(days=days)))
        until = end if last is None else min(end, _at(end, last + timedelta(days=2)))  # its session ends by then
        if since < until:
            each.contract.includeExpired = True
            wanted.append(Wanted(name(each), each.contract, since, until))
    if not wanted:
        raise RefusedError(f"none of the {len(details)} futures {text} trades from {begin:%Y-%m-%d} to {end:%Y-%m-%d}")
    return wanted


def name(details: Any) -> str:
    """
    A contract's name here: its class, month letter and two digits of its year. IB's own has one digit (ESZ5), which
    comes again after ten years, and the month of its last trade is not always that of its name (crude oil).
    """
    month = details.contractMonth or details.contract.lastTradeDateOrContractMonth
    root = details.contract.tradingClass or details.contract.symbol
    return f"{root}{LETTERS[int(month[4:6]) - 1]}{month[2:4]}"


def _day(text: str) -> date | None:
    return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) >= 8 else None


def _at(like: datetime, day: date) -> datetime:
    return like.replace(year=day.year, month=day.month, day=day.day, hour=0, minute=0, second=0, microsecond=0)
