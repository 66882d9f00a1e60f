"""Which lines of Kite's list a request is for, and what they say against the config's terms."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from alphapivot.calendar.contracts import UnreadableError, month_of
from alphapivot.calendar.expiry import day
from alphapivot.venues.kite import tickers
from alphapivot.venues.kite.instruments import FUTURES, Listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alphapivot.config.sections.instrument import Instrument, Market
    from alphapivot.venues.kite.tickers import Ticker


class UnlistedError(ValueError):
    """An instrument that Kite does not list, or that its ticker does not name; the text says what to write."""


def ticker(instrument: Instrument, market: Market, given: str | None = None) -> Ticker:
    """Its ticker or ``given``. UnlistedError if it has none, or one at an exchange that Kite does not have."""
    text = given or getattr(instrument, market)
    if text is None:
        raise UnlistedError(f"[instrument.{instrument.symbol}] has no {market} ticker")
    try:
        return tickers.read(text, market)
    except ValueError as error:
        raise UnlistedError(f"[instrument.{instrument.symbol}] {market} = {text}: {error}") from None


def chosen(listed: Sequence[Listed], wanted: Ticker, market: Market, notes: list[str]) -> list[Listed]:
    """The share or index, or all futures on the name, by expiry; what is no month's contract is noted."""
    where = str(wanted)
    if market == "spot":
        found = [one for one in listed if one.symbol == wanted.symbol and one.kind != FUTURES]
        if not found:
            raise UnlistedError(f"Kite lists no {where} today{_near(wanted.symbol, [one.symbol for one in listed])}")
        return found[:1]
    futures = sorted(
        (one for one in listed if one.kind == FUTURES and wanted.symbol in (one.name, one.symbol)),
        key=lambda one: one.expiry,
    )
    if not futures:
        raise UnlistedError(
            f"Kite lists no futures on {where} today{_near(wanted.symbol, [one.name for one in listed])}"
        )
    readable = [one for one in futures if _has_month(one)]
    if left := [one.symbol for one in futures if one not in readable]:
        notes.append(f"{where}: left out {', '.join(left)}: no contract of a month")
    return readable


def contradictions(instrument: Instrument, market: Market, found: Sequence[Listed]) -> Iterator[str]:
    """What the config says of the traded market and today's list does not: each with the line to write."""
    if market != instrument.trade_market:
        return
    for one in found:
        seen = datetime.now(UTC)
        terms = instrument.trading(seen).of(one.symbol if market == "futures" else "", seen)
        place = f"[instrument.{instrument.symbol}]"
        month = f", {one.expiry[:7]}: {one.lot:f}" if market == "futures" else ""
        if one.lot and terms.lot % one.lot:
            line = f"lot = {instrument.lot:f}{month}" if month else f"lot = {one.lot:f}"
            yield f"{place} lot is {terms.lot:f}, Kite lists {one.lot:f} for {one.symbol}: write {line}"
        if one.tick and terms.tick % one.tick:
            yield f"{place} tick is {terms.tick:f}, Kite lists {one.tick:f} for {one.symbol}: write tick = {one.tick:f}"
        if (said := _last_trade(instrument, one)) and one.expiry and said != date.fromisoformat(one.expiry):
            yield (
                f"{place} last_trade of {one.symbol} is {said}, Kite lists {one.expiry}: write last_trade_dates ="
                f" {one.symbol}: {one.expiry}"
            )


def _last_trade(instrument: Instrument, one: Listed) -> date | None:
    if one.symbol in instrument.last_trade_dates:
        return date.fromisoformat(instrument.last_trade_dates[one.symbol])
    if instrument.last_trade is None or not one.expiry:
        return None
    month = month_of(one.symbol, datetime.now(UTC))
    found = day(instrument.last_trade, month, instrument.hours_of("futures")).astype("datetime64[D]").item()
    return found if isinstance(found, date) else None


def _has_month(one: Listed) -> bool:
    try:
        month_of(one.symbol, datetime.now(UTC))
    except UnreadableError:
        return False
    return True


def _near(symbol: str, known: Sequence[str]) -> str:
    alike = [name for name in dict.fromkeys(known) if name and re.sub(r"\W", "", symbol).upper() in name.upper()][:3]
    return f"; did you mean {' or '.join(alike)}?" if alike else ""
