"""An account at a crypto exchange over its server, opened as a run opens it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from alphapivot.brokers.ccxt.broker import Exchange
from alphapivot.brokers.ccxt.names import Names
from alphapivot.brokers.ccxt.wire import Wire
from alphapivot.config.sections.brokers import CcxtBroker
from alphapivot.venues.ccxt.client import Client
from alphapivot.venues.ccxt.facts import VENUES
from tests.brokers import binance_orders, bybit_orders, okx_orders

SERVERS = {"binance": binance_orders.market, "bybit": bybit_orders.market, "okx": okx_orders.market}


def ticker(symbol, *, perpetual=False, expiry=""):
    """``expiry``: YYMMDD, or * for each."""
    return f"{symbol}/USDT" + (":USDT" if perpetual or expiry else "") + (f"-{expiry}" if expiry else "")


def paid_in_usdt(settings, *, perpetual=False, expiry=""):
    """The instruments of settings as coins that are paid in USDT, or as their perpetuals or dated futures."""
    market = "futures" if perpetual or expiry else "spot"
    terms = {
        "currency": "USDT",
        "trade_market": market,
        "margin": Decimal("0.1") if market == "futures" else Decimal(1),
    }
    terms |= {"signal_market": "futures"} if expiry else {}
    return {
        symbol: i.model_copy(update=terms | {market: ticker(symbol, perpetual=perpetual, expiry=expiry)})
        for symbol, i in settings.instruments.items()
    }


def broker(server, exchange="binance", *, symbols=("A",), ledger=None, sleep=None, **keys):
    pytest.importorskip("ccxt")
    trades = "future" if server.dated else "perpetual" if server.perpetual else "spot"
    section = CcxtBroker.model_validate(
        {"exchange": exchange, "currency": "USDT", "base_url": server.url, "timeout": 5, "trades": trades} | keys
    )
    venue = VENUES[exchange]
    given = {"apiKey": server.key, "secret": server.secret, "password": "p"}
    client = Client(
        exchange,
        venue,
        venue.ways[trades],
        {name: given[name] for name in venue.keys},
        place="[broker.x]",
        sandbox=section.account == "paper",
        base_url=server.url,
        timeout=section.timeout,
    )
    names = Names(
        {s: ticker(s, perpetual=server.perpetual, expiry="*" if server.dated else "") for s in symbols}, trades
    )
    return Exchange(section, venue, names, Wire(client), ledger, sleep=sleep or (lambda _: None))
