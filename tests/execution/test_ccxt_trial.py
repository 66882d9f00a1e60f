"""`alphapivot broker test`, `check` and the modes at a crypto exchange."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import text

from alphapivot import cli
from alphapivot.venues.ccxt.facts import VENUES
from tests.brokers import ccxt_rig

pytest.importorskip("ccxt")

D = Decimal
CONFIG = """
[runtime]
feed = simulated

[feed.simulated]
kind = simulated

[timeframes]
base = 1d
weights = 1d: 1

[composite]
weights = trend: 1

[pillar.trend]

[execution]
broker = crypto
book = coins
mode = {mode}
allow_shorts = no

[broker.crypto]
kind = ccxt
exchange = {exchange}
trades = {trades}
account = {account}
currency = USDT
base_url = {url}
{keys}

[instrument.BTC]
{market} = {ticker}
calendar = {calendar}
currency = {currency}
tick = {tick}
lot = {lot}
{terms}
"""
FUTURE = "quote_unit = 1\nmultiplier = {}\nmargin = {}"
BAR = """
    INSERT INTO market.bar (symbol, market, contract, interval, ts, open, high, low, close, volume, source, ingested_at)
    VALUES ('BTC', :market, :contract, '1d', :ts, 60000, 60000, 60000, 60000, 1, 'simulated', :ts)
