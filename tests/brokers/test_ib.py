"""Interactive Brokers through its real client, against a gateway on the wire: faults, futures, what it forgets."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Attached,
    BrokerFill,
    NotSent,
    OrderSpec,
    Ref,
    Rejected,
    Unknown,
    Unreadable,
)
from alphapivot.brokers.ib import contracts
from alphapivot.brokers.ib.broker import InteractiveBrokers
from alphapivot.brokers.ib.opening import login
from alphapivot.config.sections.brokers import IbBroker
from alphapivot.config.sections.instrument import Instrument
from alphapivot.errors import ConfigError, TradingHalted, Unavailable
from alphapivot.venues.ib.link import Link
from tests.brokers import ib_server
from tests.brokers.ib_server import Contract, Gateway
from tests.rigs import instrument

pytest.importorskip("ib_async")

NOW = datetime(2026, 3, 10, 15, 0, tzinfo=UTC)
A = ("A", "spot", "")
ES = ("ES", "futures", "ESM6")
D = Decimal
HOURS = "20260309:1700-20260310:1600;20260310:1700-20260311:1600;20260314:CLOSED"


def future(symbol, **terms):
    usual = {"signal_market": "futures", "trade_market": "futures", "currency": "USD", "calendar": "CMES"}
    numbers = {"quote_unit": 1, "multiplier": 50, "tick": "0.25", "lot": 1, "margin": "0.1", "tradable": True}
    return Instrument(symbol=symbol, futures=symbol, **usual | numbers | terms)


INSTRUMENTS = {
    "A": instrument("A", "A"),
    "ES": future("ES"),
    "CORN": future("CORN", quote_unit="0.01", multiplier=5000),
    "CRUDE": future("CRUDE", tick="0.01", multiplier=1000),
}


@pytest.fixture
def gateway():
    made = Gateway()
    made.clock = lambda: NOW
    made.add(Contract(1, "A", hours="20260310:0930-20260310:1600", zone="US/Eastern"))
    usual = {"kind": "FUT", "exchange": "CME", "zone": "US/Central", "hours": HOURS}
    made.add(Contract(2, "ES", month="20260618", multiplier="50", local="ESM6", tick="0.25", **usual))
    made.add(Contract(3, "ES", month="20260918", multiplier="50", local="ESU6", tick="0.25", **usual))
    corn = usual | {"exchange": "CBOT", "magnifier": 100}
    made.add(Contract(4, "ZC", month="20260714", multiplier="5000", local="ZC   JUL 26", tick="0.25", **corn))
    yield made
    made.close()


def connected(gateway, names=None, **changes):
    values = {"currency": "USD", "port": gateway.port, "timeout": 30}
    values["contracts"] = {"ES": "ES@CME", "CORN": "ZC@CBOT"}
    section = IbBroker.model_validate(values | changes)
    instruments = {s: i for s, i in INSTRUMENTS.items() if i.spot or s in section.contracts}
    return InteractiveBrokers(section, contracts.Book(section, instruments, names or {}, NOW), Link(login(section)))


@pytest.fixture
def broker(gateway):
    return connected(gateway)


def order(name="AP1", key=A, qty=10, stop=90, target=120, kind="MARKET", price=None, legs=True, leg="ENTRY"):
    attached = (Attached(f"{name}S", "STOP", D(stop)), Attached(f"{name}T", "TARGET", D(target))) if legs else ()
    return OrderSpec(name, name, leg, *key, "BUY", kind, D(qty), NOW, price, attached)


def find(broker, name="AP1", number=None, since=NOW):
    return broker.find([Ref(name, number, name[:3], "ENTRY")], since)[name]


def test_a_bracket_waits_then_protects_and_one_leg_ends_the_other(gateway, broker):
    sent = broker.submit(order())
    assert sorted(sent.broker_order_ids) == ["AP1", "AP1S", "AP1T"]
    assert [o.transmit for o in gateway.received] == [False, False, True], "none is at the exchange before all are sent"
    assert [o.state for o in broker.open_orders()] == ["NEW", "SUSPENDED", "SUSPENDED"]
    gateway.move("A", 100)
    assert {o.client_order_id: (o.state, o.price) for o in broker.open_orders()} == {
        "AP1S": ("NEW", 90),
        "AP1T": ("NEW", 120),
    }
    gateway.move("A", "89.5")
    assert (find(broker, "AP1S").state, find(broker, "AP1T").state) == ("FILLED", "CANCELED")
    entry, stop = broker.fills(NOW)
    assert (entry.price, entry.cash, stop.price, stop.cash, stop.fee) == (100, -1000, D("89.5"), 895, D("0.35"))
    assert broker.positions() == {}
    assert broker.account().cash == 100_000 - 105 - D("0.70")


def test_prices_and_quantities_are_decimals_on_the_wire(gateway, broker):
    broker.submit(order(qty="3", stop="0.0000001", target="1E+2", kind="LIMIT", price=D("99.10")))
    entry, stop, target = gateway.orders.values()
    assert (entry.limit, str(entry.qty), stop.aux, D(target.limit)) == ("99.10", "3", "0.0000001", 100)
    assert {o.tif for o in gateway.orders.values()} == {"GTC"}


def test_an_error_that_is_no_end_leaves_the_order_alive(gateway, broker):
    gateway.errors = [(10349, "Order TIF was set to GTC based on order preset.", "lives")]
    assert isinstance(broker.submit(order()), Accepted)
    assert find(broker).state == "NEW"


def test_an_order_without_a_permanent_id_is_not_at_the_broker(gateway):
    broker = connected(gateway, timeout=2)
    broker.account()
    gateway.silent = {3}
    (client,) = gateway.clients.values()
    client.send(3, 1, "Submitted", 0, 10, 0, 0, 0, 0, 17, "", 0)  # permId 0, of some order
    assert isinstance(broker.submit(order()), Unknown)


def test_a_refused_order_is_rejected_and_nothing_rests(gateway, broker):
    gateway.errors = [(201, "Order rejected - reason: insufficient margin")] * 3
    assert broker.submit(order()) == Rejected("Interactive Brokers 201: Order rejected - reason: insufficient margin")
    assert broker.open_orders() == []


def test_an_unclear_error_proves_nothing(gateway, broker):
    gateway.errors = [(507, "Bad message length")] * 3
    answer = broker.submit(order())
    assert isinstance(answer, Unknown)
    assert "507" in answer.reason


def test_a_read_only_api_halts_and_says_what_to_clear(gateway, broker):
    gateway.errors = [(321, "Error validating request: the API interface is currently in Read-Only mode.")] * 3
    with pytest.raises(TradingHalted, match="clear Read-Only API"):
        broker.submit(order())


def test_without_an_answer_it_is_unknown_and_found_once_it_is_there(gateway):
    broker = connected(gateway, timeout=2)
    broker.account()
    gateway.silent = {3}
    assert isinstance(broker.submit(order()), Unknown)
    gateway.silent = set()
    assert find(broker) == Absent()
    gateway.mute_orders = True  # taken, and the answer is lost
    answer = broker.submit(order())
    assert isinstance(answer, Accepted)
    assert find(broker).broker_order_id == answer.broker_order_ids["AP1"]


@pytest.mark.parametrize(("moment", "there"), [("before", False), ("after", True)])
def test_a_connection_lost_in_mid_send_is_looked_up_after_reconnecting(gateway, broker, moment, there):
    broker.account()
    gateway.drop = moment
    answer = broker.submit(order())
    found = find(broker)
    assert (found != Absent()) == there
    assert isinstance(answer, Accepted if there else Unknown)


def test_a_gateway_that_does_not_run_sends_nothing_and_says_how_to_start_it(gateway, broker):
    gateway.close()
    with pytest.raises(Unavailable, match="start IB Gateway or TWS, log in, and enable its API"):
        broker.account()
    assert isinstance(broker.submit(order()), NotSent)


def test_a_login_that_is_not_finished_is_told(gateway):
    gateway.silent = {"login"}
    with pytest.raises(Unavailable, match="second factor confirmed"):
        connected(gateway, timeout=0.5).account()


def test_a_client_id_in_use_is_told(gateway, broker):
    broker.account()
    with pytest.raises(Unavailable, match="client id 17 is in use"):
        connected(gateway, timeout=1).account()


def test_a_client_id_whose_run_has_just_ended_is_tried_again(gateway, broker, monkeypatch):
    broker.account()
    begin = ib_server.Client.begin

    def refused_once(client, client_id):
        holder = gateway.clients.get(client_id)
        begin(client, client_id)
        if holder is not None:  # now the gateway notices that it has gone
            del gateway.clients[client_id]

    monkeypatch.setattr(ib_server.Client, "begin", refused_once)
    assert connected(gateway, timeout=5).account().number == "Interactive Brokers DU1234567"


@pytest.mark.parametrize("request_kind", [61, 5, 99, 7])  # positions, open and completed orders, executions
def test_a_list_that_does_not_come_is_never_an_empty_one(gateway, request_kind):
    gateway.silent = {request_kind}
    with pytest.raises(Unavailable):
        connected(gateway, timeout=0.5).positions()


def test_the_account_is_the_one_that_the_config_means(gateway):
    with pytest.raises(TradingHalted, match="DU1234567 is a paper account, and the config says live"):
        connected(gateway, account="live").account()
    gateway.account, gateway.accounts = "U7", ["U7", "U8"]
    with pytest.raises(TradingHalted, match="U7, U8: say which in number"):
        connected(gateway, account="live").account()
    with pytest.raises(TradingHalted, match="not number = U9"):
        connected(gateway, account="live", number="U9").account()
    assert connected(gateway, account="live", number="U7").account().number == "Interactive Brokers U7"


def test_what_the_night_forgets_is_not_taken_for_absent(gateway, broker):
    broker.submit(order())
    gateway.move("A", 100)
    stop = next(o for o in broker.open_orders() if o.client_order_id == "AP1S")
    gateway.move("A", 89, NOW + timedelta(minutes=1))
    gateway.night()
    gateway.clock = lambda: NOW + timedelta(days=1)
    later = connected(gateway, client_id=18)
    found = find(later, "AP1S", stop.broker_order_id)
    assert isinstance(found, Unreadable)
    assert "remembers its own day only" in found.reason
    assert isinstance(find(later, "AP7"), Unreadable), "an order of yesterday without a number is not proven absent"
    assert find(later, "AP7", since=NOW + timedelta(days=1)) == Absent()


def test_a_stop_rests_over_night_and_reconnecting_is_by_itself(gateway, broker):
    broker.submit(order())
    gateway.move("A", 100)
    stop = next(o for o in broker.open_orders() if o.client_order_id == "AP1S")
    gateway.night()
    gateway.clock = lambda: NOW + timedelta(days=1)
    ref = [Ref("AP1S", stop.broker_order_id, "AP1", "STOP")]
    # the first request may meet the end of the connection
    until(lambda: broker.find(ref, NOW)["AP1S"], lambda found: getattr(found, "state", None) == "NEW")
    assert find(broker, "AP1S", stop.broker_order_id).price == 90


def test_a_corrected_execution_is_told_and_counted_once(gateway, broker):
    broker.submit(order(legs=False))
    gateway.move("A", 100)
    (before,) = broker.fills(NOW)
    gateway.correct(0, "101.5")
    told = broker.fills(NOW)
    (after,) = [f for f in told if isinstance(f, BrokerFill)]
    (unreadable,) = [f for f in told if isinstance(f, Unreadable)]
    assert after.exec_id == before.exec_id
    assert "was corrected to 10.0 at 101.5" in unreadable.reason
    assert unreadable.broker_order_id == before.broker_order_id


def until(look, accept):
    """Asks until ``accept`` accepts the answer or its error: messages of the gateway come when they come."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            answer = look()
        except Unavailable as error:
            answer = error
        if accept(answer):
            return
    raise AssertionError(f"still {answer}")


