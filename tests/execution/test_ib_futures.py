"""A future at Interactive Brokers that is held to its end, through the gateway's wire."""

from __future__ import annotations

from decimal import Decimal

import pytest

from alphapivot.brokers.base import Hours
from alphapivot.clock import SimulatedClock
from alphapivot.errors import DataError
from alphapivot.execution.book.clearing import by_hand, unlock
from tests.execution.book import Book
from tests.execution.conftest import World, at, make_settings

pytest.importorskip("ib_async")

D = Decimal
NEAR = "AH26"


@pytest.fixture
def book(hub, tmp_path):
    """A book that has bought the contract of March on day 20 (21 January); it ends on day 78 (20 March)."""
    world = World(hub, make_settings({}))
    world.calm(range(1, 40), market="futures", contract=NEAR)
    world.roll(None, NEAR)
    made = Book(hub, make_settings({"A": {}}), "ib future", tmp_path, at, timeout=10)
    made.score(20, 50)
    made.run(20)
    made.price(21, 100)
    made.run(21)
    yield made
    made.close()


def settled(book, price="106.5"):
    """The contract ends; IB settles it in cash on the next day, and its own day is over."""
    book.price(79, 105)
    book.remote.settle(book.remote.contracts[0], price)
    book.remote.night()
    book.price(82, 105)


def test_a_contract_that_is_settled_locks_its_symbol_alone_and_says_the_command_that_books_it(book):
    assert book.broker.positions() == {("A", "futures", NEAR): 250}
    book.holds()
    settled(book)
    book.run(82)
    (why,) = book.locks()
    assert f"futures {NEAR}: our fills add up to 250, the broker holds 0" in why
    assert "it had its last trading session, to 2026-03-21 00:00 UTC, and no execution tells its settlement" in why
    assert "`alphapivot unlock A --left-at PRICE --reason TEXT` books what left the account" in why
    assert book.states() == {"ENTRY": ["FILLED"], "STOP": ["EXPIRED"], "TARGET": ["EXPIRED"]}
    assert {o["reason"] for o in book.orders("STOP")} == {"its contract had its last trade on 2026-03-20"}
    book.price(83, 105)
    book.run(83)
    assert book.locks() == [why]


def test_its_settlement_is_booked_at_the_price_of_the_statement_and_trading_goes_on(book):
    settled(book)
    book.run(82)
    message = by_hand(book.hub, book.broker, book.scope, "A", D("106.5"), "me", SimulatedClock(at(82)))
    unlock(book.hub, book.scope, "A", "settled, by the statement", "me")
    book.run(82)
    (trade,) = book.trades()
    assert message == f"250 of trade {trade['trade_id']} closed by hand at 106.5"
    assert (trade["state"], trade["close_reason"], trade["exit_price"]) == ("CLOSED", "by hand", D("106.5"))
    assert trade["realised"] == 250 * D("6.5") - trade["fees"] == book.broker.account().cash - 100_000
    assert book.locks() == []
    book.rests(82)
    book.holds()


def test_between_its_last_trade_and_its_settlement_nothing_is_sent(book):
    for order in [o for o in book.remote.orders.values() if o.contract is book.remote.contracts[0]]:
        book.remote.end(order, "Cancelled")
    sent = len(book.remote.received)
    book.price(80, 105)
    report = book.run(80)
    assert len(book.remote.received) == sent
    assert book.broker.positions() == {("A", "futures", NEAR): 250}
    assert any("had its last trade on 2026-03-20: Interactive Brokers settles what is held" in n for n in report.notes)


def test_an_ended_contract_is_closed_and_the_next_one_open(book):
    settled(book)
    book.run(82)
    with pytest.raises(DataError, match="the price of A is above 0, got -3"):
        by_hand(book.hub, book.broker, book.scope, "A", D(-3), "me", SimulatedClock(at(82)))
    assert book.broker.session(("A", "futures", NEAR)) == Hours(open=False)
    assert book.broker.session(("A", "futures", "AM26")).open
