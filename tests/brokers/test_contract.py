"""The contract of the Broker port, for every broker."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pandas as pd
import pytest

from alphapivot.brokers.alpaca.broker import Alpaca
from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Account,
    Attached,
    Broker,
    BrokerOrder,
    Duplicate,
    OrderSpec,
    Ref,
    Rejected,
)
from alphapivot.brokers.ccxt import cash
from alphapivot.brokers.ib.broker import InteractiveBrokers
from alphapivot.brokers.ib.contracts import Book
from alphapivot.brokers.ib.opening import login
from alphapivot.brokers.paper.broker import Paper
from alphapivot.config.sections.brokers import AlpacaBroker, IbBroker, PaperBroker
from alphapivot.venues.ccxt.facts import VENUES
from alphapivot.venues.ib.link import Link
from tests import rigs
from tests.brokers import alpaca_server, ccxt_rig, ib_server, kite_rig, kite_server
from tests.brokers.fake import POOR, UNIQUE, Fake
from tests.rigs import KEY, NOW, BrokerRig, instrument

CCXT = [f"{exchange} {trades}" for exchange, venue in VENUES.items() for trades in venue.ways]
DAY = timedelta(days=1)
D = Decimal


def pytest_generate_tests(metafunc):
    rigs.parametrize(metafunc, "bench", ["paper", "alpaca", "ib", "kite", *CCXT, "poor", "unique"])


@pytest.fixture
def alpaca():
    """Alpaca's server."""
    made = alpaca_server.Alpaca()
    made.clock = lambda: NOW
    made.account |= dict.fromkeys(("cash", "equity", "non_marginable_buying_power"), "100000")
    yield made
    made.close()


@pytest.fixture
def gateway():
    """Interactive Brokers' gateway."""
    pytest.importorskip("ib_async")
    made = ib_server.Gateway()
    made.clock = lambda: NOW
    made.add(ib_server.Contract(1, "A", hours="20260104:0000-20260131:2359"))
    yield made
    made.close()


@pytest.fixture
def zerodha(monkeypatch, tmp_path):
    """Zerodha's server, and a login of today."""
    pytest.importorskip("kiteconnect")
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    kite_rig.log_in()
    made = kite_server.Kite()
    made.clock = lambda: NOW
    yield made
    made.close()


@pytest.fixture
def crypto(request):
    """A function from an exchange and what is traded there to its server."""
    pytest.importorskip("ccxt")
    made = []

    def serve(exchange, trades):
        made.append(ccxt_rig.SERVERS[exchange](perpetual=trades != "spot"))
        base = "A-260327" if trades == "future" else "A"
        made[-1].clock, made[-1].prices, made[-1].pairs = lambda: NOW, {base: D(100)}, {base: ("0.01", "1")}
        return made[-1]

    yield serve
    for market in made:
        market.close()


@pytest.fixture
def bench(request, tmp_path):
    if theirs := rigs.named(request.param, tmp_path) or coins(request):
        return theirs
    if request.param == "alpaca":
        remote = request.getfixturevalue("alpaca")

        def move(price, ts):
            remote.clock = lambda: ts
            remote.move("A", price)

        broker = Alpaca(AlpacaBroker(base_url=remote.url, timeout=60), {"A": "A"}, "key", "secret")
        return BrokerRig(broker, move, credit=lambda amount: remote.cash("CSD" if amount > 0 else "CSW", amount, NOW))
    if request.param == "ib":
        gateway = request.getfixturevalue("gateway")
        section = IbBroker(currency="USD", port=gateway.port, timeout=60)
        broker = InteractiveBrokers(section, Book(section, {"A": instrument("A", "A")}, {}, NOW), Link(login(section)))
        return BrokerRig(broker, lambda price, ts: gateway.move("A", price, ts))
    if request.param == "kite":
        market = request.getfixturevalue("zerodha")

        def trade(price, ts):  # its orders end with the day: a day of the rig is a minute of it
            market.move("A", price, NOW + (ts - NOW) / (24 * 60))

        terms = instrument("A", "A").model_copy(update={"currency": "INR", "calendar": "24/7"})
        return BrokerRig(kite_rig.broker(market, {"A": terms}, timeout=60), trade, shorts=False)
    if request.param != "paper":
        fake = Fake(tmp_path / "fake", NOW, POOR if request.param == "poor" else UNIQUE)
        return BrokerRig(fake, lambda price, ts: fake.move(KEY, price, at=ts), lambda: fake.set(open=False))
    terms = instrument("A", "a").model_copy(update={"currency": "EUR", "calendar": "24/7"})
    paper = Paper(
        request.getfixturevalue("hub").engine, "contract", PaperBroker(cash=100_000, currency="EUR"), {"A": terms}
    )

    def replay(price, ts):
        row = {"symbol": "A", "market": "spot", "contract": "", "interval": "1d", "ts": ts, "start": ts - DAY}
        prices = dict.fromkeys(("open", "high", "low", "close"), float(price))
        paper.advance(pd.DataFrame([row | prices | {"volume": 1000.0}]), {"EUR": D(1)})

    return BrokerRig(paper, replay)


