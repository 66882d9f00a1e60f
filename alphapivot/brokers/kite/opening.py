"""Opens a Zerodha account, and compares the terms in config.ini with the list that Kite makes each morning."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import text

from alphapivot.brokers.kite.broker import Kite
from alphapivot.brokers.kite.ledger import Ledger
from alphapivot.brokers.kite.names import Names
from alphapivot.brokers.kite.wire import Wire
from alphapivot.brokers.registry import Terms
from alphapivot.config.sections.brokers import KiteBroker
from alphapivot.errors import ConfigError
from alphapivot.venues.kite import terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

ROLLED = "SELECT symbol, array_agg(DISTINCT contract) AS contracts FROM market.roll GROUP BY symbol"
IN_UNITS = ("NSE", "BSE", "NFO", "BFO")  # quantities there are shares of the underlying


def open_kite(hub: Hub | None, settings: Settings, environ: Mapping[str, str] = os.environ) -> Kite:
    """
    The account of [execution] broker, without sending a request. Raises ConfigError for instruments that it cannot
    trade, and without an API key.
    """
    section = settings.brokers[settings.execution.broker]
    place = f"[broker.{settings.execution.broker}]"
    if not isinstance(section, KiteBroker):
        raise ConfigError(f"{place} is not a Zerodha account but {section.kind}")
    traded = {symbol: i for symbol, i in settings.instruments.items() if i.tradable}
    problems = [problem for instrument in traded.values() for problem in _problems(instrument, section)]
    if problems:
        raise ConfigError(f"{place} cannot trade\n  " + "\n  ".join([*problems, "set tradable = no there"]))
    rolled = {}
    if hub is not None:
        with hub.engine.connect() as conn:
            rolled = {row.symbol: row.contracts for row in conn.execute(text(ROLLED))}
    names = Names(traded, rolled, section, datetime.now(UTC))
    return Kite(section, names, Wire(section, environ), Ledger(hub, settings.execution.book))


def _problems(instrument: Instrument, section: KiteBroker) -> Iterator[str]:
    """What no order could be made of."""
    place = f"[instrument.{instrument.symbol}]"
    if instrument.currency != "INR":
        yield f"{place}: it is in {instrument.currency}, the account in INR"
    if instrument.lot % 1:
        yield f"{place}: its lot is {instrument.lot:f}, and quantities are whole"
    try:
        ticker = terms.ticker(instrument, instrument.trade_market, section.symbols.get(instrument.symbol))
    except terms.UnlistedError as error:
        yield str(error)
        return
    value = instrument.multiplier * instrument.quote_unit
    if ticker.exchange in IN_UNITS and value != 1:
        yield (
            f"{place}: multiplier x quote_unit = {value:f}, and quantities at {ticker.exchange} are units of the"
            " underlying: write multiplier = 1, quote_unit = 1, and the lot in units"
        )


def compare(hub: Hub, settings: Settings, environ: Mapping[str, str] = os.environ, *, again: bool = True) -> Terms:  # noqa: ARG001 - today's list is on this machine
    """Lots, ticks and last trading days that today's list contradicts, and values of a point that positions do."""
    broker, wrong, cautions = open_kite(hub, settings, environ), list[str](), list[str]()
    for symbol in broker.symbols:
        instrument = settings.instruments[symbol]
        market = instrument.trade_market
        try:
            ticker = broker.ticker(symbol)
            listed = broker.listed(ticker.exchange)
            wrong += terms.contradictions(instrument, market, terms.chosen(listed, ticker, market, cautions))
        except terms.UnlistedError as error:
            wrong.append(f"[instrument.{symbol}] {error}")
    return Terms([*wrong, *broker.misfits()], cautions)
