"""Dated linear futures at crypto exchanges: entries, stops, rolls and kills between their legs, through the wires."""

from __future__ import annotations

from decimal import Decimal

import pytest

from alphapivot.venues.ccxt.facts import VENUES
from tests.brokers import ccxt_rig
from tests.execution.book import EXPIRIES, Book
from tests.execution.conftest import World, at, make_settings
from tests.execution.faults import Points

pytest.importorskip("ccxt")

D = Decimal
NEAR, FAR = (ccxt_rig.ticker("A", expiry=expiry) for expiry in EXPIRIES)
KINDS = [f"{exchange} future" for exchange in VENUES]


@pytest.fixture
def make(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    world = World(hub, make_settings({}))
    world.calm(range(1, 40), market="futures", contract=NEAR)
    world.calm(range(1, 40), market="futures", contract=FAR, close=103)
    world.roll(None, NEAR)
    world.roll(22, FAR, NEAR, spread=3.0, offset=-3.0)
    books = []

    def new(kind, **sections):
        settings = make_settings({"A": {}}, **sections)
        settings = settings.model_copy(update={"exit": settings.exit.model_copy(update={"roll": True})})
        books.append(Book(hub, settings, kind, tmp_path, at, timeout=10))
        return books[-1]

    yield new
    for book in books:
        book.close()


def entered(book):
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    book.score(21, 50)
    book.run(21)
    book.holds()
    return book


def stops(book):
    """Market, price and quantity of the stops that work at the exchange."""
    orders = [*book.remote.orders, *book.remote.triggers]
    return [(o["base"], o["stop"], o["qty"]) for o in orders if o["kind"] == "STOP" and o["state"] == "NEW"]


def rolled(book, runs=3):
    """The runs of the roll: the old contract is left, then the new one is entered and protected."""
    for _ in range(runs):
        book.price(22, 100)
        book.run(22)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trade_is_in_the_front_contract_and_its_stop_too(make, kind):
    book = entered(make(kind))
    assert book.broker.positions() == {("A", "futures", NEAR): 250}
    assert stops(book) == [("A-260327", 96, 250)]
    book.rests(21)
    book.price(21, 95)
    book.run(21)
    (trade,) = book.trades()
    assert (trade["contract"], trade["close_reason"], trade["exit_price"], book.held()) == (NEAR, "stop", 95, 0)
    assert trade["realised"] == book.broker.account().cash - 100_000 == -1250
    book.holds()


@pytest.mark.parametrize("kind", [*KINDS[:-1], pytest.param(KINDS[-1], marks=pytest.mark.always)])
def test_a_roll_ends_in_one_trade_in_the_next_contract_with_its_stop_shifted(make, kind):
    book = entered(make(kind))
    book.score(22, 50)
    rolled(book)
    old, new = book.trades()
    assert (old["contract"], old["state"], old["close_reason"], old["exit_price"]) == (NEAR, "CLOSED", "roll", 100)
    assert (new["contract"], new["state"], new["entry_qty"], new["entry_price"]) == (FAR, "OPEN", 250, 103)
    assert (book.broker.positions(), stops(book)) == ({("A", "futures", FAR): 250}, [("A-260626", 99, 250)])
    book.rests(22)
    book.holds()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_each_point_of_a_roll_nothing_is_sent_twice(make, kind):
    twin = entered(make(kind))
    twin.score(22, 50)
    twin.price(22, 100)
    seen = Points()
    with seen.watch(twin.hub) as points:
        twin.run(22, points=seen)
    landed = set()
    for n in range(1, len(points) + 1):
        book = entered(make(kind))
        book.score(22, 50)
        book.price(22, 100)
        name = book.killed(22, n)
        rolled(book, runs=5)
        legs = [o["leg"] for o in book.theirs()]
        assert (legs.count("ENTRY") <= 2, legs.count("EXIT") <= 1) == (True, True), f"killed {name}, point {n}: {legs}"
        if book.locks():
            assert all("may or may not" in why for why in book.locks())
        else:
            assert book.broker.positions() == {("A", "futures", FAR): 250}, f"killed {name}, point {n}"
            book.holds()
        landed.add(bool(book.locks()))
        book.close()
    assert landed == {True, False}


@pytest.mark.parametrize("day", [86, 95])  # the next day, and after a week without a run
@pytest.mark.parametrize("kind", KINDS)
def test_a_contract_that_is_held_to_its_end_is_settled_at_the_exchanges_price(make, kind, day):
    book = make(kind)
    book.keys = {"account": "live"}  # Binance's sandbox has no prices of deliveries
    entered(book)
    book.price(86, 110)
    book.remote.deliver("A-260327", "111.5", "1.25")
    book.remote.clock = lambda: at(day)
    book.score(day, 0)
    book.run(day)
    (trade,) = book.trades()
    assert (trade["state"], trade["close_reason"], trade["exit_price"]) == ("CLOSED", "settled", D("111.5"))
    assert trade["realised"] == book.broker.account().cash - 100_000 == 250 * D("11.5") - D("1.25")
    assert ([o["state"] for o in book.orders("STOP")], book.locks()) == (["FILLED"], [])
    book.rests(day)
    book.holds()


@pytest.mark.parametrize("kind", KINDS)
def test_a_contract_that_is_listed_no_more_and_not_settled_locks_with_both_numbers_and_stops_no_run(make, kind):
    book = entered(make(kind))
    if kind.startswith("binance"):
        book.remote.deliver("A-260327", 100)  # its sandbox tells no price
    book.remote.nets, book.remote.pairs = {}, {"A-260626": ("0.01", "1")}
    book.score(21, 0)
    book.run(21)
    assert f"{NEAR} is listed no more" in next(o["reason"] for o in book.orders("STOP"))
    assert "our fills add up to 250, the broker holds 0" in book.locks()[0]
    book.run(21)