def coins(request):
    """The rig of a crypto exchange; None for other brokers."""
    if request.param not in CCXT:
        return None
    exchange, trades = request.param.split()
    market = request.getfixturevalue("crypto")(exchange, trades)
    broker = ccxt_rig.broker(market, exchange)
    told = (exchange, trades) in cash.LEDGERS

    def credit(amount):
        market.transfer(amount, at=NOW)

    return BrokerRig(
        broker,
        lambda price, ts: market.move(next(iter(market.pairs)), price, ts),
        credit=credit if told else None,
        shorts=market.perpetual,
        key=("A", "futures" if market.perpetual else "spot", "A/USDT:USDT-260327" if market.dated else ""),
    )


def test_it_speaks_the_port(bench):
    assert isinstance(bench.broker, Broker)
    assert bench.broker.caps.id_max_len >= 20


def test_an_empty_account_has_its_cash_and_nothing_else(bench):
    account = bench.broker.account()
    assert isinstance(account, Account)
    assert account.cash == account.equity == account.free == 100_000
    assert (bench.broker.positions(), bench.broker.open_orders(), bench.broker.fills(NOW - DAY)) == ({}, [], [])


def test_what_it_accepts_it_finds_by_our_id_and_lists_as_open(bench):
    answer = bench.broker.submit(bench.entry())
    assert isinstance(answer, Accepted)
    order = bench.find("AP1")
    assert (order.state, order.cum_qty, order.qty, order.key, order.side) == ("NEW", 0, 10, bench.key, "BUY")
    assert order.broker_order_id == answer.broker_order_ids["AP1"]
    assert "AP1" in {o.client_order_id for o in bench.broker.open_orders()}


def test_an_order_that_it_never_had_is_absent_and_proven_so(bench):
    assert bench.find("AP9") == Absent()


def test_a_market_order_fills_and_moves_position_and_cash_by_its_fills(bench):
    bench.broker.submit(bench.entry())
    bench.trade(100)
    assert bench.broker.positions() == {bench.key: 10}
    (fill,) = bench.broker.fills(NOW)
    assert "AP1" in (fill.client_order_id, named(bench, fill.broker_order_id))
    assert (fill.qty, fill.price, fill.cash) == (10, 100, -1000)
    assert bench.broker.account().cash == 100_000 - 1000 - fill.fee
    order = bench.find("AP1")
    assert (order.state, order.cum_qty, order.avg_price) == ("FILLED", 10, 100)


def test_cash_that_moves_without_a_trade_is_told_by_its_date_with_an_id_that_stays_or_not_at_all(bench):
    since = NOW.date()
    if bench.broker.cash_flows(since) is None:
        assert bench.credit is None
        return
    assert bench.broker.cash_flows(since) == []
    if bench.credit is None:
        pytest.skip("this rig moves no cash")
    bench.credit(D(500))
    bench.credit(D(-200))
    flows = bench.broker.cash_flows(since)
    assert [(f.amount, f.kind, f.dated) for f in flows] == [(500, "deposit", since), (-200, "withdrawal", since)]
    assert len({f.flow_id for f in flows}) == 2
    bench.broker.submit(bench.entry())
    bench.trade(100)
    assert bench.broker.cash_flows(since) == flows, "fills are no movements, and ids stay"
    assert bench.broker.cash_flows(since + DAY) == []
    assert bench.broker.account().cash == 100_300 - 1000 - bench.broker.fills(NOW)[0].fee


def named(bench, theirs):
    """Our id of the order of a fill that has only the broker's id."""
    return theirs and bench.find("AP1").broker_order_id == theirs and "AP1"


def test_a_cancelled_order_never_fills_and_a_final_one_is_left_alone(bench):
    bench.broker.submit(bench.entry())
    bench.broker.cancel(Ref("AP1", None, "AP1", "ENTRY"))
    assert bench.find("AP1").state == "CANCELED"
    bench.trade(100)
    assert bench.broker.positions() == {}
    bench.broker.cancel(Ref("AP1", None, "AP1", "ENTRY"))
    assert bench.find("AP1").state == "CANCELED"


def test_an_id_that_is_sent_twice_while_its_order_is_open_is_refused_or_doubles_the_order_as_the_caps_say(bench):
    bench.broker.submit(bench.entry())
    again = bench.broker.submit(bench.entry())
    bench.trade(100)
    if again == Duplicate():
        assert bench.broker.positions() == {bench.key: 10}
    else:
        assert not bench.broker.caps.idempotent_submit
        assert bench.broker.positions() == {bench.key: 20}


def test_fills_are_told_from_an_instant_on_each_with_an_id_of_its_own(bench):
    bench.broker.submit(bench.entry("AP1"))
    bench.trade(100)
    bench.broker.submit(bench.entry("AP2"))
    bench.trade(101)
    first, second = bench.broker.fills(NOW)
    assert first.exec_id != second.exec_id
    assert bench.broker.fills(second.ts) == [second]


