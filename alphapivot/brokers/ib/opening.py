"""Opens an Interactive Brokers account, and compares its contracts with the config's terms."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import text

from alphapivot.brokers.ib import contracts
from alphapivot.brokers.ib.broker import InteractiveBrokers
from alphapivot.brokers.registry import Terms
from alphapivot.config.sections.brokers import IbBroker
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.venues.ib.link import Link, Login, shared

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

LOOKS = 100  # added to the client id: a look disturbs no run that is connected with it
ROLLED = "SELECT symbol, array_agg(DISTINCT contract) AS contracts FROM market.roll GROUP BY symbol"


def open_ib(hub: Hub | None, settings: Settings) -> InteractiveBrokers:
    """
    The account of [execution] broker, without connecting. Raises ConfigError for instruments that it cannot trade, and
    where its client is not installed.
    """
    section = settings.brokers[settings.execution.broker]
    if not isinstance(section, IbBroker):
        raise ConfigError(f"[broker.{settings.execution.broker}] is not Interactive Brokers but {section.kind}")
    traded = {symbol: i for symbol, i in settings.instruments.items() if i.tradable}
    foreign = ", ".join(f"{i.symbol} ({i.currency})" for i in traded.values() if i.currency != section.currency)
    if foreign:
        place = f"[broker.{settings.execution.broker}]"
        raise ConfigError(f"{place} is an account in {section.currency}, not of {foreign}: set tradable = no there")
    names = {}
    if hub is not None:
        with hub.engine.connect() as conn:
            names = {row.symbol: row.contracts for row in conn.execute(text(ROLLED))}
    book = contracts.Book(section, traded, names, datetime.now(UTC))
    return InteractiveBrokers(section, book, shared(login(section)))


def login(section: IbBroker) -> Login:
    """How the account's gateway is reached."""
    return Login(section.host, section.port, section.client_id, section.timeout, section.account, section.number or "")


def logged_out(settings: Settings, opens: datetime, environ: Mapping[str, str] = os.environ) -> None:  # noqa: ARG001 - registry's signature
    """Raises Unavailable or TradingHalted, with what to do, if the gateway has no session at IB's servers now."""
    section = settings.brokers[settings.execution.broker]
    assert isinstance(section, IbBroker)  # noqa: S101 - the section that names this function
    link = Link(replace(login(section), client_id=section.client_id + LOOKS))
    try:
        for _ in range(2):  # after the first answer what the gateway says of its session has come
            link.ask(lambda ib: ib.reqCurrentTimeAsync(), "the time")
    finally:
        link.close()


def compare(hub: Hub, settings: Settings, environ: Mapping[str, str] = os.environ, *, again: bool = True) -> Terms:  # noqa: ARG001 - registry's signature
    """The terms of the tradable instruments that IB's contracts contradict: one request for each contract."""
    broker, wrong, cautions = open_ib(hub, settings), list[str](), list[str]()
    for symbol in broker.symbols:
        instrument = settings.instruments[symbol].trading(datetime.now(UTC))
        try:
            details = broker.details((symbol, instrument.trade_market, ""))
        except Unavailable as error:
            if "has no contract" not in str(error) and "say which" not in str(error):
                raise
            wrong.append(f"[instrument.{symbol}] {error}")
            continue
        wrong += [f"[instrument.{symbol}] {told}" for told in contracts.contradictions(instrument, details)]
        if told := contracts.misdated(instrument, details):
            cautions.append(f"[instrument.{symbol}] {told}")
    return Terms(wrong, cautions)
