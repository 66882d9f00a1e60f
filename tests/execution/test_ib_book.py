"""A book at Interactive Brokers, through its gateway's wire: a whole life, nights, kills and what must lock."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.execution.book import Book
from tests.execution.conftest import World, at, make_settings

pytest.importorskip("ib_async")

D = Decimal


@pytest.fixture
def make(hub, tmp_path):
    world = World(hub, make_settings({}))
    world.calm(range(1, 31))
    books = []

    def new(**sections):
        books.append(Book(hub, make_settings({"A": {}}, **sections), "ib", tmp_path, at, timeout=10))
        return books[-1]

    yield new
    for book in books:
        book.close()


@pytest.fixture
def book(make):
    """A book that has entered on day 20."""
    entered = make()
    entered.score(20, 50)
    entered.run(20)
    entered.price(21, 100)
    entered.run(21)
    assert entered.held() == 250
    return entered


def test_a_stop_that_fills_during_the_day_closes_its_trade(book):
    book.holds()
    assert book.states() == {"ENTRY": ["FILLED"], "STOP": ["NEW"], "TARGET": ["NEW"]}
    book.price(22, 95)
    book.run(22)
    (trade,) = book.trades()
    assert (trade["close_reason"], trade["exit_price"], book.held()) == ("stop", 95, 0)
    assert trade["realised"] == 250 * (95 - 100) - trade["fees"]
    assert trade["fees"] == D("0.70")
    assert book.locks() == []
    book.holds()


def test_the_night_leaves_the_stop_in_place_and_locks_nothing(book):
    book.remote.night()
    book.price(22, 101)
    book.run(22)
    assert book.states() == {"ENTRY": ["FILLED"], "STOP": ["NEW"], "TARGET": ["NEW"]}
    assert book.locks() == []
    book.holds()


def test_a_stop_that_filled_and_was_forgotten_locks_and_says_where_to_look(book):
    book.price(21, 95)
    book.remote.night()
    book.price(22, 95)
    book.run(22)
    assert book.held() == 0
    assert any("remembers its own day only; see its statement" in reason for reason in book.locks())


def test_killed_at_each_point_of_an_entry_it_sends_one_bracket(make):
    point, landed = 0, set()
    while True:
        point += 1
        fresh = make()
        fresh.score(20, 50)
        if fresh.killed(20, point) is None:
            break
        fresh.run(20)
        fresh.price(21, 100)
        fresh.run(21)
        entries = [o for o in fresh.theirs() if o["leg"] == "ENTRY"]
        assert len(entries) <= 1, f"point {point}: {entries}"
        assert fresh.held() in (0, 250)
        outcome = fresh.outcome()
        # nothing proves to a gateway that forgets that an order never came: a person looks, and nothing is sent twice
        assert not fresh.locks() or (outcome, entries) == ("unknown, locked", [])
        fresh.holds(locked=bool(fresh.locks()))
        landed.add((len(entries), outcome))
        fresh.close()
    assert landed >= {(0, "unknown, locked"), (1, "open, protected")}


def amended(book):
    """What was asked for of working orders: (permId, quantity, price), once each."""
    return [(perm_id, D(qty), D(stop)) for perm_id, qty, _, stop in book.remote.amended]


def test_a_stop_that_follows_is_moved_in_place_and_never_gone(make):
    book = make()
    follows = book.settings.exit.model_copy(update={"trail_atr": D(1)})
    book.settings = book.settings.model_copy(update={"exit": follows})
    book.score(20, 50)
    book.run(20)
    for day in (21, 22):
        book.price(day, 100)
        book.score(day, 50)
        book.run(day)
    (stop,) = book.orders("STOP")
    assert (stop["version"], stop["state"], stop["price"]) == (1, "NEW", book.trades()[0]["stop"])
    assert stop["price"] > 96
    assert amended(book) == [(int(stop["broker_order_id"]), 250, stop["price"])]
    assert [o.number for o in book.remote.completed if o.kind == "STP"] == []  # none was cancelled
    book.holds()
    book.rests(22)


def test_a_stop_that_a_person_moved_in_tws_stays_where_it_is(book):
    (theirs,) = [o for o in book.remote.orders.values() if o.kind == "STP"]
    theirs.aux = "97.0"
    reported = book.run(22)
    assert [(t["stop"], t["target"]) for t in book.trades()] == [(97, 108)]
    assert any("somebody moved the stop of trade" in note and "from 96 to 97" in note for note in reported.notes)
    assert (amended(book), book.locks()) == ([], [])
    book.rests(22)


def test_a_change_that_interactive_brokers_refuses_leaves_the_stop_and_says_why(make):
    book = make()
    follows = book.settings.exit.model_copy(update={"trail_atr": D(1)})
    book.settings = book.settings.model_copy(update={"exit": follows})
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    book.score(21, 50)
    book.remote.errors = [(201, "Order rejected - reason: the price is too far")]
    reported = book.run(21)
    assert [o["state"] for o in book.orders("STOP")] == ["NEW", "REJECTED"]
    assert any("it was not replaced: Interactive Brokers 201: Order rejected" in note for note in reported.notes)
    assert book.locks() == []
    book.holds()
    assert [o["price"] for o in book.orders("STOP")] == [96, 98]
    book.price(22, 100)
    book.score(22, 50)
    book.run(22)
    assert [(o["price"], o["state"]) for o in book.orders("STOP")] == [(98, "NEW"), (98, "REJECTED")]
    book.holds()
