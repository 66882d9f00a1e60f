"""Crypto exchanges through the real ccxt, against servers that answer in their formats: fees, triggers, faults."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import pytest

from alphapivot.brokers.base import (
    Absent,
    Accepted,
    BrokerFill,
    BrokerOrder,
    CashFlow,
    Duplicate,
    NotSent,
    OrderSpec,
    Ref,
    Rejected,
    Throttled,
    Unknown,
)
from alphapivot.brokers.ccxt import rows
from alphapivot.brokers.ccxt.ledger import Sent
from alphapivot.errors import TradingHalted, Unavailable
from alphapivot.venues.ccxt.client import Client
from alphapivot.venues.ccxt.facts import VENUES
from tests.brokers import ccxt_rig

pytest.importorskip("ccxt")

D = Decimal
NOW = datetime(2026, 3, 10, 6, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
SPOT = [(name, "spot") for name in VENUES]
PERPETUAL = [(name, "perpetual") for name in VENUES]


def ids(value):
    return " ".join(value) if isinstance(value, tuple) else None


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """A function from (exchange, what is traded there) to its server: A at 100, in steps of 0.01."""
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    made = []

    def new(way):
        exchange, trades = way
        market = ccxt_rig.SERVERS[exchange](perpetual=trades == "perpetual")
        market.clock = lambda: NOW
        market.pairs, market.prices = {"A": ("0.01", "0.01")}, {"A": D(100)}
        market.exchange = exchange
        made.append(market)
        return market

    yield new
    for market in made:
        market.close()


def opened(market, **options):
    return ccxt_rig.broker(market, market.exchange, **options)


def order(market, name="AP1", qty="10", side="BUY", leg="ENTRY", kind="MARKET", price=None, symbol="A"):
    key = (symbol, "futures" if market.perpetual else "spot", "")
    price, reduce = None if price is None else D(price), market.perpetual and leg != "ENTRY"
    return OrderSpec(name, "AP1", leg, *key, side, kind, D(qty), NOW, price, reduce_only=reduce)


def stop(market, price="90", qty="10", name="AP1S", side="SELL"):
    return order(market, name, qty, side, "STOP", "STOP", price)


def find(broker, name="AP1", leg="ENTRY", number=None):
    return broker.find([Ref(name, number, "AP1", leg)], NOW)[name]


class Remembering:
    """A ledger of what the test says was sent and is held."""

    def __init__(self, held=None, **sent):
        self.orders, self.positions = {i: Sent("A", at) for i, at in sent.items()}, held or {}

    def sent(self, ids):
        return {i: self.orders[i] for i in ids if i in self.orders}

    def held(self):
        return self.positions


# --- fees, coins, dust ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", SPOT, ids=ids)
def test_a_purchase_counts_as_what_its_fee_leaves_in_whole_steps(serve, way):
    market = serve(way)
    market.fee, broker = D("0.001"), opened(market)
    broker.submit(order(market, qty="1.23"))
    market.move("A", 100, LATER)
    # of 1.23 a fee of 0.00123 leaves 1.22877: 1.22 in whole steps, 122 USDT, and 1 USDT for fee and the rest
    (fill,) = broker.fills(NOW)
    assert (fill.qty, fill.price, fill.cash, fill.fee) == (D("1.22"), 100, -122, 1)
    assert broker.account().cash == 100_000 + fill.cash - fill.fee
    seen = find(broker)
    assert (seen.state, seen.qty, seen.cum_qty) == ("FILLED", D("1.22"), D("1.22"))
    assert isinstance(broker.submit(stop(market, qty="1.22")), Accepted)
    market.move("A", 80, LATER)
    sold = broker.fills(NOW)[-1]
    assert (sold.qty, sold.cash, sold.fee) == (D("1.22"), D("97.6"), D("0.0976"))
    assert market.coins["A"] == D("0.00877"), "less than a step stays behind"


@pytest.mark.parametrize("way", SPOT, ids=ids)
def test_pieces_of_a_purchase_add_up_to_what_is_kept_of_it_however_they_are_read(serve, way):
    market = serve(way)
    market.fee, broker = D("0.004"), opened(market)
    broker.submit(order(market, qty="1"))
    for minute, piece in enumerate(["0.01", "0.33", "0.66"]):
        market.move("A", 100, NOW + timedelta(minutes=minute), most=piece)
    # 0.996 are kept: 0.00 of the first, 0.33864 together with the second, 0.996 with the third
    fills = broker.fills(NOW)
    assert [f.qty for f in fills] == [D("0.33"), D("0.66")]
    assert sum(f.cash - f.fee for f in fills) == -100
    assert find(broker).cum_qty == D("0.99")
    (last,) = broker.fills(fills[-1].ts)
    assert last == fills[-1], "the earlier pieces are asked for though they are older"


@pytest.mark.parametrize("way", SPOT, ids=ids)
def test_a_purchase_whose_trades_are_not_listed_yet_is_not_final(serve, way):
    market = serve(way)
    market.fee, broker = D("0.001"), opened(market)
    broker.submit(order(market))
    market.move("A", 100, LATER)
    hidden, market.trades = market.trades, []
    assert (find(broker).state, find(broker).cum_qty, find(broker).qty) == ("PARTIALLY_FILLED", 0, 10)
    market.trades = hidden
    assert (find(broker).state, find(broker).cum_qty) == ("FILLED", D("9.99"))


@pytest.mark.parametrize("way", [way for way in SPOT if way[0] != "binance"], ids=ids)
def test_more_open_orders_than_fit_an_answer_are_no_list(serve, way):
    market = serve(way)
    broker = opened(market)
    for n in range(3):
        broker.submit(order(market, f"AP{n}", qty="1", kind="LIMIT", price="90"))
    assert len(broker.open_orders()) == 3
    broker._orders._way = replace(broker._orders._way, most_open=3)
    with pytest.raises(Unavailable, match="lists 3 open orders at most"):
        broker.open_orders()


def test_a_fee_in_a_third_coin_moves_no_cash_and_is_told(serve, caplog):
    market = serve(("binance", "spot"))
    market.fee, market.fee_coin, broker = D("0.001"), "BNB", opened(market)
    broker.submit(order(market))
    market.move("A", 100, LATER)
    (fill,) = broker.fills(NOW)
    assert (fill.qty, fill.fee, fill.cash) == (10, 0, -1000)
    assert "A: fees of 1 BNB were paid, which this book does not count" in caplog.text


@pytest.mark.parametrize("way", SPOT, ids=ids)
def test_coins_that_our_fills_do_not_explain_are_neither_ours_nor_counted(serve, way):
    market = serve(way)
    key = ("A", "spot", "")
    market.coins["A"] = D("12.5")
    broker = opened(market, ledger=Remembering({key: D(5)}))
    assert broker.positions() == {key: 5}
    assert (broker.account().cash, broker.account().equity) == (100_000, 100_500)
    assert broker.cautions() == ["7.5 A are beyond this book's fills: never sold, not counted"]
    market.coins["A"] = D(3)
    assert broker.positions() == {key: 3}, "fewer than our fills say is told as it is"
    assert opened(market, ledger=Remembering()).positions() == {}


@pytest.mark.parametrize("way", PERPETUAL, ids=ids)
def test_contracts_are_worth_their_size_and_cash_leaves_their_notional_out(serve, way):
    market = serve(way)
    market.size = D("0.01") if way[0] == "okx" else D(1)
    market.fee, broker = D("0.0005"), opened(market)
    broker.submit(order(market, qty="20", side="SELL"))
    market.move("A", 100, LATER)
    market.move("A", 90, LATER)
    paid, key = 20 * 100 * market.size * market.fee, ("A", "futures", "")
    (fill,) = broker.fills(NOW)
    assert (fill.qty, fill.cash, fill.fee) == (20, 2000 * market.size, paid)
    account = broker.account()
    assert broker.positions() == {key: -20}
    assert account.equity == 100_000 + 200 * market.size - paid
    assert account.cash == 100_000 + fill.cash - fill.fee


# --- what is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*SPOT, *PERPETUAL], ids=ids)
def test_prices_and_quantities_arrive_as_they_were_decided(serve, way):
    market = serve(way)
    market.pairs, market.prices = {"A": ("0.00000001", "0.00001")}, {"A": D("0.00001234")}
    broker = opened(market)
    broker.submit(order(market, qty="1234567.00001", kind="LIMIT", price="0.00001233"))
    (received,) = market.received
    assert (received["qty"], received["price"], received["kind"]) == (D("1234567.00001"), D("0.00001233"), "LIMIT")
    assert find(broker).price == D("0.00001233")


@pytest.mark.parametrize("way", [*SPOT, *PERPETUAL], ids=ids)
def test_what_the_exchange_would_refuse_is_told_with_its_numbers_and_not_sent(serve, way):
    market = serve(way)
    market.least_cost = D(10)
    broker = opened(market)
    for spec, told in [
        (order(market, qty="1.234"), "1.234 is not a multiple of 0.01, the step of quantities of A/USDT"),
        (order(market, kind="LIMIT", price="99.999"), "99.999 is not a multiple of 0.01, the tick of A/USDT"),
        (order(market, qty="0"), "0 A/USDT"),
    ]:
        answer = broker.submit(spec)
        assert isinstance(answer, Rejected)
        assert told in answer.reason
    if way[0] != "okx":  # it tells no least cost
        answer = broker.submit(order(market, qty="0.05"))
        assert "cost 5, less than 10, the least of one order" in answer.reason
    assert market.received == []
    unlisted = opened(market, symbols=("A", "B")).submit(order(market, symbol="B"))
    assert "has no market B/USDT" in unlisted.reason


@pytest.mark.parametrize("way", SPOT, ids=ids)
def test_coins_are_not_sold_short(serve, way):
    market = serve(way)
    answer = opened(market).submit(order(market, side="SELL"))
    assert "cannot be sold short on spot: set [execution] allow_shorts = no" in answer.reason
    assert market.received == []


def test_a_suspended_market_is_closed(serve):
    market = serve(("bybit", "spot"))
    market.suspended.add("A")
    assert not opened(market).session(("A", "spot", "")).open


# --- stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*SPOT, *PERPETUAL], ids=ids)
def test_a_stop_is_listed_found_cancelled_and_placed_again(serve, way):
    market = serve(way)
    broker = opened(market)
    broker.submit(order(market))
    market.move("A", 100, LATER)
    number = broker.submit(stop(market)).broker_order_ids["AP1S"]
    listed = [(o.client_order_id, o.broker_order_id, o.price, o.qty, o.side) for o in broker.open_orders()]
    assert listed == [("AP1S", number, 90, 10, "SELL")]
    assert market.received[-1]["reduce"] is market.perpetual
    broker.cancel(Ref("AP1S", number, "AP1", "STOP"))
    assert find(opened(market), "AP1S", "STOP", number).state == "CANCELED"
    assert broker.open_orders() == []
    assert isinstance(broker.submit(stop(market, "95", name="AP1S2")), Accepted)
    market.move("A", 94, LATER)
    seen = find(opened(market), "AP1S2", "STOP")
    assert (seen.state, seen.cum_qty, seen.avg_price, seen.price) == ("FILLED", 10, 94, 95)
    assert broker.positions() == {}


@pytest.mark.parametrize("way", [("okx", "spot"), ("okx", "perpetual"), ("binance", "perpetual")], ids=ids)
def test_the_fill_of_an_order_that_a_trigger_sent_is_the_stops(serve, way):
    market = serve(way)
    broker = opened(market)
    broker.submit(order(market))
    market.move("A", 100, LATER)
    number = broker.submit(stop(market)).broker_order_ids["AP1S"]
    market.move("A", 88, LATER + timedelta(minutes=1))
    fresh = opened(market)  # after a restart nothing is remembered
    assert [(f.broker_order_id, f.qty) for f in fresh.fills(LATER + timedelta(seconds=1))] == [(number, 10)]


@pytest.mark.parametrize("way", [("okx", "spot"), ("binance", "perpetual")], ids=ids)
def test_a_trigger_whose_order_fails_protects_nothing_any_more(serve, way):
    market = serve(way)
    broker = opened(market)
    broker.submit(order(market))
    market.move("A", 100, LATER)
    broker.submit(stop(market))
    market.trigger_fails = ["51008"]
    market.move("A", 80, LATER)
    assert find(broker, "AP1S", "STOP").state in ("CANCELED", "EXPIRED")
    assert broker.open_orders() == []


@pytest.mark.parametrize("way", [*SPOT, *PERPETUAL], ids=ids)
def test_a_stop_past_the_price_is_a_definite_no(serve, way):
    market = serve(way)
    market.coins["A"] = D(10)
    answer = opened(market).submit(stop(market, "101"))
    assert isinstance(answer, Rejected)
    assert market.received == []


@pytest.mark.parametrize("way", [("okx", "spot"), ("binance", "perpetual")], ids=ids)
def test_a_trigger_that_has_fired_works_until_its_order_is_listed(serve, way):
    market = serve(way)
    broker = opened(market)
    broker.submit(order(market))
    market.move("A", 100, LATER)
    broker.submit(stop(market))
    market.move("A", 88, LATER)
    hidden, market.orders = market.orders, market.orders[:1]
    assert find(broker, "AP1S", "STOP").state == "NEW"
    fired, market.triggers[0]["child"] = market.triggers[0]["child"], None
    assert find(broker, "AP1S", "STOP").state == "NEW", "nor is its number told yet"
    market.triggers[0]["child"] = fired
    market.clock = lambda: LATER + timedelta(minutes=5)
    broker.account()
    assert "has sent, cannot be found" in find(broker, "AP1S", "STOP").reason
    market.orders = hidden
    assert find(broker, "AP1S", "STOP").state == "FILLED"


def test_an_order_of_which_a_part_filled_and_the_rest_was_cancelled_is_no_filled_one(serve):
    market = serve(("bybit", "spot"))
    broker = opened(market)
    broker.submit(order(market))
    market.move("A", 100, LATER, most=4)
    broker.cancel(Ref("AP1", None, "AP1", "ENTRY"))
    assert (find(broker).state, find(broker).cum_qty, find(broker).qty) == ("CANCELED", 4, 10)


@pytest.mark.parametrize("way", [("okx", "spot"), ("bybit", "perpetual")], ids=ids)
def test_an_order_that_is_shown_no_more_was_cancelled_if_it_has_no_trades(serve, way):
    market = serve(way)
    broker = opened(market)
    number = broker.submit(order(market)).broker_order_ids["AP1"]
    broker.cancel(Ref("AP1", number, "AP1", "ENTRY"))
    market.orders.clear()
    assert find(opened(market), number=number).state == "CANCELED"
    market.trades.append(dict.fromkeys(("client", "side"), "BUY") | {"order": 1000, "base": "A", "coin": "USDT"})
    market.trades[0] |= {"id": 7, "qty": D(1), "price": D(1), "fee": D(0), "at": market.ms}
    assert "knows it no more" in find(opened(market), number=number).reason


def test_orders_of_others_are_listed_as_theirs(serve):
    market = serve(("binance", "perpetual"))
    broker = opened(market)
    opened(market).submit(replace(stop(market, "90"), client_order_id="web_1"))
    (listed,) = broker.open_orders()
    assert (listed.client_order_id, listed.key) == ("", ("A", "futures", ""))
    broker.cancel(Ref("", listed.broker_order_id, "", "EXIT"))
    assert broker.open_orders() == []


# --- answers that are lost --------------------------------------------------------------------------------------------

ARRIVED = {"500", "502", "503", "504", "html", "empty", "truncated", "dropped"}


@pytest.mark.parametrize(
    ("exchange", "fault", "kind"),
    [
        *((exchange, fault, Unknown) for exchange in VENUES for fault in sorted(ARRIVED)),
        *((exchange, "lost", Unknown) for exchange in VENUES),
        *((exchange, "429", Throttled) for exchange in VENUES),
        *((exchange, "400", Rejected) for exchange in VENUES),
        *((exchange, "funds", Rejected) for exchange in VENUES),
        *((exchange, "clock", NotSent) for exchange in VENUES),
        *((exchange, "duplicate", Duplicate) for exchange in VENUES),
        *((exchange, "internal", Unknown) for exchange in VENUES),
        *((exchange, "timeout", Unknown) for exchange in VENUES),
        ("binance", "418", Throttled),
        ("binance", "unknown", Unknown),
        ("binance", "busy", Unknown),
        ("binance", "json 500", Unknown),
    ],
)
def test_an_error_of_an_order_means_what_it_proves(serve, exchange, fault, kind):
    market = serve((exchange, "spot"))
    broker = opened(market)
    market.fault("POST /", fault)
    answer = broker.submit(order(market))
    assert type(answer) is kind
    arrived = fault in ARRIVED
    assert isinstance(find(broker), BrokerOrder if arrived else Absent)
    assert len(market.received) == arrived, "nothing is sent a second time"
    said = getattr(answer, "reason", "")
    assert not [secret for secret in (market.key, market.secret, "ignature=") if secret in said]
    if fault == "clock":
        assert "this machine's clock is wrong" in said
        assert "synchronise it" in said


@pytest.mark.parametrize("way", [*SPOT, *PERPETUAL], ids=ids)
@pytest.mark.parametrize("fault", ["keys", "permission", "address"])
def test_a_key_that_may_not_halts_and_says_what_to_check(serve, way, fault):
    market = serve(way)
    broker = opened(market)
    market.fault("POST /", "keys" if way[0] == "binance" else fault)
    with pytest.raises(TradingHalted, match="check the key, that it may trade") as halted:
        broker.submit(order(market))
    assert "this machine's address" in str(halted.value)
    assert market.received == []
    broker = opened(market)
    market.key = "another"
    with pytest.raises(TradingHalted, match="refuses the API key"):
        broker.account()


@pytest.mark.parametrize("way", [*SPOT, ("bybit", "perpetual"), ("okx", "perpetual")], ids=ids)
def test_a_key_that_may_only_read_stops_a_run_before_it_sends(serve, way):
    market = serve(way)
    market.permissions = "read_only"
    with pytest.raises(TradingHalted, match="the API key may read and not trade"):
        opened(market).account()


@pytest.mark.parametrize("way", PERPETUAL, ids=ids)
def test_hedge_mode_stops_a_run_before_it_sends(serve, way):
    market = serve(way)
    market.hedged = True
    with pytest.raises(TradingHalted, match="switch the position mode to one-way"):
        opened(market).account()


def test_no_log_holds_a_key(serve, caplog):
    market = serve(("okx", "spot"))
    caplog.set_level("DEBUG")
    opened(market).account()
    assert market.key not in caplog.text


def test_an_exchange_that_is_not_there_got_nothing(serve):
    market = serve(("binance", "spot"))
    broker = opened(market)
    broker.account()
    assert broker.markets
    market.close()
    broker._wire._client.ccxt.session.close()
    assert isinstance(broker.submit(order(market, kind="LIMIT", price="99")), NotSent)
    with pytest.raises(Unavailable, match="Binance cannot be reached"):
        broker.account()


@pytest.mark.parametrize("ledger", [None, "sent"])
def test_an_order_is_absent_only_when_its_request_can_no_longer_be_carried_out(serve, ledger):
    market, waits = serve(("binance", "spot")), []
    known = None if ledger is None else Remembering(AP1=datetime.now(UTC) - timedelta(seconds=2))
    broker = opened(market, sleep=waits.append, ledger=known)
    assert broker.caps.absence_is_final
    market.fault("POST /", "lost")
    assert isinstance(broker.submit(order(market)), Unknown)
    assert find(broker) == Absent()
    (wait,) = waits
    assert 5 < wait <= VENUES["binance"].ways["spot"].expires == 10
    restarted = opened(market, sleep=waits.append, ledger=known)
    assert find(restarted) == Absent()
    assert len(waits) == 1 + (ledger is not None), "the ledger says when it was sent"


def test_an_order_that_lands_while_absence_is_waited_for_is_found(serve):
    market = serve(("binance", "spot"))
    broker = opened(market, sleep=lambda _: market.lands())
    market.fault("POST /", "late")
    assert isinstance(broker.submit(order(market)), Unknown)
    assert find(broker).state == "NEW"


@pytest.mark.parametrize("way", [*SPOT[1:], *PERPETUAL], ids=ids)
def test_elsewhere_absence_proves_nothing(serve, way):
    broker = opened(serve(way))
    assert {broker.caps.absence_is_final, broker.caps.idempotent_submit} == {False}


def test_an_order_that_was_accepted_and_is_not_listed_yet_is_looked_for_again(serve):
    market, waits = serve(("bybit", "spot")), []
    broker = opened(market, sleep=waits.append)
    number = broker.submit(order(market)).broker_order_ids["AP1"]
    hidden, market.orders = market.orders, []
    broker._orders._sleep = lambda _: market.orders.extend(hidden)
    assert find(broker, number=number).state == "NEW"


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*SPOT, *PERPETUAL], ids=ids)
def test_more_trades_than_fit_an_answer_are_all_read_once(serve, way):
    market = serve(way)
    broker = opened(market)
    broker._orders._way = replace(broker._orders._way, page=3)
    for n in range(8):
        broker.submit(order(market, f"AP{n}", qty="1"))
        market.move("A", 100 + n, NOW + timedelta(minutes=5 * n))
    market.trades[2]["at"] = market.trades[1]["at"]
    fills = broker.fills(NOW)
    assert sorted(f.price for f in fills) == [100 + n for n in range(8)]
    assert {f.client_order_id for f in fills} == {f"AP{n}" for n in range(8)}


def test_trades_of_weeks_ago_are_read_in_the_spans_that_an_answer_covers(serve):
    market = serve(("bybit", "perpetual"))
    broker = opened(market)
    broker.submit(order(market, "AP1"))
    market.move("A", 100, NOW)
    broker.submit(order(market, "AP2"))
    market.move("A", 101, NOW + timedelta(days=20))
    broker.account()  # every run begins with it, and learns the time
    assert [f.price for f in broker.fills(NOW - timedelta(days=1))] == [100, 101]


@pytest.mark.parametrize("way", [*SPOT[1:], *PERPETUAL], ids=ids)
def test_funding_and_transfers_are_movements_of_cash(serve, way):
    market = serve(way)
    broker, day = opened(market), NOW.date()
    market.transfer("-1.25", "funding", "A", at=NOW)
    market.transfer("500", at=NOW)
    market.transfer("-200", at=NOW + timedelta(days=1))
    broker.submit(order(market))
    market.move("A", 100, LATER)
    market.clock = lambda: NOW + timedelta(days=1)
    flows = broker.cash_flows(day)
    assert [(f.dated, f.kind, f.amount) for f in sorted(flows, key=lambda f: f.amount)] == [
        (day + timedelta(days=1), "withdrawal", -200),
        (day, "interest", D("-1.25")),
        (day, "deposit", 500),
    ]
    assert all(isinstance(f, CashFlow) and f.flow_id for f in flows)
    assert broker.cash_flows(day) == flows


def test_movements_are_read_a_week_in_a_request_up_to_the_exchanges_own_clock(serve):
    market = serve(("bybit", "spot"))
    market.transfer(500, at=NOW)
    assert [flow.amount for flow in opened(market).cash_flows((NOW - timedelta(days=10)).date())] == [500]
    assert market.requests.count(("GET", "/v5/account/transaction-log")) == 2


def test_many_movements_of_cash_are_read_page_by_page(serve, monkeypatch):
    for way, name in [(("binance", "perpetual"), "PAGE"), (("okx", "spot"), "MOST")]:
        market = serve(way)
        monkeypatch.setattr(f"alphapivot.brokers.ccxt.cash.{name}", 3)
        for n in range(8):
            market.transfer(1 + n, at=NOW + timedelta(minutes=n))
        assert sorted(f.amount for f in opened(market).cash_flows(NOW.date())) == [1 + n for n in range(8)]


def test_the_movements_of_binances_spot_wallet_are_typed(serve):
    assert opened(serve(("binance", "spot"))).cash_flows(NOW.date()) is None


def test_an_execution_that_cannot_be_read_is_told_and_stops_no_other():
    terms = rows.Terms(("A", "spot", ""), "A", "USDT", D("0.01"), D(1))
    good = {"id": "1", "symbol": "A/USDT", "amount": "1", "price": "100", "side": "buy", "timestamp": 1, "fees": []}
    bad, read = rows.fills([good | {"id": "0", "timestamp": 0, "price": "x"}, good], "AP1", "A/USDT#1", terms)
    assert "trade 0 cannot be read" in bad.reason
    assert isinstance(read, BrokerFill)
    lost = rows.order({"status": "odd", "amount": "1"}, "AP1", "A/USDT#1", terms.key)
    assert "order A/USDT#1 cannot be read" in lost.reason


HOSTS = {  # what is asked for an order: in the sandbox, and where real money is
    ("binance", "spot"): ("testnet.binance.vision", "api.binance.com"),
    ("binance", "perpetual"): ("demo-fapi.binance.com", "fapi.binance.com"),
    ("bybit", "spot"): ("api-testnet.bybit.com", "api.bybit.com"),
    ("bybit", "perpetual"): ("api-testnet.bybit.com", "api.bybit.com"),
    ("okx", "spot"): ("www.okx.com", "www.okx.com"),  # the same, with a header
    ("okx", "perpetual"): ("www.okx.com", "www.okx.com"),
}


@pytest.mark.parametrize("way", [*SPOT, *PERPETUAL], ids=ids)
@pytest.mark.parametrize("sandbox", [True, False])
def test_paper_goes_to_the_sandbox_and_live_does_not(way, sandbox):
    exchange, trades = way
    venue, path = VENUES[exchange], {"binance": "order", "bybit": "v5/order/create", "okx": "trade/order"}[exchange]
    keys = dict.fromkeys(venue.keys, "k")
    made = Client(exchange, venue, venue.ways[trades], keys, place="[broker.x]", sandbox=sandbox).ccxt
    api = "fapiPrivate" if HOSTS[way][1].startswith("fapi") else "private"
    signed = made.sign(path, [api, "private"], "POST", {"clOrdId": "AP1"})
    assert urlsplit(signed["url"]).hostname == HOSTS[way][not sandbox]
    simulated = (made.headers or {}).get("x-simulated-trading")
    assert simulated == ("1" if sandbox and exchange == "okx" else None)


def test_another_address_of_an_exchange_is_asked_at_its_pace():
    venue, keys = VENUES["okx"], dict.fromkeys(VENUES["okx"].keys, "k")
    away, here = (
        Client("okx", venue, venue.ways["spot"], keys, place="[broker.x]", sandbox=False, base_url=url).ccxt
        for url in ("https://eea.okx.com", "http://127.0.0.1:9")
    )
    signed = away.sign("trade/order", ["private", "private"], "POST", {"clOrdId": "AP1"})
    assert signed["url"] == "https://eea.okx.com/api/v5/trade/order"
    assert (away.enableRateLimit, here.enableRateLimit) == (True, False)


def test_facts_are_complete():
    for name, venue in VENUES.items():
        assert venue.id_max_len >= 20, name
        for way in venue.ways.values():
            assert way.page > 0
            assert not way.triggers or way.child