def test_a_gateway_that_has_lost_the_servers_answers_nothing(gateway, broker):
    broker.account()
    (client,) = gateway.clients.values()
    client.error(-1, 1100, "Connectivity between IBKR and Trader Workstation has been lost.")
    until(broker.positions, lambda answer: "1100" in str(answer))
    client.error(-1, 1102, "Connectivity has been restored - data maintained.")
    until(broker.positions, lambda answer: answer == {})


def test_a_future_is_traded_by_its_month_and_worth_its_multiplier(gateway):
    broker = connected(gateway)
    broker.submit(order(key=ES, qty=2, stop=4900, target=5200))
    entry = next(iter(gateway.orders.values()))
    assert (entry.contract.local, entry.outside) == ("ESM6", True)
    gateway.move("ES", 5000)
    assert broker.positions() == {ES: 2}
    (fill,) = broker.fills(NOW)
    assert fill.cash == -2 * 5000 * 50
    account = broker.account()
    assert account.equity == 100_000 - D("0.35")
    assert account.cash == account.equity - 2 * 5000 * 50
    gateway.move("ES", 5200)
    account = broker.account()
    assert (account.cash, account.equity) == (100_000 + 2 * 200 * 50 - D("0.70"),) * 2
    assert sum(f.cash - f.fee for f in broker.fills(NOW)) == account.cash - 100_000


