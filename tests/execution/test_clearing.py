"""Locks, abandoned orders and manual exits, and the trace of an order."""

from dataclasses import replace
from decimal import Decimal

import pytest

from alphapivot.clock import SimulatedClock
from alphapivot.errors import DataError, TradingHalted
from alphapivot.execution.book import control
from alphapivot.execution.book.clearing import abandon, by_hand, unlock
from alphapivot.execution.book.trace import trace
from alphapivot.hub import Hub
from tests.execution.book import DONE, KEY, Book
from tests.execution.conftest import World, at, make_settings

CLOCK = SimulatedClock(at(20))
D = Decimal


@pytest.fixture(scope="module")
def market(server, template):
    with Hub(server.database("clearing", template=template)) as hub:
        World(hub, make_settings({"A": {}})).calm(range(1, 31))
        yield hub


@pytest.fixture
def make(market, tmp_path):
    return lambda kind="poor": Book(market, make_settings({"A": {}}), kind, tmp_path, at)


@pytest.fixture
def unknown(make):
    """An entry that may or may not have reached the broker."""
    book = make()
    book.score(20, 50)
    book.run(20, fault="request lost")
    return book


def test_a_lock_is_cleared_by_a_person_with_a_reason_and_trading_goes_on(unknown):
    (entry,) = unknown.orders("ENTRY")
    message = abandon(unknown.hub, unknown.scope, entry["client_order_id"], "the broker has none", "me", CLOCK)
    assert message == "ENTRY of A, which was UNKNOWN"
    assert "may or may not" in unlock(unknown.hub, unknown.scope, "A", "abandoned", "me")
    unknown.run(20)
    assert unknown.states() == {"ENTRY": ["ABANDONED"], "STOP": ["CANCELED"], "TARGET": ["CANCELED"]}
    assert unknown.trades()[0]["state"] == "CLOSED"
    unknown.price(21, 100)
    unknown.score(21, 50)
    unknown.run(21)
    assert unknown.orders("ENTRY")[-1]["state"] == "NEW"
    (row,) = unknown.sql("SELECT * FROM trading.instrument_lock WHERE book = :b", b=unknown.scope)
    assert (row["cleared_by"], row["cleared_reason"]) == ("me", "abandoned")


def test_a_lock_that_is_still_due_comes_back(unknown):
    unlock(unknown.hub, unknown.scope, "A", "I hope so", "me")
    unknown.run(20)
    assert len(unknown.locks()) == 1


def test_a_stop_that_the_broker_has_lost_is_given_up_by_a_person_and_placed_anew(make):
    book = make()
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    book.run(21)
    (stop,) = book.orders("STOP")
    with book.remote._change() as memory:
        memory.orders = [
            (replace(o, client_order_id="GONE", state="CANCELED") if kind == "STOP" else o, kind)
            for o, kind in memory.orders
        ]
    book.run(22)
    assert book.locks() == [f"the broker has no order {stop['client_order_id']}, which was NEW"]
    abandon(book.hub, book.scope, stop["client_order_id"], "the broker lost it", "me", CLOCK)
    unlock(book.hub, book.scope, "A", "abandoned", "me")
    book.run(22)
    assert book.states()["STOP"] == ["ABANDONED", "NEW"]
    assert book.locks() == []


