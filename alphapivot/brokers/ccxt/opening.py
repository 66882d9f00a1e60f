"""Opens an account at a crypto exchange, and compares the terms in config.ini with the exchange's own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from alphapivot.brokers.ccxt.broker import Exchange
from alphapivot.brokers.ccxt.ledger import Ledger
from alphapivot.brokers.ccxt.names import MARKETS, Names
from alphapivot.brokers.ccxt.rows import Row, number
from alphapivot.brokers.ccxt.wire import Wire
from alphapivot.brokers.registry import Terms
from alphapivot.config.sections.brokers import CcxtBroker
from alphapivot.errors import ConfigError
from alphapivot.venues.ccxt.client import Client
from alphapivot.venues.ccxt.dated import EACH
from alphapivot.venues.ccxt.facts import VENUES

if TYPE_CHECKING:
    from decimal import Decimal

    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.venues.ccxt.facts import Venue


def open_exchange(hub: Hub | None, settings: Settings, environ: Mapping[str, str] = os.environ) -> Exchange:
    """
    The account of [execution] broker, without sending a request. Raises ConfigError for an exchange that is not known
    well enough to send orders to, for instruments that it cannot trade, and without keys.
    """
    section, name = settings.brokers[settings.execution.broker], settings.execution.broker
    place = f"[broker.{name}]"
    if not isinstance(section, CcxtBroker):
        raise ConfigError(f"{place} is not a crypto exchange but {section.kind}")
    venue = _venue(section, place)
    traded = {symbol: i for symbol, i in settings.instruments.items() if i.tradable}
    problems = [problem for instrument in traded.values() for problem in _problems(instrument, section)]
    if problems:
        raise ConfigError(f"{place} cannot trade\n  " + "\n  ".join([*problems, "set tradable = no there"]))
    client = Client(
        section.exchange,
        venue,
        venue.ways[section.trades],
        _keys(section, venue, place, environ),
        place=place,
        sandbox=section.account == "paper",
        base_url=section.base_url,
        timeout=section.timeout,
    )
    tickers = {symbol: _ticker(instrument, section) for symbol, instrument in traded.items()}
    ledger = None if hub is None else Ledger(hub, settings.execution.book)
    return Exchange(section, venue, Names(tickers, section.trades), Wire(client), ledger)


def _venue(section: CcxtBroker, place: str) -> Venue:
    venue = VENUES.get(section.exchange)
    if venue is None:
        raise ConfigError(
            f"{place} exchange = {section.exchange}: orders go to {', '.join(sorted(VENUES))} only, whose stops, ids"
            " and errors are known and tested; as a feed ([feed.*] kind = ccxt) any exchange of ccxt will do"
        )
    if section.trades not in venue.ways:
        raise ConfigError(f"{place} trades = {section.trades}: at {venue.name} only {', '.join(venue.ways)}")
    return venue


def _keys(section: CcxtBroker, venue: Venue, place: str, environ: Mapping[str, str]) -> dict[str, str]:
    wanted = {ours: f"{section.exchange.upper()}_{name}" for ours, name in venue.keys.items()}
    missing = [name for name in wanted.values() if not environ.get(name)]
    if missing:
        kind = "sandbox" if section.account == "paper" else "real account"
        raise ConfigError(
            f"{place} needs {' and '.join(missing)} in the environment: a key of {venue.name}'s {kind} that may read"
            " and trade, and not withdraw"
        )
    return {ours: environ[name] for ours, name in wanted.items()}


def _ticker(instrument: Instrument, section: CcxtBroker) -> str:
    market = MARKETS[section.trades]
    return section.symbols.get(instrument.symbol) or str(getattr(instrument, market))


def _problems(instrument: Instrument, section: CcxtBroker) -> Iterator[str]:
    """What no order could be made of."""
    place, market = f"[instrument.{instrument.symbol}]", MARKETS[section.trades]
    if instrument.trade_market != market:
        yield f"{place}: it trades its {instrument.trade_market} market, and the account {section.trades}"
        return
    ticker = _ticker(instrument, section)
    shape = f"/{section.currency}" + (f":{section.currency}" if market == "futures" else "")
    shape += EACH if section.trades == "future" else ""
    if not ticker.endswith(shape) or len(ticker) == len(shape):
        base = ticker.partition("/")[0].partition("-")[0]
        yield f"{place}: {ticker} is not a {section.trades} market paid in {section.currency}, such as {base}{shape}"
    if instrument.currency != section.currency:
        yield f"{place}: it is in {instrument.currency}, the account in {section.currency}"
    if instrument.calendar != "24/7":
        yield f"{place}: its calendar is {instrument.calendar}, and the exchange trades at all hours: calendar = 24/7"
    if instrument.quote_unit != 1:
        yield f"{place}: its quote_unit is {instrument.quote_unit:f}, and prices are in {section.currency}: 1"


def compare(hub: Hub, settings: Settings, environ: Mapping[str, str] = os.environ, *, again: bool = True) -> Terms:  # noqa: ARG001 - markets are read by each run anyway
    """Ticks, lots and multipliers of the tradable instruments that the exchange's markets contradict."""
    broker, place = open_exchange(hub, settings, environ), f"[broker.{settings.execution.broker}]"
    wrong, cautions, told = list[str](), list[str](), list[str]()
    for symbol, wanted in broker.tickers.items():
        instrument, listed = settings.instruments[symbol], broker.listed(symbol)
        if not listed:
            wrong.append(f"[instrument.{symbol}] {wanted} is not a market of {broker.name}")
        for ticker in listed:
            wrong += _contradictions(instrument, broker.markets[ticker])
            if broker.markets[ticker].get("active") is False:
                cautions.append(f"[instrument.{symbol}] {ticker} is suspended at {broker.name} at present")
            if instrument.trade_market == "futures":
                present = broker.setting(ticker)
                told.append(f"{ticker}: {present}")
                wrong += [f"{place} {problem}" for problem in broker.contradictions(ticker, present)]
                cautions += _too_little(instrument, present.times, broker.name)
    return Terms(wrong, [*dict.fromkeys(cautions), *broker.cautions()], told)


def _too_little(instrument: Instrument, leverage: Decimal, exchange: str) -> Iterator[str]:
    """A margin in the config that is less than what the exchange takes at a leverage."""
    margin = instrument.versions[-1].margin
    if leverage and margin * leverage < 1:
        yield (
            f"[instrument.{instrument.symbol}] margin = {margin:f}, and at leverage {leverage:f} {exchange} takes"
            f" {1 / leverage:.4g} of the notional"
        )


def _contradictions(instrument: Instrument, market: Row) -> Iterator[str]:
    ticker, terms = market["symbol"], instrument.versions[-1]
    tick, step = number(market["precision"]["price"]), number(market["precision"]["amount"])
    least, size = number(market["limits"]["amount"].get("min")), number(market.get("contractSize") or 1)
    wrong = {}
    if tick and terms.tick % tick:
        wrong["tick"] = terms.tick, f"prices of {ticker} move in steps of {tick:f}", tick
    if step and terms.lot % step:
        wrong["lot"] = terms.lot, f"quantities of {ticker} in steps of {step:f}", max(step, least)
    elif terms.lot < least:
        wrong["lot"] = terms.lot, f"{least:f} {ticker} are the least of one order", least
    if terms.multiplier != size:
        wrong["multiplier"] = terms.multiplier, f"a contract of {ticker} is {size:f}", size
    for name, (ours, theirs, value) in wrong.items():
        yield f"[instrument.{instrument.symbol}] {name} = {ours:f}, and {theirs}: write {name} = {value:f}"
