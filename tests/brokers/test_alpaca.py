"""Alpaca through its real SDK, against a server with its wire format and network faults."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from alphapivot.brokers.alpaca.broker import Alpaca
from alphapivot.brokers.alpaca.opening import tickers
from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Attached,
    Broker,
    Duplicate,
    NotSent,
    OrderSpec,
    Ref,
    Rejected,
    Throttled,
    Unknown,
    Unreadable,
)
from alphapivot.config.sections.brokers import AlpacaBroker
from alphapivot.config.sections.instrument import Instrument
from alphapivot.errors import ConfigError, TradingHalted, Unavailable
from tests.brokers import alpaca_server

D = Decimal
BEGAN = datetime.now(UTC) - timedelta(minutes=5)


@pytest.fixture
def server():
    made = alpaca_server.Alpaca()
    yield made
    made.close()


@pytest.fixture
def broker(server):
    return Alpaca(AlpacaBroker(base_url=server.url, timeout=60), {"APPLE": "AAPL", "EXXON": "XOM"}, "key", "secret")


@contextmanager
def patience(broker, fault):
    """A short time-out if no reply will come, a long one otherwise, however busy the machine is."""
    usual, broker._wire.session.timeout = (
        broker._wire.session.timeout,
        0.3 if fault in ("lost", "never", "late") else 60,
    )
    yield
    broker._wire.session.timeout = usual


def order(name="AP1", **changes):
    terms = {
        "client_order_id": name,
        "bracket": name,
        "leg": "ENTRY",
        "symbol": "APPLE",
        "market": "spot",
        "contract": "",
        "side": "BUY",
        "kind": "MARKET",
        "qty": D(10),
        "active_from": BEGAN,
    }
    return OrderSpec(**(terms | changes))


def bracket(name="AP1", **changes):
    legs = (Attached(f"{name}S", "STOP", D("96.10")), Attached(f"{name}T", "TARGET", D("108.30")))
    return order(name, attached=legs, **changes)


def ref(name="AP1", leg="ENTRY", of="AP1", broker_id=None):
    return Ref(name, broker_id, of, leg)


def look_up(broker, *refs):
    return broker.find(list(refs), BEGAN)


def test_it_is_a_broker(broker):
    assert isinstance(broker, Broker)


def test_the_account_is_read_exactly_with_the_brokers_clock(broker):
    account = broker.account()
    assert (account.currency, account.cash, account.equity, account.free) == (
        "USD",
        D("100000.10"),
        D("101000.20"),
        D("90000.30"),
    )
    assert abs(account.at - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize("block", [{"trading_blocked": True}, {"account_blocked": True}, {"status": "ACCOUNT_CLOSED"}])
def test_a_blocked_account_is_for_a_person(broker, server, block):
    server.account |= block
    with pytest.raises(TradingHalted, match="does not let this account trade"):
        broker.account()


def test_quantities_and_prices_travel_as_text_and_a_bracket_brings_the_ids_of_its_legs(broker, server):
    answer = broker.submit(bracket(kind="LIMIT", price=D("100.05")))
    assert server.bodies[-1] == {
        "symbol": "AAPL",
        "qty": "10",
        "side": "buy",
        "type": "limit",
        "limit_price": "100.05",
        "time_in_force": "gtc",
        "client_order_id": "AP1",
        "order_class": "bracket",
        "take_profit": {"limit_price": "108.30"},
        "stop_loss": {"stop_price": "96.10"},
    }
    (entry,) = [o for o in server.orders.values() if o["legs"]]
    target, stop = entry["legs"]
    assert answer == Accepted({"AP1": entry["id"], "AP1S": stop["id"], "AP1T": target["id"]})
    assert stop["client_order_id"] != "AP1S"  # Alpaca generates them


def test_a_fraction_of_a_share_is_good_for_the_day_only(broker, server):
    broker.submit(order(qty=D("0.123456789")))
    assert (server.bodies[-1]["qty"], server.bodies[-1]["time_in_force"]) == ("0.123456789", "day")


def test_an_order_and_its_legs_are_followed_from_the_first_fill_to_the_last(broker, server):
    ids = broker.submit(bracket()).broker_order_ids
    refs = [ref(i, leg, broker_id=ids[i]) for i, leg in (("AP1", "ENTRY"), ("AP1S", "STOP"), ("AP1T", "TARGET"))]
    assert [o.state for o in look_up(broker, *refs).values()] == ["NEW", "SUSPENDED", "SUSPENDED"]
    server.fill(server.orders[ids["AP1"]], "100.10", 4)
    seen = look_up(broker, *refs)
    assert (seen["AP1"].state, seen["AP1"].cum_qty, seen["AP1"].avg_price) == ("PARTIALLY_FILLED", 4, D("100.10"))
    server.fill(server.orders[ids["AP1"]], "100.30", 6)
    seen = look_up(broker, *refs)
    assert (seen["AP1"].state, seen["AP1"].avg_price) == ("FILLED", D("100.22"))
    assert (seen["AP1S"].state, seen["AP1S"].price, seen["AP1S"].qty, seen["AP1S"].side) == (
        "NEW",
        D("96.10"),
        10,
        "SELL",
    )
    assert broker.positions() == {("APPLE", "spot", ""): D(10)}
    server.fill(server.orders[ids["AP1S"]], "96.05")
    seen = look_up(broker, *refs)
    assert [o.state for o in seen.values()] == ["FILLED", "FILLED", "CANCELED"]
    assert broker.positions() == {}
    cash = [(f.broker_order_id, f.qty, f.cash) for f in broker.fills(BEGAN)]
    assert cash == [(ids["AP1"], 4, D("-400.40")), (ids["AP1"], 6, D("-601.80")), (ids["AP1S"], 10, D("960.50"))]


def test_fills_are_read_page_by_page_and_each_once(broker, server):
    broker.submit(order(qty=D(250)))
    (row,) = server.orders.values()
    for _ in range(250):
        server.fill(row, "100", 1)
    fills = broker.fills(BEGAN)
    assert len(fills) == len({f.exec_id for f in fills}) == 250
    assert sum(f.qty for f in fills) == 250


def test_more_orders_than_a_page_are_listed_and_none_twice(broker, server):
    for i in range(1_203):
        server.new({"client_order_id": f"AP{i}", "symbol": "AAPL", "qty": "1", "side": "buy", "type": "market"})
    orders = broker.open_orders()
    assert len(orders) == len({o.client_order_id for o in orders}) == 1_203
    before = len(server.requests)
    assert len(look_up(broker, *(ref(f"AP{i}") for i in range(1_203)))) == 1_203
    assert len(server.requests) - before == 3  # pages, not one request for each order


# Replies to network faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "answer", "lives"),
    [
        ("lost", Unknown, True),  # 8: timeout, order accepted
        ("never", Unknown, False),  # 9: timeout, not accepted
        ("dropped", Unknown, True),
        ("500", Unknown, True),  # 11
        ("502", Unknown, True),
        ("503", Unknown, False),
        ("504", Unknown, True),  # which the SDK would have sent again by itself
        ("html", Unknown, True),
        ("empty", Unknown, True),
        ("truncated", Unknown, True),
        ("429", Throttled, False),  # 12
        ("403", Rejected, False),  # 14
        ("422", Rejected, False),
        ("untradable", Rejected, False),
        ("fractional", Rejected, False),
    ],
)
def test_a_fault_is_never_more_than_what_it_proves(broker, server, fault, answer, lives):
    server.fault("POST /v2/orders", fault)
    with patience(broker, fault):
        got = broker.submit(bracket())
    assert type(got) is answer
    assert server.requests.count("POST /v2/orders") == 1  # nothing was retried silently
    seen = look_up(broker, ref())["AP1"]
    assert isinstance(seen, Absent) is not lives
    # 15: a repeated id is a duplicate if the order exists, and accepted otherwise
    assert type(broker.submit(bracket())) is (Duplicate if lives else Accepted)
    assert sum(o["client_order_id"] == "AP1" for o in server.orders.values()) == 1


def test_what_was_refused_says_why(broker, server):
    server.fault("POST", "403")
    assert broker.submit(order()) == Rejected("Alpaca: insufficient buying power")
    server.fault("POST", "429")
    assert broker.submit(order()) == Throttled(7.0)


def test_a_row_without_an_id_is_nobodys_order(broker, server):
    server.spread()["id"] = None
    assert isinstance(look_up(broker, ref("APgone"))["APgone"], Absent)


def test_an_error_of_the_server_proves_nothing_also_in_json(broker, server):
    server.fault("POST", "500 in JSON")
    assert isinstance(broker.submit(order()), Unknown)
    assert isinstance(broker.submit(order()), Accepted)


def test_an_order_that_is_still_on_its_way_at_alpaca_rests(broker, server):
    broker.submit(order())
    (row,) = server.orders.values()
    for status, state in (
        ("pending_new", "NEW"),
        ("accepted", "NEW"),
        ("pending_cancel", "PENDING_CANCEL"),
        ("pending_replace", "PENDING_REPLACE"),
        ("replaced", "CANCELED"),  # by nothing: a take-profit whose stop was reached
        ("canceled", "CANCELED"),
        ("expired", "EXPIRED"),
        ("rejected", "REJECTED"),
        ("held", "SUSPENDED"),
        ("done_for_day", "NEW"),
    ):
        row["status"] = status
        assert look_up(broker, ref())["AP1"].state == state
    row |= {"status": "replaced", "replaced_by": "another"}
    assert (look_up(broker, ref())["AP1"].state, look_up(broker, ref())["AP1"].replaced_by) == ("REPLACED", "another")
    row |= {"status": "new", "replaced_by": None, "filled_qty": "3", "filled_avg_price": "100"}
    assert look_up(broker, ref())["AP1"].state == "PARTIALLY_FILLED"  # whatever it is called


def test_a_partial_fill_that_is_then_cancelled_keeps_what_filled(broker, server):
    broker.submit(bracket())
    (row, *_) = server.orders.values()
    server.fill(row, "100", 4)
    broker.cancel(ref())
    seen = look_up(broker, ref(), ref("AP1S", "STOP"), ref("AP1T", "TARGET"))
    assert [(o.state, o.cum_qty) for o in seen.values()] == [("CANCELED", 4), ("CANCELED", 0), ("CANCELED", 0)]
    assert broker.positions() == {("APPLE", "spot", ""): D(4)}


def test_the_brokers_clock_is_told_however_far_it_is_from_ours(broker, server):
    server.clock = lambda: datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    assert broker.account().at == datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def test_a_request_that_lands_late_makes_one_order(broker, server):
    server.fault("POST /v2/orders", "late")  # 10
    with patience(broker, "late"):
        assert isinstance(broker.submit(order()), Unknown)
    assert isinstance(look_up(broker, ref())["AP1"], Absent)  # true at that moment, which is why the same id goes again
    assert isinstance(broker.submit(order()), Accepted)
    status, _ = server.lands()
    assert (status, len(server.orders)) == (422, 1)


def test_keys_that_are_not_let_in_stop_trading_and_are_never_shown(broker, server):
    for call in (broker.account, broker.positions, lambda: broker.submit(order()), lambda: look_up(broker, ref())):
        server.fault(".", "401")  # 13
        with pytest.raises(TradingHalted, match="APCA_API_KEY_ID") as error:
            call()
        assert "secret" not in str(error.value).replace("APCA_API_SECRET_KEY", "")


def test_only_a_connection_that_was_never_made_proves_that_nothing_was_sent(server):
    server.close()
    gone = Alpaca(AlpacaBroker(base_url=server.url, timeout=60), {"APPLE": "AAPL"}, "key", "secret")
    assert isinstance(gone.submit(order()), NotSent)
    nowhere = Alpaca(AlpacaBroker(base_url="http://alpaca.invalid", timeout=60), {"APPLE": "AAPL"}, "key", "secret")
    assert isinstance(nowhere.submit(order()), NotSent)
    for call in (gone.account, gone.open_orders, lambda: gone.fills(BEGAN), lambda: look_up(gone, ref())):
        with pytest.raises(Unavailable, match="Alpaca"):
            call()


@pytest.mark.parametrize("fault", ["never", "dropped", "500", "html", "empty", "truncated", "429", "403"])
@pytest.mark.parametrize("call", ["account", "positions", "open_orders", "fills", "session", "find"])
def test_a_read_that_fails_is_unavailable_and_never_an_empty_answer(broker, server, call, fault):
    calls = {
        "fills": lambda: broker.fills(BEGAN),
        "session": lambda: broker.session(("APPLE", "spot", "")),
        "find": lambda: look_up(broker, ref()),
    }
    server.fault("GET", fault)
    with patience(broker, fault), pytest.raises(Unavailable, match="Alpaca"):  # it waits no longer than the time-out
        calls.get(call, getattr(broker, call, None))()
    assert len(server.requests) == 1  # and does not retry


def test_a_look_up_that_fails_proves_no_absence(broker, server):
    for fault in ("500", "html", "empty"):
        server.fault("by_client_order_id", fault)
        with pytest.raises(Unavailable):
            look_up(broker, ref("APgone"))
    assert isinstance(look_up(broker, ref("APgone"))["APgone"], Absent)


@pytest.mark.parametrize("status", ["new", "weird_new_state"])
def test_a_state_that_nobody_knows_is_not_guessed(broker, server, status):
    broker.submit(order())
    (row,) = server.orders.values()
    row["status"] = status
    if status == "new":
        assert look_up(broker, ref())["AP1"].state == "NEW"
    else:
        found = look_up(broker, ref())["AP1"]
        assert isinstance(found, Unreadable)
        assert "weird_new_state" in found.reason
        assert (found.broker_order_id, found.key) == (row["id"], ("APPLE", "spot", ""))


@pytest.mark.parametrize("field", ["cash", "equity", "currency"])
def test_an_account_without_a_field_cannot_be_read(broker, server, field):
    del server.account[field]
    with pytest.raises(Unavailable, match="cannot be read"):
        broker.account()


# Legs, replacing, cancelling -----------------------------------------------------------------------------------------


def test_legs_are_found_through_their_entry_when_the_answer_that_named_them_was_lost(broker, server):
    server.fault("POST", "lost")
    with patience(broker, "lost"):
        assert isinstance(broker.submit(bracket()), Unknown)
    seen = look_up(broker, ref(), ref("AP1S", "STOP"), ref("AP1T", "TARGET"))
    assert {i: (o.state, o.price) for i, o in seen.items()} == {
        "AP1": ("NEW", None),
        "AP1S": ("SUSPENDED", D("96.10")),
        "AP1T": ("SUSPENDED", D("108.30")),
    }


def test_legs_of_an_entry_that_never_was_are_absent(broker):
    assert all(
        isinstance(o, Absent) for o in look_up(broker, ref(), ref("AP1S", "STOP"), ref("AP1T", "TARGET")).values()
    )


def filled(broker, server):
    ids = broker.submit(bracket()).broker_order_ids
    server.fill(server.orders[ids["AP1"]], "100")
    return ids


def test_a_stop_is_replaced_in_one_step_and_keeps_its_place_in_the_bracket(broker, server):
    ids = filled(broker, server)
    new = order("APS2", bracket="AP1", leg="STOP", side="SELL", kind="STOP", price=D("99.95"))
    answer = broker.replace(ref("AP1S", "STOP", broker_id=ids["AP1S"]), new)
    assert isinstance(answer, Accepted)
    assert server.bodies[-1] == {"qty": "10", "client_order_id": "APS2", "stop_price": "99.95"}
    seen = look_up(broker, ref("AP1S", "STOP", broker_id=ids["AP1S"]), ref("APS2", "STOP"))
    assert (seen["AP1S"].state, seen["APS2"].state, seen["APS2"].price) == ("REPLACED", "NEW", D("99.95"))
    server.fill(server.orders[answer.broker_order_ids["APS2"]], "99.90")
    assert look_up(broker, ref("AP1T", "TARGET", broker_id=ids["AP1T"]))["AP1T"].state == "CANCELED"


@pytest.mark.parametrize(
    ("fault", "answer"), [("lost", Unknown), ("504", Unknown), ("429", Throttled), ("422", Rejected)]
)
def test_a_replacement_that_fails_says_what_is_proven(broker, server, fault, answer):
    ids = filled(broker, server)
    server.fault("PATCH", fault)
    new = order("APS2", bracket="AP1", leg="STOP", side="SELL", kind="STOP", price=D("99.95"))
    with patience(broker, fault):
        assert type(broker.replace(ref("AP1S", "STOP", broker_id=ids["AP1S"]), new)) is answer
    assert server.requests.count(f"PATCH /v2/orders/{ids['AP1S']}") == 1
    seen = look_up(broker, ref("AP1S", "STOP", broker_id=ids["AP1S"]), ref("APS2", "STOP"))
    replaced = seen["AP1S"].state == "REPLACED"
    assert replaced is (answer is Unknown)
    assert (not replaced) or seen["APS2"].state == "NEW"


def test_what_is_final_cannot_be_replaced(broker, server):
    ids = filled(broker, server)
    server.fill(server.orders[ids["AP1S"]], "96")
    new = order("APS2", bracket="AP1", leg="STOP", side="SELL", kind="STOP", price=D("99.95"))
    answer = broker.replace(ref("AP1S", "STOP", broker_id=ids["AP1S"]), new)
    assert isinstance(answer, Rejected)
    assert "already" in answer.reason


def test_a_cancel_takes_held_legs_along_and_leaves_final_orders_alone(broker, server):
    broker.submit(bracket())
    broker.cancel(ref())
    assert {o["status"] for o in server.orders.values()} == {"canceled"}
    broker.cancel(ref())  # 19: refused, since it is final; ``find`` returns the result
    broker.cancel(ref("APnever", of="APnever"))
    for fault in ("500", "never", "429"):
        server.fault("DELETE", fault)
        with patience(broker, fault), pytest.raises(Unavailable):
            broker.cancel(ref())


def test_the_clock_is_asked_once_for_all_symbols(broker, server):
    server.open = False
    hours = [broker.session((s, "spot", "")) for s in ("APPLE", "EXXON", "APPLE")]
    assert not any(h.open for h in hours)
    assert hours[0].opens > datetime.now(UTC)
    assert server.requests.count("GET /v2/clock") == 1


def test_other_peoples_orders_and_positions_are_seen_and_not_taken_for_ours(broker, server):
    server.new({"client_order_id": "by-hand", "symbol": "TSLA", "qty": "3", "side": "buy", "type": "market"})
    server.positions["TSLA"] = D(-2)
    (seen,) = broker.open_orders()
    assert (seen.client_order_id, seen.key) == ("", ("TSLA", "spot", ""))
    assert broker.positions() == {("TSLA", "spot", ""): D(-2)}


# Before anything is sent ---------------------------------------------------------------------------------------------


def instrument(symbol, **changes):
    terms = {"symbol": symbol, "spot": "x", "signal_market": "spot", "trade_market": "spot", "currency": "USD"}
    terms |= {
        "quote_unit": 1,
        "multiplier": 1,
        "tick": "0.01",
        "lot": 1,
        "margin": 1,
        "tradable": True,
        "calendar": "XNYS",
    }
    return Instrument(**(terms | changes))


def test_what_alpaca_cannot_trade_is_refused_at_start_all_at_once():
    wrong = {
        "ES": instrument("ES", futures="es", trade_market="futures"),
        "VOD": instrument("VOD", currency="GBP"),
        "BTC": instrument("BTC", calendar="24/7"),
        "PART": instrument("PART", lot="0.001"),
        "TEN": instrument("TEN", multiplier=10),
        "PENCE": instrument("PENCE", quote_unit="0.01"),
        "FINE": instrument("FINE", tick="0.00001"),
        "OK": instrument("OK", tradable=False, currency="JPY"),
    }
    with pytest.raises(ConfigError) as error:
        tickers(AlpacaBroker(), wrong)
    assert [word in str(error.value) for word in (*wrong, "OK]")] == [*[True] * 7, False, False]
    for text in (
        "[instrument.TEN]: its multiplier is 10, a share's is 1",
        "[instrument.PENCE]: its quote_unit is 0.01, and Alpaca quotes dollars: 1",
        "[instrument.FINE]: its tick is 0.00001",
    ):
        assert text in str(error.value)


def test_tickers_come_from_the_spot_market_unless_the_broker_calls_them_otherwise():
    known = {"APPLE": instrument("APPLE", spot="AAPL"), "BRK": instrument("BRK", spot="BRK-B")}
    assert tickers(AlpacaBroker(symbols={"BRK": "BRK.B"}), known) == {"APPLE": "AAPL", "BRK": "BRK.B"}
