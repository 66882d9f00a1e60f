"""Leverage and margin mode at crypto exchanges: what is set there, and entries that could not be carried."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from alphapivot.brokers.base import Accepted, Denied, OrderSpec
from alphapivot.venues.ccxt import leverage
from alphapivot.venues.ccxt.facts import VENUES
from alphapivot.venues.ccxt.leverage import Setting
from tests.brokers import ccxt_rig

pytest.importorskip("ccxt")

D = Decimal
NOW = datetime(2026, 3, 10, 6, 0, tzinfo=UTC)
TAKER = {"binance": D("0.0005"), "bybit": D("0.0006"), "okx": D("0.0005")}  # as ccxt has them


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """A function from an exchange to its server of perpetuals: A at 100, margin at leverage 10."""
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    made = []

    def new(exchange, **changes):
        market = ccxt_rig.SERVERS[exchange](perpetual=True)
        market.clock, market.exchange = lambda: NOW, exchange
        market.pairs, market.prices = {"A": ("0.01", "0.01")}, {"A": D(100)}
        for name, value in changes.items():
            setattr(market, name, value)
        made.append(market)
        return market

    yield new
    for market in made:
        market.close()


def opened(market, **keys):
    return ccxt_rig.broker(market, market.exchange, **keys)


def entry(qty="10", stop="95", side="BUY", price=None):
    kind = "MARKET" if price is None else "LIMIT"
    price = None if price is None else D(price)
    return OrderSpec("AP1", "AP1", "ENTRY", "A", "futures", "", side, kind, D(qty), NOW, price, stop=D(stop))


@pytest.mark.parametrize("exchange", VENUES)
@pytest.mark.parametrize("mode", ["cross", "isolated"])
def test_what_the_exchange_has_set_is_read(serve, exchange, mode):
    market = serve(exchange, mode=mode, leverage=D(7))
    assert opened(market, margin_mode=mode).setting("A/USDT:USDT") == Setting(mode, D(7))


def test_a_leverage_with_a_fraction_is_read_as_it_is(serve):
    assert opened(serve("bybit", leverage=D("2.5"))).setting("A/USDT:USDT") == Setting("cross", D("2.5"))


@pytest.mark.parametrize("exchange", VENUES)
def test_an_entry_whose_margin_exceeds_what_is_free_is_denied_with_the_numbers(serve, exchange):
    market = serve(exchange)
    answer = opened(market).submit(entry(qty="20000"))  # 2,000,000 at leverage 10, and the fee
    needed = 200_000 + 2_000_000 * TAKER[exchange]
    told = f"2,000,000.00 USDT need {needed:,.2f} of margin and fee at leverage 10, and 100,000.00 are free"
    assert (answer, market.received) == (Denied(told), [])
    assert isinstance(opened(market).submit(entry(qty="9900")), Accepted)
    market.move("A", 100, NOW)
    answer = opened(market).submit(entry(qty="100"))  # its margin is 1,000 and 1,000 are left, without the fee
    assert isinstance(answer, Denied)
    assert "and 1,000.00 are free" in answer.reason


@pytest.mark.parametrize("exchange", VENUES)
def test_a_stop_beyond_liquidation_is_denied_in_isolated_margin_only(serve, exchange):
    market = serve(exchange, mode="isolated")
    broker = opened(market, margin_mode="isolated")
    # a loss of 10 leaves nothing of the margin: 90 / (1 - 0.005 - fee), for a short 110 / (1 + 0.005 + fee)
    rate = D("0.005") + TAKER[exchange]
    answer = broker.submit(entry(stop="90.4"))
    assert isinstance(answer, Denied)
    assert f"the stop at 90.4 lies beyond {90 / (1 - rate):.8g}, where {broker.name} liquidates" in answer.reason
    assert "with leverage 10: set less than 9.9 there, or cross margin" in answer.reason
    assert isinstance(broker.submit(entry(stop="109.6", side="SELL")), Denied)
    assert market.received == []
    assert isinstance(broker.submit(entry(stop="90.6")), Accepted)
    assert isinstance(broker.submit(replace(entry(stop="109.3", side="SELL"), client_order_id="AP2")), Accepted)
    other = serve(exchange)
    assert isinstance(opened(other).submit(entry(stop="1")), Accepted), "in cross margin the whole wallet stands by"


@pytest.mark.parametrize("exchange", VENUES)
def test_the_tier_of_its_size_says_what_must_be_maintained(serve, exchange):
    market = serve(exchange, mode="isolated", leverage=D(5), tiers=[(D(50_000), D("0.005")), (D(10**6), D("0.05"))])
    broker = opened(market, margin_mode="isolated")
    assert isinstance(broker.submit(entry(qty="500", stop="82")), Accepted)  # 80 / 0.9945 is below 82
    answer = broker.submit(replace(entry(qty="501", stop="82"), client_order_id="AP2"))  # 80 / 0.949 is above it
    assert "the stop at 82 lies beyond 84.2" in answer.reason


TIMES = "leverage = 3, and {} has 10 for A/USDT:USDT: set 3 there, or write leverage = 10"
MODE = "margin_mode = isolated, and {} has cross margin for A/USDT:USDT: set isolated"


@pytest.mark.parametrize(
    ("exchange", "keys", "told"),
    [
        *((exchange, {"leverage": "3"}, TIMES) for exchange in VENUES),
        *((exchange, {"margin_mode": "isolated"}, MODE) for exchange in ("binance", "bybit")),
    ],
)
def test_what_differs_from_the_config_is_denied_with_both_values(serve, exchange, keys, told):
    market = serve(exchange)
    answer = opened(market, **keys).submit(entry())
    assert isinstance(answer, Denied)
    assert told.format(VENUES[exchange].name) in answer.reason
    assert market.received == []


def test_at_okx_orders_say_the_mode_and_positions_in_another_are_told(serve):
    market = serve("okx", mode="isolated")
    assert isinstance(opened(market, margin_mode="isolated").submit(entry()), Accepted)
    market.move("A", 100, NOW)
    answer = opened(market).submit(entry())
    assert answer == Denied(
        "margin_mode = cross, and A/USDT:USDT has a position in isolated margin, which such orders do not reduce: write"
        " what it has, or close it there"
    )


def test_portfolio_margin_has_no_leverage(serve):
    answer = opened(serve("bybit", mode="portfolio")).submit(entry())
    assert "Bybit has portfolio margin for A/USDT:USDT, and no leverage: set cross margin there" in answer.reason


def test_an_exit_is_never_asked_for_its_margin(serve):
    market = serve("binance", mode="isolated", leverage=D(100))
    broker = opened(market, leverage="3")
    assert isinstance(broker.submit(replace(entry(side="SELL"), leg="EXIT", reduce_only=True, stop=None)), Accepted)


def test_coins_are_paid_in_full():
    with pytest.raises(ValueError, match=r"leverage, margin_mode: coins are paid in full; set trades = perpetual"):
        ccxt_rig.CcxtBroker(exchange="okx", currency="USDT", leverage="3", margin_mode="cross")


@pytest.mark.parametrize(
    ("side", "entry_price", "times", "published"),
    [("BUY", 10_000, 50, 9_850), ("SELL", 8_000, 40, 8_160)],  # Bybit's examples, help.bybit.com 900000181046
)
def test_liquidation_is_expected_no_farther_than_bybits_examples(side, entry_price, times, published):
    ours = leverage.liquidation(side, D(entry_price), D(times), D("0.005") + TAKER["bybit"])
    assert abs(ours - entry_price) <= abs(published - entry_price)
    assert ours == pytest.approx(published, rel=D("0.001"))


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_at_the_liquidation_price_margin_and_loss_leave_what_must_be_maintained(side):
    entry_price, times, rate, sign = D(100), D(8), D("0.02"), {"BUY": 1, "SELL": -1}[side]
    end = leverage.liquidation(side, entry_price, times, rate)
    assert entry_price / times + sign * (end - entry_price) == pytest.approx(rate * end)
    assert leverage.most(side, entry_price, end, rate) == pytest.approx(times)