"""


@pytest.fixture
def tried(hub, hub_url, tmp_path, monkeypatch, capsys):
    """A function from an exchange, what is traded and words of the command line to its exit code and what it says."""
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("COLUMNS", "400")
    made = []

    def command(way, *words, **keys):
        exchange, trades = way
        perpetual, expiry = trades == "perpetual", "*" if trades == "future" else ""
        market = command.server = ccxt_rig.SERVERS[exchange](perpetual=trades != "spot")
        base = "BTC-260327" if expiry else "BTC"
        market.pairs, market.prices, market.size = {base: ("0.1", "0.001")}, {base: D(60_000)}, D(1)
        market.permissions = keys.pop("permissions", market.permissions)
        market.hedged, market.mode = keys.pop("hedged", False), keys.pop("mode_there", "cross")
        market.coins["BTC"] = D(keys.pop("coins", 0))
        made.append(market)
        for name in ("API_KEY", "API_SECRET", "API_PASSPHRASE"):
            given = {"API_KEY": market.key, "API_SECRET": market.secret, "API_PASSPHRASE": "p"}[name]
            monkeypatch.setenv(f"{exchange.upper()}_{name}", keys.pop(name, given))
        terms = {
            "exchange": exchange, "trades": trades, "url": market.url, "mode": "paper", "account": "paper",
            "market": "spot" if trades == "spot" else "futures",
            "ticker": ccxt_rig.ticker("BTC", perpetual=perpetual, expiry=expiry),
            "calendar": "24/7", "currency": "USDT", "tick": "0.1", "lot": "0.001",
            "terms": FUTURE.format(keys.pop("multiplier", "1"), keys.pop("margin", "0.1")) if trades != "spot" else "",
            "keys": "",
        }  # fmt: skip
        file = tmp_path / "config.ini"
        file.write_text(CONFIG.format(**(terms | keys)))
        code = cli.main([*words, "--config", str(file)])
        out = capsys.readouterr()
        return code, " ".join((out.out + out.err).split())

    yield command
    for market in made:
        market.close()


WAYS = [(exchange, trades) for exchange, venue in VENUES.items() for trades in venue.ways]


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_a_sandbox_that_is_ready_takes_finds_and_cancels_an_order(tried, hub, way):
    with hub.engine.begin() as conn:
        conn.execute(
            text(BAR),
            {
                "market": "spot" if way[1] == "spot" else "futures",
                "contract": "BTC/USDT:USDT-260327" if way[1] == "future" else "",
                "ts": datetime(2026, 1, 2, tzinfo=UTC),
            },
        )
    code, said = tried(way, "broker", "test")
    assert code == 0, said
    for told in (
        "no real money, equity 100,000.00 USDT",
        "open now: BTC",
        "ticks and lots of 1 instruments are the broker's",
        "buy 0.001 BTC at 30000, last 60000: accepted, found by our id (NEW)",
        "cancelled again",
        "[broker.crypto] is ready for book coins, mode = paper",
    ):
        assert told in said
    assert [(o["qty"], o["price"], o["state"]) for o in tried.server.received] == [(D("0.001"), 30_000, "CANCELED")]


def test_terms_that_the_exchange_contradicts_are_told_with_the_line_to_write(tried):
    code, said = tried(("binance", "spot"), "broker", "test", tick="0.05", lot="0.0005")
    assert code == 1
    assert "tick = 0.05, and prices of BTC/USDT move in steps of 0.1: write tick = 0.1" in said
    assert "lot = 0.0005, and quantities of BTC/USDT in steps of 0.001: write lot = 0.001" in said
    code, said = tried(("okx", "perpetual"), "broker", "test", multiplier="0.01")
    assert "multiplier = 0.01, and a contract of BTC/USDT:USDT is 1: write multiplier = 1" in said
    code, said = tried(("bybit", "spot"), "broker", "test", ticker="XYZ/USDT")
    assert "XYZ/USDT is not a market of Bybit" in said
    assert tried.server.received == []


@pytest.mark.parametrize(
    ("way", "keys", "told"),
    [
        (
            ("binance", "spot"),
            {"market": "futures", "terms": FUTURE.format(1, 1)},
            "it trades its futures market, and the",
        ),
        (("binance", "perpetual"), {"ticker": "BTC/USDT"}, "BTC/USDT is not a perpetual market paid in USDT, such as"),
        (("okx", "future"), {"ticker": "BTC/USDT:USDT"}, "BTC/USDT:USDT is not a future market paid in USDT, such as"),
        (("bybit", "spot"), {"currency": "USD"}, "it is in USD, the account in USDT"),
        (("bybit", "spot"), {"calendar": "XNYS"}, "trades at all hours: calendar = 24/7"),
        (
            ("okx", "spot"),
            {"API_PASSPHRASE": ""},
            "needs OKX_API_PASSPHRASE in the environment: a key of OKX's sandbox",
        ),
        (("binance", "spot"), {"exchange": "kraken"}, "exchange = kraken: orders go to binance, bybit, okx only"),
        (("binance", "spot"), {"account": "live"}, "mode = paper, but [broker.crypto] is the live account"),
    ],
)
def test_what_cannot_be_traded_is_refused_without_a_request(tried, way, keys, told):
    code, said = tried(way, "check", **keys)
    assert code != 0
    assert told in said
    assert tried.server.requests == []


@pytest.mark.parametrize(
    ("way", "keys", "told"),
    [
        (("bybit", "spot"), {"permissions": "read_only"}, "the API key may read and not trade"),
        (("okx", "perpetual"), {"hedged": True}, "switch the position mode to one-way"),
        (("binance", "spot"), {"API_KEY": "wrong"}, "refuses the API key"),
    ],
)
def test_a_key_or_a_setting_that_keeps_from_trading_is_told(tried, way, keys, told):
    code, said = tried(way, "broker", "test", **keys)
    assert code == 1
    assert told in said
    assert tried.server.received == []


@pytest.mark.parametrize("exchange", VENUES)
def test_leverage_and_margin_mode_are_told_and_refused_where_they_differ(tried, exchange):
    way = (exchange, "perpetual")
    code, said = tried(way, "broker", "test", keys="leverage = 10", mode="shadow", account="live")
    assert code == 0, said
    assert "BTC/USDT:USDT: cross margin, leverage 10" in said
    code, said = tried(way, "broker", "test", keys="leverage = 5\nmargin_mode = cross", margin="0.05")
    assert code == 1
    assert "[broker.crypto] leverage = 5, and" in said
    assert "has 10 for BTC/USDT:USDT: set 5 there, or write leverage = 10" in said
    assert "[instrument.BTC] margin = 0.05, and at leverage 10" in said
    assert tried.server.received == []


@pytest.mark.parametrize("exchange", VENUES)
def test_the_trial_order_is_sent_in_isolated_margin_too(tried, hub, exchange):
    """Its stop is far away: nothing of it ever fills, so nothing is liquidated."""
    with hub.engine.begin() as conn:
        conn.execute(text(BAR), {"market": "futures", "contract": "", "ts": datetime(2026, 1, 2, tzinfo=UTC)})
    code, said = tried((exchange, "perpetual"), "broker", "test", mode_there="isolated", keys="margin_mode = isolated")
    assert code == 0, said
    assert "BTC/USDT:USDT: isolated margin, leverage 10" in said
    assert "accepted, found by our id" in said


def test_leverage_of_coins_is_refused(tried):
    code, said = tried(("binance", "spot"), "check", keys="leverage = 5")
    assert code != 0
    assert "coins are paid in full; set trades = perpetual, or take it out" in said
    assert tried.server.requests == []


def test_coins_of_others_are_named_and_left_alone(tried):
    code, said = tried(("binance", "spot"), "broker", "test", mode="shadow", account="live", coins="0.5")
    assert code == 0, said
    assert "0.5 BTC are beyond this book's fills: never sold, not counted" in said
    assert "REAL MONEY, equity 100,000.00 USDT" in said
    assert "none is sent: this account trades real money" in said
    assert tried.server.received == []


def test_live_needs_its_second_key(tried, monkeypatch):
    code, said = tried(("binance", "spot"), "check", mode="live", account="live")
    assert code != 0
    assert "start with ALPHAPIVOT_LIVE=coins if you mean it" in said
    monkeypatch.setenv("ALPHAPIVOT_LIVE", "coins")
    code, said = tried(("binance", "spot"), "broker", "test", mode="live", account="live")
    assert (code, tried.server.received) == (0, [])