@pytest.mark.parametrize(("score", "kind"), [(50, "unique"), (-50, "unique"), (50, "alpaca")])
@pytest.mark.parametrize("taken", [100, 250])
def test_what_a_person_took_out_at_the_broker_is_booked_as_an_exit(make, score, kind, taken):
    book, sign = make(kind), 1 if score > 0 else -1
    book.score(20, score)
    book.run(20)
    book.price(21, 100)
    book.run(21)
    with pytest.raises(DataError, match="'A' is not locked in book"):
        by_hand(book.hub, book.broker, book.scope, "A", D(99), "me", CLOCK)
    if kind == "alpaca":
        book.remote.positions["A"] = D(250 - taken)
    else:
        book.remote.set(by_hand={KEY: D(-sign * taken)})
    book.run(22)
    assert "our fills add up to" in book.locks()[0]
    with pytest.raises(DataError, match="the price must be a finite number, got NaN"):
        by_hand(book.hub, book.broker, book.scope, "A", D("NaN"), "me", CLOCK)
    message = by_hand(book.hub, book.broker, book.scope, "A", D(99), "me", CLOCK)
    assert message == f"{taken} of trade {book.trades()[0]['trade_id']} closed by hand at 99"
    with pytest.raises(DataError, match="no manual exit to book"):
        by_hand(book.hub, book.broker, book.scope, "A", D(99), "me", CLOCK)
    unlock(book.hub, book.scope, "A", "I was it", "me")
    book.run(22)
    trade = book.trades()[0]
    assert (trade["exit_qty"], trade["exit_price"]) == (taken, 99)
    if taken == 250:
        assert (trade["state"], trade["close_reason"], trade["realised"]) == ("CLOSED", "by hand", -250 * sign)
        assert [o for o in book.theirs() if o["state"] not in DONE] == []
    book.holds()
    book.rests(22)


def test_what_is_not_locked_or_final_or_not_there_is_said(unknown):
    (entry,) = unknown.orders("ENTRY")
    with pytest.raises(DataError, match=r"'B' is not locked in book .* locked symbols: A$"):
        unlock(unknown.hub, unknown.scope, "B", "why", "me")
    with pytest.raises(DataError, match="is not an order of book"):
        abandon(unknown.hub, unknown.scope, "AP", "why", "me", CLOCK)
    abandon(unknown.hub, unknown.scope, entry["client_order_id"], "why", "me", CLOCK)
    with pytest.raises(DataError, match="is ABANDONED, which is final"):
        abandon(unknown.hub, unknown.scope, entry["client_order_id"], "why", "me", CLOCK)
    with pytest.raises(ValueError, match="a reason and a name are required"):
        unlock(unknown.hub, unknown.scope, "A", " ", "me")


def test_no_order_is_abandoned_under_an_executor_at_work(unknown):
    (entry,) = unknown.orders("ENTRY")
    with unknown.hub.dbapi(autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('alphapivot.trade'), hashtext(%s))", [unknown.scope])
        with pytest.raises(TradingHalted, match="an executor is running"):
            abandon(unknown.hub, unknown.scope, entry["client_order_id"], "why", "me", CLOCK)


@pytest.mark.parametrize("kind", ["poor", "paper"])
def test_flatten_leaves_every_trade_and_takes_no_entry(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    book.run(21)
    control.halt(book.hub, book.scope, "out of all", "me", flatten=True)
    book.price(22, 100)
    book.score(22, 50)
    book.run(22)
    assert [(o["state"], o["reason"]) for o in book.orders("EXIT")] == [("NEW", "flatten")]
    book.price(23, 100)
    book.score(23, 50)
    report = book.run(23)
    assert (book.held(), book.trades()[0]["close_reason"]) == (0, "flatten")
    assert [d.reasons for d in report.decisions] == [("halted",)]
    book.holds()


def test_an_order_leads_back_to_its_decision_and_the_bars_that_it_stood_on(make):
    book = make()
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    book.run(21)
    (stop,) = book.orders("STOP")
    chain = dict(trace(book.hub, stop["client_order_id"]))
    assert next(iter(chain)) == f"Order {stop['client_order_id']}"
    events = chain["Order events"]
    assert events["new_state"].tolist() == ["CREATED", "PENDING_NEW", "NEW"]
    gates = chain["Gates"].set_index("gate")
    assert gates.loc["score", ["passed", "found", "allowed"]].tolist() == ["yes", "50", "+-30"]
    (composite,) = chain["Composite"].to_dict("records")
    assert (composite["score"], composite["batch_id"]) == (50, book.versions)
    (bars,) = chain["Bars (20 used)"].to_dict("records")
    assert (bars["bars"], bars["last"], bars["sources"], bars["restated_since"]) == (20, at(20), "test", 0)
    assert dict(trace(book.hub, stop["broker_order_id"], book.scope)).keys() == chain.keys()
    with pytest.raises(DataError, match="there is no order 'nobody'"):
        trace(book.hub, "nobody")
