"""Crypto exchanges: the real ccxt against a server that answers as Binance does; the contract has the rest."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from alphapivot.calendar.contracts import month_of
from alphapivot.config.sections.feeds import CcxtFeed
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.feeds import exchanges
from alphapivot.feeds.base import Request
from alphapivot.feeds.registry import open_feed
from tests.feeds import binance_server
from tests.feeds.http_server import serving
from tests.rigs import instrument

SINCE = pd.Timestamp("2024-07-03 11:00", tz="UTC").to_pydatetime()
UNTIL = pd.Timestamp("2024-07-03 16:30", tz="UTC").to_pydatetime()


@pytest.fixture
def server():
    pytest.importorskip("ccxt")
    with serving(binance_server.Handler) as server:
        yield server


def ask(server, *tickers, interval="1h", exchange="binance", patience=30):
    section = CcxtFeed(exchange=exchange, base_url=server.url, patience=patience)
    coins = [instrument(t.replace("/", "-"), t).model_copy(update={"calendar": "24/7"}) for t in tickers]
    return open_feed("coins", section).fetch([Request(i, "spot", interval, SINCE, UNTIL) for i in coins])


def test_pages_are_followed_and_the_candle_in_progress_is_left_out(server):
    bars = ask(server, "GOOD/USDT").bars
    assert [f"{ts:%H:%M}" for ts in bars["ts"]] == ["13:00", "14:00", "15:00", "16:00"]
    assert bars[["open", "high", "low", "close", "volume"]].iloc[0].tolist() == [1, 2, 0.5, 1.5, 10.25]
    assert len([path for path in server.asked if "klines" in path]) == 2


def test_dated_futures_come_each_with_its_contracts_name_and_those_of_a_week_are_left_out(server):
    coin = instrument("GOOD", None).model_copy(update={"calendar": "24/7", "futures": "GOOD/USDT:USDT-*", "spot": None})
    section = CcxtFeed(exchange="binance", base_url=server.url)
    bars = open_feed("coins", section).fetch([Request(coin, "futures", "1h", SINCE, UNTIL)]).bars
    closes = {contract: rows["close"].tolist() for contract, rows in bars.groupby("contract")}
    assert closes == {"GOOD/USDT:USDT-240927": [1.5] * 4, "GOOD/USDT:USDT-241227": [2.5] * 4}
    assert bars["market"].unique().tolist() == ["futures"]
    assert [month_of(name, SINCE) for name in closes] == [2024 * 12 + 8, 2024 * 12 + 11]
    none = coin.model_copy(update={"futures": "ALSO/USDT:USDT-*"})
    (problem,) = open_feed("coins", section).fetch([Request(none, "futures", "1h", SINCE, UNTIL)]).problems
    assert "binance has no dated futures ALSO/USDT:USDT-*" in problem.reason


def test_a_busy_exchange_is_asked_again_and_an_unknown_market_is_a_problem(server, monkeypatch):
    monkeypatch.setattr(exchanges, "FIRST_WAIT", 0.01)
    server.failures.append((429, {"Retry-After": "1"}, '{"code": -1003, "msg": "Too many requests"}'))
    fetched = ask(server, "GOOD/USDT", "NOBODY/USDT")
    assert len(fetched.bars) == 4
    assert "binance has no market NOBODY/USDT" in fetched.problems[0].reason
    server.failures += [(429, {}, '{"code": -1003, "msg": "Too many requests"}')] * 3
    (problem,) = ask(server, "GOOD/USDT").problems
    assert problem.transient


def test_what_it_has_not_is_told(server, monkeypatch):
    assert "has no candles of '7m'; it has 1s, 1m" in ask(server, "GOOD/USDT", interval="7m").problems[0].reason
    with pytest.raises(ConfigError, match="ccxt has no such exchange"):
        ask(server, "GOOD/USDT", exchange="binanse")
    server.shutdown()
    server.server_close()
    with pytest.raises(Unavailable, match="binance, "):
        ask(server, "GOOD/USDT", patience=0)


def test_without_the_package_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(ConfigError, match=r"\[feed.coins\] kind = ccxt needs its package: pip install --no-deps ccxt"):
        open_feed("coins", CcxtFeed(exchange="binance")).fetch([])