def test_a_price_magnifier_divides_the_value_of_a_point(gateway):
    broker = connected(gateway)
    broker.submit(order(key=("CORN", "futures", "ZCN6"), qty=1, stop=400, target=500))
    gateway.move("ZC", "450.25")
    (fill,) = broker.fills(NOW)
    assert fill.cash == -D("450.25") * 50


def test_positions_have_the_names_of_contracts_that_the_book_knows(gateway):
    gateway.positions = {2: (D(3), D(750_000)), 3: (D(-1), D(-250_000))}
    assert connected(gateway).positions() == {("ES", "futures", "ESM6"): 3, ("ES", "futures", "ESU6"): -1}
    named = connected(gateway, {"ES": ["ES_202606", "ESU2026"]}, client_id=18)
    assert named.positions() == {("ES", "futures", "ES_202606"): 3, ("ES", "futures", "ESU2026"): -1}


def test_a_position_is_in_the_contract_of_its_name_and_not_of_the_month_in_which_it_ends(gateway):
    december = Contract(7, "CL", "FUT", "NYMEX", month="20261120", multiplier="1000", local="CLZ6", delivery="202612")
    gateway.positions[gateway.add(december).con_id] = (D(2), D(140_000))
    broker = connected(gateway, {"CRUDE": ["CLX26", "CLZ26"]}, contracts={"ES": "ES@CME", "CRUDE": "CL@NYMEX"})
    assert broker.positions() == {("CRUDE", "futures", "CLZ26"): 2}