def test_a_stop_protects_whether_it_came_with_its_entry_or_after(bench):
    bench.broker.submit(bench.entry())
    bench.trade(100)
    if not bench.broker.caps.native_bracket:
        stop = OrderSpec("AP1S", "AP1", "STOP", *bench.key, "SELL", "STOP", D(10), NOW, D(90), (), D(1))
        assert isinstance(bench.broker.submit(stop), Accepted)
    order = bench.find("AP1S", "STOP")
    assert isinstance(order, BrokerOrder)
    assert (order.state, order.qty, order.price) == ("NEW", 10, 90)
    bench.trade(95)
    assert bench.broker.positions() == {bench.key: 10}
    bench.trade(88)
    assert bench.broker.positions() == {}
    assert bench.find("AP1S", "STOP").state == "FILLED"


def test_its_market_says_whether_it_is_open(bench):
    assert bench.broker.session(bench.key).open
    if bench.close is not None:
        bench.close()
        assert not bench.broker.session(bench.key).open
        assert bench.broker.session(bench.key).opens > NOW


def test_a_stop_that_is_replaced_protects_at_the_new_price_only(bench):
    if not bench.broker.caps.atomic_replace:
        assert isinstance(bench.broker.replace(Ref("AP1S", None, "AP1", "STOP"), bench.entry()), Rejected)
        return
    ids = dict(bench.broker.submit(bench.entry()).broker_order_ids)
    bench.trade(100)
    if not bench.broker.caps.native_bracket:  # the stop comes by itself
        stop = OrderSpec("AP1S", "AP1S", "STOP", *bench.key, "SELL", "STOP", D(10), bench.now, D(90), (), D(1))
        ids |= bench.broker.submit(stop).broker_order_ids
    at, old = bench.now, Ref("AP1S", ids["AP1S"], "AP1", "STOP")
    name = "AP1S" if bench.broker.caps.amends else "APN"
    new = OrderSpec(name, "AP1", "STOP", *bench.key, "SELL", "STOP", D(10), at, D(95), (), D(1))
    answer = bench.broker.replace(old, new)
    assert isinstance(answer, Accepted)
    again = Ref(name, answer.broker_order_ids[name], "AP1", "STOP")
    if bench.broker.caps.amends:
        assert again == old
        assert isinstance(bench.broker.replace(old, new), Accepted)  # the same again changes nothing
    else:
        assert bench.broker.find([old], NOW)["AP1S"].state == "REPLACED"
    seen = bench.broker.find([again], NOW)[name]
    assert (seen.state, seen.price, seen.qty) == ("NEW", 95, 10)
    bench.trade(94)
    assert bench.broker.positions() == {}
    assert bench.broker.find([again], NOW)[name].state == "FILLED"
    if bench.broker.caps.native_bracket:
        target = Ref("AP1T", ids["AP1T"], "AP1", "TARGET")
        assert bench.broker.find([target], NOW)["AP1T"].state == "CANCELED"


def test_a_bracket_leaves_by_one_leg_and_the_other_is_cancelled(bench):
    if not bench.broker.caps.native_bracket:
        assert isinstance(
            bench.broker.submit(replace(bench.entry(), attached=(Attached("AP1S", "STOP", D(90)),))), Rejected
        )
        return
    bench.broker.submit(bench.entry(stop=90, target=110))
    assert {bench.find(f"AP1{leg[0]}", leg).state for leg in ("STOP", "TARGET")} == {"SUSPENDED"}
    bench.trade(100)
    assert {bench.find(f"AP1{leg[0]}", leg).state for leg in ("STOP", "TARGET")} == {"NEW"}
    assert len(bench.broker.open_orders()) == 2  # the entry is final
    bench.trade(111)
    assert (bench.find("AP1T", "TARGET").state, bench.find("AP1S", "STOP").state) == ("FILLED", "CANCELED")
    assert (bench.broker.positions(), bench.broker.open_orders()) == ({}, [])


def test_an_entry_with_a_stop_alone_is_protected_by_it_at_any_price_above(bench):
    ids = bench.broker.submit(bench.entry(target=None)).broker_order_ids
    if not bench.broker.caps.native_bracket:
        assert set(ids) == {"AP1"}
        return
    assert set(ids) == {"AP1", "AP1S"}
    assert bench.find("AP1S", "STOP").state == "SUSPENDED"
    bench.trade(100)
    assert (bench.find("AP1S", "STOP").state, len(bench.broker.open_orders())) == ("NEW", 1)
    bench.trade(10_000)
    assert bench.broker.positions() == {bench.key: 10}
    bench.trade(89)
    assert (bench.find("AP1S", "STOP").state, bench.broker.positions()) == ("FILLED", {})


def test_a_short_is_the_mirror_of_a_long(bench):
    answer = bench.broker.submit(bench.entry(side="SELL", stop=110, target=80))
    bench.trade(100)
    if not bench.shorts:
        assert isinstance(answer, Rejected)
        assert (bench.broker.positions(), bench.broker.open_orders()) == ({}, [])
        return
    assert bench.broker.positions() == {bench.key: -10}
    (fill,) = bench.broker.fills(NOW)
    assert (fill.cash, bench.broker.account().cash) == (1000, 101_000 - fill.fee)
    assert bench.broker.account().equity == 100_000 - fill.fee
