"""Zerodha through its real client, against a server that answers as documented: days, nights, gaps and faults."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from alphapivot.brokers.base import (
    Absent,
    Accepted,
    BrokerFill,
    BrokerOrder,
    NotSent,
    OrderSpec,
    Ref,
    Rejected,
    Throttled,
    Unknown,
    Unreadable,
)
from alphapivot.brokers.kite import wire
from alphapivot.brokers.kite.ledger import Ledger, Sent
from alphapivot.config import read
from alphapivot.config.sections.brokers import KiteBroker
from alphapivot.config.sections.instrument import Instrument
from alphapivot.errors import ConfigError, TradingHalted, Unavailable
from alphapivot.venues.budget import Rule, pause
from tests.brokers import kite_rig, kite_server

pytest.importorskip("kiteconnect")

D = Decimal
NOW = datetime(2026, 3, 10, 6, 0, tzinfo=UTC)  # a Tuesday, 11:30 in India: the market is open
CLOSING = datetime(2026, 3, 10, 9, 55, tzinfo=UTC)  # 15:25, five minutes before the close of shares
EVENING = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
OPENED = datetime(2026, 3, 11, 4, 0, tzinfo=UTC)  # 9:30 of the next day
EXAMPLE = Path(__file__).parents[2] / "examples" / "kite.ini"
A = ("A", "spot", "")
NIFTY = ("NIFTY", "futures", "NIFTY26MARFUT")
TERMS = {"currency": "INR", "calendar": "NSE", "quote_unit": 1, "multiplier": 1, "tradable": True}
SHARE = {"signal_market": "spot", "trade_market": "spot", "tick": "0.05", "lot": 1, "margin": 1}
FUTURE = {"signal_market": "futures", "trade_market": "futures", "tick": "0.1", "lot": 75, "margin": "0.15"}
INSTRUMENTS = {
    "A": Instrument(symbol="A", spot="A", **TERMS | SHARE),
    "SMALL": Instrument(symbol="SMALL", spot="BSE:SMALL", **TERMS | SHARE),
    "NIFTY": Instrument(symbol="NIFTY", futures="NIFTY", **TERMS | FUTURE),
}


class Remembering(Ledger):
    """A ledger of what the test says was sent."""

    def __init__(self, **sent):
        super().__init__()
        self.orders, self.owners = sent, {}

    def sent(self, ids):
        return {i: self.orders[i] for i in ids if i in self.orders}

    def triggers(self):
        return self.owners


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    kite_rig.log_in()
    made = kite_server.Kite()
    made.clock = lambda: NOW
    made.prices |= {"A": D(100), "NIFTY26MARFUT": D(25_000)}
    made.lots["NIFTY26MARFUT"] = 75
    yield made
    made.close()


@pytest.fixture
def broker(server):
    return opened(server)


def opened(server, **keys):
    made = kite_rig.broker(server, INSTRUMENTS, **keys)
    made.account()  # every run begins with it, and learns the time
    return made


def order(name="AP1", key=A, qty=10, side="BUY", leg="ENTRY", kind="MARKET", price=None):
    price = None if price is None else D(price)
    return OrderSpec(name, "AP1", leg, *key, side, kind, D(qty), NOW, price)


def stop(price=90, qty=10, name="AP1S", key=A, side="SELL"):
    return order(name, key, qty, side, "STOP", "STOP", price)


def find(broker, name="AP1", leg="ENTRY", number=None, since=NOW):
    return broker.find([Ref(name, number, "AP1", leg)], since)[name]


def bought(server, broker, price=100):
    """Ten shares of A, bought today."""
    assert isinstance(broker.submit(order()), Accepted)
    server.move("A", price)
    assert broker.positions() == {A: 10}
    return broker


def at(server, when):
    server.clock = lambda: when


def sent(server):
    """What the server received, in the terms that money depends on."""
    names = ("order_type", "product", "transaction_type", "quantity", "price", "trigger_price", "tag")
    return [tuple(row[name] for name in names) for row in server.received]


def test_fills_cost_what_zerodha_charges_on_their_day_and_side(server):
    """By its list of charges (zerodha.com/charges): each part is rounded here once, at the end."""
    section = read.load(EXAMPLE, {}).brokers["kite"]
    broker = opened(server, fees=section.fees, tables=section.tables)
    broker.submit(order())
    broker.submit(order("AP2", NIFTY, 75))
    server.move("A", 100)
    server.move("NIFTY26MARFUT", 25_000)
    broker.submit(order("AP3", qty=10, side="SELL", leg="EXIT"))
    broker.submit(order("AP4", NIFTY, 75, side="SELL", leg="EXIT"))
    server.move("A", 100)
    server.move("NIFTY26MARFUT", 25_000)
    fees = {fill.client_order_id: fill.fee for fill in broker.fills(NOW)}
    # 1,000 rupees of shares: tax 1.00, exchange and SEBI 0.0317, GST on that 0.0057; stamp duty 0.15 of a purchase
    assert (fees["AP1"], fees["AP3"]) == (D("1.19"), D("1.04"))
    # 1,875,000 of a future: exchange, SEBI and GST 42.70, brokerage and GST 23.60: some 66 to 72; stamp duty 37.50 of a
    # purchase, tax 375 of a sale (2 bps until April 2026)
    assert 37.5 + 66 < fees["AP2"] < 37.5 + 72
    assert 375 + 66 < fees["AP4"] < 375 + 72
    assert section.fee(INSTRUMENTS["NIFTY"], "SELL", date(2026, 4, 1)).bps - D("0.38") == 5


CRUDE = ("CRUDE", "futures", "CRUDEOIL26MARFUT")


def crude(multiplier):
    terms = FUTURE | TERMS | {"calendar": "MCX", "multiplier": multiplier, "lot": 1, "tick": 1}
    return {"CRUDE": Instrument(symbol="CRUDE", futures="MCX:CRUDEOIL", **terms)}


def test_at_mcx_quantities_are_lots_and_a_point_is_the_multiplier(server):
    server.prices["CRUDEOIL26MARFUT"], server.multipliers["CRUDEOIL26MARFUT"] = D(6000), 100
    server.commodity_cash = D(50_000)
    broker = kite_rig.broker(server, crude(100))
    assert broker.account().free == 50_000, "of commodities, not the 100,000 of shares"
    assert isinstance(broker.submit(order("AP1", CRUDE, 2)), Accepted)
    server.move("CRUDEOIL26MARFUT", 6000)
    server.move("CRUDEOIL26MARFUT", 6010)
    (row,) = server.received
    assert (row["exchange"], row["product"], row["quantity"]) == ("MCX", "NRML", 2)
    (fill,) = broker.fills(NOW)
    assert (broker.positions(), fill.qty, fill.cash) == ({CRUDE: 2}, 2, -2 * 100 * 6000)
    account = broker.account()
    assert (account.equity, account.cash) == (150_000 + 2 * 100 * 10, 150_000 + fill.cash)
    assert broker.misfits() == []
    (line,) = kite_rig.broker(server, crude(10)).misfits()
    assert "a point of CRUDEOIL26MARFUT is 100 rupees at Kite, and multiplier x quote_unit is 10" in line
    assert line.endswith("write multiplier = 100")


def test_without_a_table_fills_cost_nothing(server, broker):
    bought(server, broker)
    assert [fill.fee for fill in broker.fills(NOW)] == [0]


def test_shares_are_for_delivery_and_futures_are_carried_over(server, broker):
    broker.submit(order(kind="LIMIT", price="99.95"))
    broker.submit(order("AP2", NIFTY, 150))
    assert sent(server) == [
        ("LIMIT", "CNC", "BUY", 10, 99.95, 0, "AP1"),
        ("MARKET", "NRML", "BUY", 150, 0, 0, "AP2"),
    ]
    server.move("NIFTY26MARFUT", 25_010)
    assert broker.positions() == {NIFTY: 150}
    (fill,) = broker.fills(NOW)
    assert (fill.qty, fill.price, fill.cash, fill.client_order_id) == (150, 25_010, -150 * 25_010, "AP2")


@pytest.mark.parametrize(("key", "kinds"), [(A, ["SL-M"]), (("SMALL", "spot", ""), ["SL"])])
def test_a_stop_of_the_day_is_what_the_exchange_takes(server, broker, key, kinds):
    server.prices["SMALL"] = D(100)
    server.holdings[key[0]] = D(10)
    assert isinstance(broker.submit(stop(90, key=key)), Accepted)
    assert [row["order_type"] for row in server.received] == kinds
    (row,) = server.received
    assert (row["trigger_price"], row["price"]) == (90, 0 if kinds == ["SL-M"] else 87.3)  # 3 % below


def test_market_orders_have_the_protection_that_the_exchanges_demand(server):
    server.received.clear()
    for protection, bound in ((D(-1), 103), (D("1.5"), D("101.5"))):
        opened(server, protection=protection).submit(order())
        assert server.received[-1]["bound"] == bound
    with pytest.raises(ValueError, match="Zerodha refuses market orders without one; write -1"):
        KiteBroker(protection=D(0))


def test_a_refusal_that_comes_later_is_a_reject_and_is_told(server, broker):
    server.rejects = ["RMS:Margin Exceeds,Required:1000, Available:7"]
    assert isinstance(broker.submit(order()), Accepted)
    seen = find(broker)
    assert (seen.state, seen.reason) == ("REJECTED", "Kite: RMS:Margin Exceeds,Required:1000, Available:7")
    assert broker.open_orders() == []


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        ("400", Rejected, "InputException 400: Invalid quantity"),
        ("margin", Rejected, "Insufficient funds. Required margin is 2 but available margin is 1."),
        ("429", Throttled, ""),
        ("500", Unknown, "the order was refused (OrderException 500"),
        ("502", Unknown, "its order system gave no usable answer"),
        ("503", Unknown, "its order system cannot be reached"),
        ("504", Unknown, ""),
        ("html", Unknown, ""),
        ("empty", Unknown, ""),
        ("truncated", Unknown, ""),
        ("dropped", Unknown, ""),
    ],
)
def test_an_error_of_an_order_means_what_it_proves(server, broker, fault, kind, told):
    server.fault("POST /orders", fault)
    answer = broker.submit(order())
    assert isinstance(answer, kind)
    assert told in getattr(answer, "reason", "")
    arrived = fault in kite_server.ARRIVES
    assert isinstance(find(broker), BrokerOrder if arrived else Absent)
    assert len(server.received) == arrived, "nothing is sent a second time"


def test_a_token_that_is_over_halts_and_a_new_login_goes_on_without_a_restart(server, broker):
    server.token = "another"
    with pytest.raises(TradingHalted, match="run `alphapivot login kite`"):
        broker.submit(order())
    with pytest.raises(TradingHalted, match="alphapivot login kite"):
        broker.positions()
    assert server.received == []
    kite_rig.log_in("another")
    assert isinstance(broker.submit(order()), Accepted)


def test_without_a_login_nothing_is_asked_and_without_a_key_nothing_is_opened(server, broker, tmp_path):
    for file in (tmp_path / "logins").iterdir():
        file.unlink()
    before = len(server.requests)
    with pytest.raises(TradingHalted, match="nobody has logged in to Kite"):
        broker.account()
    assert len(server.requests) == before
    with pytest.raises(ConfigError, match="KITE_API_KEY in the environment"):
        wire.Wire(KiteBroker(), {})


def test_an_address_that_is_not_registered_halts_and_says_where_to_register_it(server, broker):
    server.registered = False
    with pytest.raises(TradingHalted, match=r"address of this machine among the app's at developers\.kite\.trade"):
        broker.submit(order())
    assert broker.positions() == {}, "reading goes on"


def test_a_server_that_is_not_there_got_nothing(server):
    broker = kite_rig.broker(server, INSTRUMENTS)
    server.close()
    assert isinstance(broker.submit(order()), NotSent)
    with pytest.raises(Unavailable, match="Kite cannot be reached"):
        broker.account()


def test_more_than_the_limits_of_a_day_is_handed_back_and_a_second_is_waited_for(server, monkeypatch):
    waited = []
    broker = opened(server, orders=(Rule(2, 86400, calendar=True),))
    monkeypatch.setattr(wire.time, "sleep", waited.append)
    answers = [broker.submit(order(f"AP{n}")) for n in range(3)]
    assert [type(a) for a in answers] == [Accepted, Accepted, Throttled]
    assert answers[2].retry_after > 1
    assert (len(server.received), waited) == (2, [])


def test_orders_of_all_processes_keep_ten_a_second_of_the_clock():
    past = [(100.0 + n / 100, ()) for n in range(10)]
    assert pause(past, (), wire.ORDERS, 100.5) == pytest.approx(0.5), "until the second is over"
    assert pause(past, (), wire.ORDERS, 101.0) == 0
    assert pause([(float(n), ()) for n in range(400)], (), wire.ORDERS, 59.0) > 0
    noon = 86400 / 2
    assert pause([(noon - 100, ())] * 5000, (), wire.ORDERS, noon) == noon, "until the day is over"


def test_what_is_larger_than_the_freeze_quantity_is_sent_in_slices_of_whole_lots(server):
    server.freeze["NIFTY26MARFUT"] = 1800
    broker = opened(server, freeze={"NIFTY": 1810})
    answer = broker.submit(order(key=NIFTY, qty=3750))
    assert [(row["quantity"], row["tag"]) for row in server.received] == [(1800, "AP1"), (1800, "AP1"), (150, "AP1")]
    server.move("NIFTY26MARFUT", 25_000, most=1000)
    seen = find(broker)
    assert (seen.state, seen.qty, seen.cum_qty) == ("PARTIALLY_FILLED", 3750, 2150)
    assert seen.broker_order_id == answer.broker_order_ids["AP1"] == server.received[0]["order_id"]
    server.move("NIFTY26MARFUT", 25_000)
    assert (find(broker).state, sum(f.qty for f in broker.fills(NOW))) == ("FILLED", 3750)
    assert {f.broker_order_id for f in broker.fills(NOW)} == {seen.broker_order_id}
    assert {f.client_order_id for f in broker.fills(NOW)} == {"AP1"}


def test_slices_of_which_the_last_is_refused_are_a_smaller_order(server):
    broker = opened(server, freeze={"NIFTY": 1800})
    server.fault("POST /orders", "margin")
    assert isinstance(broker.submit(order(key=NIFTY, qty=2250)), Rejected)
    assert server.received == []
    server.freeze["NIFTY26MARFUT"] = 600  # a size that the config does not know: all are refused
    assert isinstance(broker.submit(order("AP2", NIFTY, 2250)), Rejected)
    server.freeze.clear()
    server.lots["NIFTY26MARFUT"] = 1800  # the second slice, of 450, is no multiple
    assert isinstance(broker.submit(order("AP3", NIFTY, 2250)), Accepted)
    assert (find(broker, "AP3").qty, find(broker, "AP3").state) == (1800, "NEW")


def test_a_slice_that_is_rejected_later_is_no_part_of_the_order(server):
    broker = opened(server, freeze={"NIFTY": 1800})
    server.rejects = [None, "RMS:Margin Exceeds"]
    broker.submit(order(key=NIFTY, qty=3750))
    server.move("NIFTY26MARFUT", 25_000)
    assert (find(broker).state, find(broker).qty, find(broker).cum_qty) == ("FILLED", 1950, 1950)


def test_a_slice_whose_answer_is_lost_is_looked_up_with_the_others(server):
    broker = opened(server, freeze={"NIFTY": 1800})
    server.fault("POST /orders", "dropped", after=1)
    assert isinstance(broker.submit(order(key=NIFTY, qty=4050)), Unknown)
    assert find(broker).qty == 3600, "what arrived is known by its tag"
    assert [row["quantity"] for row in server.received] == [1800, 1800], "nothing follows an answer that was lost"


def test_todays_shares_are_a_position_and_tomorrows_a_holding_of_either_exchange(server, broker):
    bought(server, broker)
    before = broker.account()
    assert (before.equity, before.cash, before.number) == (100_000, 99_000, "Zerodha XX0000")
    server.night(OPENED)
    assert server.nets == {}
    assert [(row["quantity"], row["t1_quantity"]) for row in server.shares()] == [(0, 10)]
    assert broker.positions() == {A: 10}
    server.move("A", 110)
    account = broker.account()
    assert (account.equity, account.cash, account.at) == (100_100, 99_000, OPENED)
    broker.submit(order("AP2", qty=4, side="SELL", leg="EXIT"))
    server.move("A", 110)
    assert [row["quantity"] for row in server.positions()["net"]] == [-4]
    assert broker.positions() == {A: 6}
    assert (broker.account().equity, broker.account().cash) == (100_100, 99_440)


def test_futures_are_marked_to_the_last_close_and_worth_their_points(server, broker):
    broker.submit(order(key=NIFTY, qty=75))
    server.move("NIFTY26MARFUT", 25_000)
    assert broker.account().equity == 100_000
    server.move("NIFTY26MARFUT", 25_100)
    account = broker.account()
    assert (account.equity, account.cash) == (107_500, 107_500 - 75 * 25_100)
    server.night(OPENED)
    assert broker.account().equity == 107_500
    assert broker.positions() == {NIFTY: 75}
    server.move("NIFTY26MARFUT", 25_000)
    assert broker.account().equity == 100_000


def test_a_position_has_the_contracts_name_in_the_feed(server):
    server.nets["NFO", "NIFTY26MARFUT", "NRML"] = kite_server.fresh() | {"qty": D(75)}
    server.nets["NFO", "BANKNIFTY26MARFUT", "NRML"] = kite_server.fresh() | {"qty": D(30)}
    named = opened(server, contracts={"NIFTY": ["NIFTY_202603", "nonsense"]})
    assert named.positions() == {
        ("NIFTY", "futures", "NIFTY_202603"): 75,
        ("BANKNIFTY26MARFUT", "futures", ""): 30,
    }
    named.submit(order(key=("NIFTY", "futures", "NIFTY_202603"), qty=75))
    assert server.received[-1]["tradingsymbol"] == "NIFTY26MARFUT"


def test_a_ticker_of_another_feed_is_named_for_kite(server):
    broker = opened(server, symbols={"A": "BSE:ALPHA", "NIFTY": "BANKNIFTY"})
    broker.submit(order())
    broker.submit(order("AP2", NIFTY, 30))
    names = [(row["exchange"], row["tradingsymbol"]) for row in server.received]
    assert names == [("BSE", "ALPHA"), ("NFO", "BANKNIFTY26MARFUT")]
    assert [o.key for o in broker.open_orders()] == [A, NIFTY]
    server.holdings["ALPHA"] = D(10)  # which Kite names at BSE
    assert opened(server, symbols={"A": "NSE:ALPHA"}).positions() == {A: 10}
    with pytest.raises(ConfigError, match="expected one of NSE, BSE"):
        opened(server, symbols={"A": "LSE:VOD"})


def test_hours_are_those_of_the_config(server, broker):
    assert broker.session(A).open
    at(server, EVENING)
    broker.account()
    hours = broker.session(A)
    assert (hours.open, hours.opens) == (False, datetime(2026, 3, 11, 3, 45, tzinfo=UTC))  # 9:15 in India


def test_a_market_that_never_closes_has_no_night(server):
    always = {"A": INSTRUMENTS["A"].model_copy(update={"calendar": "24/7"})}
    names = kite_rig.broker(server, always)._names
    assert not names.overnight(A, datetime(2026, 3, 10, 23, 59, tzinfo=UTC), 10)


# the stop: in the day, overnight, at the gap


def test_a_stop_is_an_order_in_the_day_and_is_to_be_a_trigger_before_the_close(server, broker):
    bought(server, broker)
    answer = broker.submit(stop())
    assert (find(broker, "AP1S", "STOP").renew, find(broker, "AP1S", "STOP").price) == (None, 90)
    at(server, CLOSING)
    broker.account()
    seen = find(broker, "AP1S", "STOP")
    assert "a trigger takes its place overnight" in seen.renew
    broker.cancel(Ref("AP1S", answer.broker_order_ids["AP1S"], "AP1", "STOP"))
    assert find(broker, "AP1S", "STOP").state == "CANCELED"
    night = broker.submit(stop(name="AP1S2"))
    (trigger,) = server.triggers
    assert night.broker_order_ids == {"AP1S2": f"gtt:{trigger['id']}"}
    assert (trigger["condition"]["trigger_values"], trigger["condition"]["last_price"]) == ([90.0], 100.0)
    wanted = {"transaction_type": "SELL", "quantity": 10, "order_type": "LIMIT", "product": "CNC", "price": 87.3}
    assert trigger["orders"][0].items() >= wanted.items()
    seen = find(broker, "AP1S2", "STOP", night.broker_order_ids["AP1S2"])
    assert (seen.state, seen.qty, seen.price, seen.renew) == ("NEW", 10, 90, None)


def overnight(server, broker):
    """Ten shares of A, protected by a trigger at 90 overnight; its number."""
    bought(server, broker)
    at(server, EVENING)
    broker.account()
    answer = broker.submit(stop())
    server.night(OPENED)
    return answer.broker_order_ids["AP1S"]


def test_after_the_open_the_trigger_is_to_be_an_order_again(server, broker):
    number = overnight(server, broker)
    server.move("A", 99)
    seen = find(broker, "AP1S", "STOP", number)
    assert seen.state == "NEW"
    assert "an order at the exchange takes the trigger's place" in seen.renew
    assert [o.broker_order_id for o in broker.open_orders()] == [number]
    broker.cancel(Ref("AP1S", number, "AP1", "STOP"))
    assert find(broker, "AP1S", "STOP", number).state == "CANCELED"
    assert server.triggers[0]["status"] == "deleted"


def test_a_trigger_that_fires_fills_under_the_stops_own_number(server, broker):
    number = overnight(server, broker)
    server.move("A", 89)
    seen = find(broker, "AP1S", "STOP", number)
    assert (seen.state, seen.cum_qty, seen.avg_price, seen.broker_order_id) == ("FILLED", 10, 89, number)
    (fill,) = broker.fills(OPENED)
    assert (fill.client_order_id, fill.broker_order_id, fill.cash) == ("", number, 890)
    assert broker.positions() == {}
    assert broker.open_orders() == []


def test_a_gap_past_the_triggers_limit_rests_and_is_to_be_chased(server, broker):
    number = overnight(server, broker)
    server.move("A", 80)  # the trigger's order rests at 87.30
    assert find(broker, "AP1S", "STOP", number).renew is None, "it may still be on its way"
    assert [o.broker_order_id for o in broker.open_orders()] == [number], "its order is not a stranger's"
    at(server, OPENED + timedelta(seconds=20))
    broker.account()
    seen = find(broker, "AP1S", "STOP", number)
    assert (seen.state, seen.cum_qty) == ("NEW", 0)
    assert seen.renew == "10 rest unfilled: the price has gone past their limit"
    broker.cancel(Ref("AP1S", number, "AP1", "STOP"))
    assert find(broker, "AP1S", "STOP", number).state == "CANCELED"
    assert isinstance(broker.submit(stop(name="AP1S2")), Accepted)
    assert server.received[-1]["order_type"] == "MARKET", "a stop that the price is past would be refused"
    server.move("A", "79.5")
    assert broker.positions() == {}


def test_a_triggers_order_that_is_refused_is_a_reject_with_its_reason(server, broker):
    number = overnight(server, broker)
    server.trigger_rejects = ["Your order price is lower than the current lower circuit limit of 90."]
    server.move("A", 85)
    seen = find(broker, "AP1S", "STOP", number)
    assert seen.state == "REJECTED"
    assert "lower circuit limit" in seen.reason


def test_a_trigger_that_zerodha_ended_is_ended(server, broker):
    number = overnight(server, broker)
    for status, state in (("disabled", "CANCELED"), ("cancelled", "CANCELED"), ("expired", "EXPIRED")):
        server.triggers[0]["status"] = status
        assert find(broker, "AP1S", "STOP", number).state == state
    server.triggers[0]["status"] = "something new"
    assert isinstance(find(broker, "AP1S", "STOP", number), Unreadable)


def test_a_trigger_that_is_in_the_list_no_more_is_asked_for_by_its_number(server, broker):
    number = overnight(server, broker)
    gone = server.triggers[:]
    server.find_trigger = lambda n, _: next(t for t in gone if t["id"] == int(n))
    server.triggers = []
    gone[0]["status"] = "deleted"
    assert find(broker, "AP1S", "STOP", number).state == "CANCELED"


def test_a_trigger_that_fired_on_a_day_that_is_forgotten_has_ended_with_it(server, broker):
    number = overnight(server, broker)
    server.move("A", 89)
    server.night(OPENED + timedelta(days=1))
    broker.account()
    seen = find(broker, "AP1S", "STOP", number)
    assert (seen.state, seen.cum_qty) == ("EXPIRED", 0)
    assert "Console's tradebook" in seen.reason
    assert broker.positions() == {}, "which the ledger's fills contradict: the symbol is locked"


def test_a_stop_in_the_day_that_is_past_is_a_market_order_and_at_night_it_waits(server, broker):
    bought(server, broker)
    server.move("A", 89)
    broker.submit(stop())
    assert [row["order_type"] for row in server.received] == ["MARKET", "MARKET"]
    server.open = False
    at(server, EVENING)
    broker.account()
    answer = broker.submit(stop(name="AP1S2"))
    assert answer == Rejected("the last price 89 is past the stop at 90, and the market is closed")


def test_a_stop_too_tight_for_a_trigger_stays_an_order_until_the_close(server, broker):
    bought(server, broker)
    at(server, CLOSING)
    broker.account()
    assert isinstance(broker.submit(stop("99.8")), Accepted)
    assert (server.received[-1]["order_type"], server.triggers) == ("SL-M", [])
    at(server, EVENING)
    server.open = False
    broker.account()
    answer = broker.submit(stop("99.8", name="AP1S2"))
    assert isinstance(answer, Rejected)
    assert "too close" in answer.reason


def test_a_stop_that_was_triggered_and_rests_is_to_be_chased(server, broker):
    bought(server, broker)
    broker.submit(stop())
    server.move("A", 80)  # through the protection of 3 %
    at(server, NOW + timedelta(seconds=19))
    broker.account()
    assert find(broker, "AP1S", "STOP").renew is None
    at(server, NOW + timedelta(seconds=20))
    broker.account()
    assert "rest unfilled" in find(broker, "AP1S", "STOP").renew
    broker.submit(order("AP2"))
    server.move("A", 90)
    at(server, NOW + timedelta(minutes=9))
    broker.account()
    assert (find(broker, "AP2").state, find(broker, "AP2").renew) == ("NEW", None), "an entry may rest"


@pytest.mark.parametrize("fault", ["502", "html", "dropped", "truncated"])
def test_a_trigger_whose_answer_is_lost_is_found_by_its_terms(server, fault):
    ledger = Remembering()
    broker = bought(server, opened(server, ledger=ledger))
    at(server, EVENING)
    broker.account()
    server.fault("POST /gtt", fault)
    assert isinstance(broker.submit(stop()), Unknown)
    assert len(server.triggers) == 1
    ledger.orders["AP1S"] = Sent(A, "SELL", D(90), EVENING)
    seen = find(broker, "AP1S", "STOP")
    assert (seen.state, seen.broker_order_id) == ("NEW", f"gtt:{server.triggers[0]['id']}")
    ledger.orders["AP1S"] = Sent(A, "SELL", D(91), EVENING)
    assert find(broker, "AP1S", "STOP") == Absent()
    ledger.orders["AP1S"] = Sent(A, "SELL", D(90), EVENING)
    ledger.owners = {server.triggers[0]["id"]: "gtt:of another"}
    assert find(broker, "AP1S", "STOP") == Absent(), "a trigger of another order is not its own"


def test_triggers_are_sliced_too_and_are_one_stop(server):
    ledger = Remembering()
    broker = opened(server, freeze={"NIFTY": 150}, ledger=ledger)
    server.nets["NFO", "NIFTY26MARFUT", "NRML"] = kite_server.fresh() | {"qty": D(225)}
    at(server, EVENING)
    broker.account()
    number = broker.submit(stop(24_000, 225, key=NIFTY)).broker_order_ids["AP1S"]
    one, two = (t["id"] for t in server.triggers)
    assert number == f"gtt:{one}+{two}"
    ledger.owners = {one: number, two: number}
    assert [o.broker_order_id for o in broker.open_orders()] == [number]
    server.night(OPENED)
    server.move("NIFTY26MARFUT", 23_990)
    seen = find(broker, "AP1S", "STOP", number)
    assert (seen.state, seen.qty, seen.cum_qty) == ("FILLED", 225, 225)
    assert {f.broker_order_id for f in broker.fills(OPENED)} == {number}
    broker.cancel(Ref("AP1S", number, "AP1", "STOP"))  # too late, and no error


# what Kite forgets


def test_an_order_of_an_earlier_day_has_ended_and_one_of_today_that_never_came_is_absent(server):
    ledger = Remembering(AP1=Sent(A, "BUY", None, NOW), AP2=Sent(A, "BUY", None, OPENED))
    broker = opened(server, ledger=ledger)
    number = broker.submit(order(kind="LIMIT", price=50)).broker_order_ids["AP1"]
    server.night(OPENED)
    broker.account()
    assert (find(broker, "AP1", number=number).state, find(broker, "AP1", number=number).cum_qty) == ("EXPIRED", 0)
    assert find(broker, "AP1").state == "EXPIRED", "an unknown one too: no order lives on"
    assert find(broker, "AP2") == Absent(), "sent today, and the request may still be on its way"
    lost = find(broker, "AP2", number="123")
    assert isinstance(lost, Unreadable)
    assert "lists it no more" in lost.reason
    assert broker.fills(NOW) == []


def test_orders_of_others_are_seen_and_can_be_cancelled(server, broker):
    form = {"exchange": "NSE", "tradingsymbol": "A", "product": "CNC", "transaction_type": "BUY", "quantity": "5"}
    theirs = server.enter(form | {"order_type": "LIMIT", "price": "90", "tag": "mine"})
    names = {"exchange": "NSE", "tradingsymbol": "INFY"}
    condition = names | {"trigger_values": [9], "last_price": 8}
    orders = [names | {"transaction_type": "BUY", "quantity": 1, "price": 9}]
    server.trigger({"type": "single", "condition": json.dumps(condition), "orders": json.dumps(orders)})
    trigger, seen = broker.open_orders()
    assert (seen.client_order_id, seen.broker_order_id, seen.key) == ("", theirs["order_id"], A)
    assert (trigger.client_order_id, trigger.key, trigger.side) == ("", ("INFY", "spot", ""), "BUY")
    for one in (seen, trigger):
        broker.cancel(Ref("", one.broker_order_id, "", "EXIT"))
    assert broker.open_orders() == []


def test_what_makes_no_sense_is_unreadable_and_the_rest_goes_on(server, broker):
    bought(server, broker)
    server.orders[0]["status"] = "AMAZED"
    assert isinstance(find(broker), Unreadable)
    server.trades[0]["quantity"] = None
    (told,) = broker.fills(NOW)
    assert isinstance(told, Unreadable)
    assert told.key == A
    server.trades.append(server.trades[0] | {"quantity": 1, "trade_id": "9"})
    assert [type(one) for one in broker.fills(NOW)] == [Unreadable, BrokerFill]


@pytest.mark.parametrize("path", ["/orders", "/trades", "/portfolio/positions", "/portfolio/holdings", "/user/margins"])
def test_a_list_that_does_not_come_is_never_an_empty_one(server, broker, path):
    bought(server, broker)
    server.fault(f"GET {path}", "truncated")
    asked = {"/orders": broker.open_orders, "/trades": lambda: broker.fills(NOW), "/user/margins": broker.account}
    with pytest.raises(Unavailable):
        asked.get(path, broker.positions)()


def test_each_status_is_what_it_means(server, broker):
    broker.submit(order(kind="LIMIT", price=50))
    on_its_way = ("PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "OPEN PENDING", "MODIFY PENDING", "TRIGGER PENDING")
    for status, state in [*((s, "NEW") for s in on_its_way), ("CANCEL PENDING", "PENDING_CANCEL")]:
        server.orders[0]["status"] = status
        assert find(broker).state == state
        assert [o.state for o in broker.open_orders()] == [state]


def test_a_cancel_that_is_not_answered_is_told_and_one_that_comes_too_late_is_not(server, broker):
    broker.submit(order(kind="LIMIT", price=50))
    ref = Ref("AP1", None, "AP1", "ENTRY")
    server.fault("DELETE /orders", "503")
    with pytest.raises(Unavailable, match="cancel AP1"):
        broker.cancel(ref)
    server.fault("DELETE /orders", "400")
    broker.cancel(ref)
    assert find(broker).state == "NEW"
    broker.cancel(ref)
    assert find(broker).state == "CANCELED"