def test_orders_of_others_are_seen_and_not_cancelled(gateway, broker, caplog):
    gateway.by_hand(gateway.contracts[0], "SELL", 5)
    (seen,) = broker.open_orders()
    assert (seen.client_order_id, seen.key, seen.side, seen.qty) == ("", A, "SELL", 5)
    broker.cancel(Ref("", seen.broker_order_id, "", "EXIT"))
    assert "belongs to client id 0: cancel it there" in caplog.text
    assert broker.open_orders() == [seen]


def test_terms_are_compared_with_the_contracts(gateway):
    broker = connected(gateway)
    assert contracts.contradictions(INSTRUMENTS["ES"], broker.details(ES)) == []
    assert contracts.contradictions(INSTRUMENTS["CORN"], broker.details(("CORN", "futures", ""))) == []
    wrong = future("ES", multiplier=5, tick="0.1")
    assert contracts.contradictions(wrong, broker.details(ES)) == [
        "tick = 0.1: IB takes prices in steps of 0.25",
        "multiplier x quote_unit = 5: one point is worth 50 USD at IB",
    ]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, ""),
        ({"last_trade": "third thursday"}, ""),
        (  # Juneteenth: the exchange has a short session, and the contract ends the day before
            {"last_trade": "third friday"},
            (
                "last_trade of ESM26 is 2026-06-19 by the config and 2026-06-18 at IB: correct the rule, or write"
                " last_trade_dates = ESM26: 2026-06-18"
            ),
        ),
        ({"last_trade": "third friday", "last_trade_dates": {"ESM26": "2026-06-18"}}, ""),
    ],
)
def test_the_last_trading_day_of_a_contract_is_compared_with_the_configs(gateway, keys, told):
    details = connected(gateway).details(("ES", "futures", ""))
    assert details.contract.lastTradeDateOrContractMonth == "20260618"
    assert contracts.misdated(INSTRUMENTS["ES"].model_copy(update=keys), details) == told


def test_an_unknown_contract_is_told_and_nothing_is_sent(gateway):
    broker = connected(gateway, contracts={"ES": "EX@CME", "CORN": "ZC@CBOT"})
    answer = broker.submit(order(key=ES))
    assert isinstance(answer, NotSent)
    assert "has no contract EX CME USD FUT 202606: correct [broker.*] contracts" in answer.reason


def test_hours_are_those_of_the_contract_in_its_zone(gateway, broker):
    assert broker.session(A) == contracts.Hours(open=True, opens=None)  # 11:00 in New York
    for hour, minute, opened in ((13, 29, False), (13, 30, True), (19, 59, True), (20, 0, False)):  # 9:30 to 16:00
        gateway.clock = lambda h=hour, m=minute: datetime(2026, 3, 10, h, m, tzinfo=UTC)
        assert broker.session(A).open == opened, (hour, minute)
    gateway.clock = lambda: datetime(2026, 3, 10, 21, 30, tzinfo=UTC)  # 16:30 in Chicago
    assert not broker.session(A).open
    assert broker.session(ES) == contracts.Hours(open=False, opens=datetime(2026, 3, 10, 22, 0, tzinfo=UTC))


@pytest.mark.parametrize("given", ["ES", "ES@", "@CME", "ES@cme"])
def test_a_contract_that_cannot_be_read_names_its_key(given):
    section = IbBroker(currency="USD", contracts={"ES": given})
    with pytest.raises(ConfigError, match="expected SYMBOL@EXCHANGE, such as ES@CME"):
        contracts.Book(section, {"ES": INSTRUMENTS["ES"]}, {}, NOW)


def test_futures_need_an_exchange():
    with pytest.raises(ConfigError, match=r"contracts = ES: ES@CME"):
        contracts.Book(IbBroker(currency="USD"), {"ES": INSTRUMENTS["ES"]}, {}, NOW)
