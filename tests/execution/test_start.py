"""Refusals at an executor's start, and orders at the broker that it never sent."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from alphapivot.brokers.base import BrokerOrder, Rejected, Unknown
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.execution.book import ledger, orders
from tests.brokers.fake import UNIQUE
from tests.execution.book import KEY, Book
from tests.execution.conftest import World, at, make_settings

D = Decimal


@pytest.fixture
def make(hub, tmp_path):
    """A function from a kind of broker to a book there; the bars are those of tests/execution/test_fault_matrix.py."""
    World(hub, make_settings({"A": {}})).calm(range(1, 31))
    books = []

    def new(kind="unique", **sections):
        books.append(Book(hub, make_settings({"A": {}}, **sections), kind, tmp_path, at))
        books[-1].score(20, 50)
        return books[-1]

    yield new
    for book in books:
        book.close()


def test_an_account_is_one_book_unless_shares_are_given_and_a_book_one_account(make):
    first, second = make("alpaca"), make("alpaca")
    first.run(20)
    number = second.remote.account["account_number"] = first.remote.account["account_number"]
    refusal = f"the books of Alpaca {number} add up to 2, at most 1: {first.scope} 1, {second.scope} 1; set"
    with pytest.raises(ConfigError, match=refusal):
        second.run(20)
    first.remote.account["account_number"] = "PA3"  # other keys
    before = first.theirs()
    refusal = f"'{first.scope}' trades account Alpaca {number}, but these keys open Alpaca PA3: set"
    with pytest.raises(ConfigError, match=refusal):
        first.run(21)
    assert first.theirs() == before


def test_a_broker_whose_stops_do_not_last_is_refused_unless_nothing_is_held_overnight(make):
    """Fault 34: placed again before the open, or flat by the close."""
    book = make()
    book.remote.caps = replace(UNIQUE, stop_survives_session=False)
    with pytest.raises(ConfigError, match=r"stops at \[broker.paper\] end with the session.* set \[exit\] session_end"):
        book.run(20)
    assert book.theirs() == []
    flat, book.settings = book.settings, leaving_by_the_close(book.settings)
    assert book.run(20).decisions != []
    book.settings, book.remote.caps = flat, replace(book.remote.caps, stop_outside_hours=True)
    assert book.run(21).decisions != []


def leaving_by_the_close(settings):
    return settings.model_copy(update={"exit": settings.exit.model_copy(update={"session_end": True})})


def test_a_stop_that_ended_with_the_session_is_placed_again_before_the_open(make):
    book = make()
    book.remote.caps = replace(UNIQUE, stop_survives_session=False, stop_outside_hours=True)
    book.run(20)
    book.price(21, 100)
    book.run(21)
    book.holds()
    book.end("STOP")
    book.remote.set(open=False)
    book.run(22)
    assert book.states()["STOP"] == ["EXPIRED", "NEW"]
    book.holds()


def test_what_is_open_is_protected_also_where_positions_cannot_be_read_and_no_entry_is_sent(make):
    book = make()
    book.run(20)
    book.price(21, 100)
    for method in ("positions", "open_orders"):
        with pytest.raises(Unavailable):
            book.run(21, fault="unreachable", method=method, times=99)
        assert book.states()["STOP"] == ["NEW"]
    fresh = make()
    with pytest.raises(Unavailable):
        fresh.run(20, fault="unreachable", method="positions", times=99)
    assert (fresh.trades(), fresh.theirs()) == ([], [])
    book.run(21)
    book.holds()


# entries that wait ----------------------------------------------------------------------------------------------------


def waiting(book):
    """An entry that is decided while its market is closed, which then opens."""
    book.remote.set(open=False)
    book.run(20)
    assert book.states()["ENTRY"] == ["CREATED"]
    book.remote.set(open=True)


def test_an_entry_whose_symbol_was_locked_while_it_waited_is_not_sent(make):
    book = make()
    waiting(book)
    with book.hub.engine.begin() as conn:
        ledger.lock(conn, book.scope, {"A": "something is wrong"}, at(20))
    book.run(20)  # the same decision: its gates are not checked again
    assert [(o["state"], o["reason"]) for o in book.orders("ENTRY")] == [("DENIED", "locked")]
    assert book.theirs() == []


@pytest.mark.parametrize("seconds", [60, -60])
def test_an_entry_waits_while_the_clocks_are_apart_and_is_sent_once_they_agree(make, seconds):
    book = make()
    waiting(book)
    book.remote.set(now=at(20) + timedelta(seconds=seconds))
    report = book.run(20)
    assert (book.states()["ENTRY"], book.theirs()) == (["CREATED"], [])
    assert "the entry in A waits until the clocks agree" in report.notes
    book.remote.set(now=at(20))
    book.run(20)
    assert (book.states()["ENTRY"], len(book.theirs())) == (["NEW"], 1)


def test_an_entry_whose_time_ends_while_the_clocks_are_apart_is_never_sent(make):
    book = make()
    waiting(book)
    book.remote.set(now=at(20))  # ours is a day ahead, or the broker's behind: nobody knows
    book.run(21)
    assert book.states()["ENTRY"] == ["CREATED"]
    book.remote.set(now=at(21))
    book.run(21)
    assert [(o["state"], o["reason"]) for o in book.orders("ENTRY")] == [("EXPIRED", "not_sent_in_time")]
    assert book.theirs() == []


def test_an_order_is_claimed_once(make):
    book = make()
    waiting(book)
    (entry,) = book.orders("ENTRY")
    ids = [entry["client_order_id"]]
    with book.hub.engine.begin() as conn:
        fence = ledger.raise_fence(conn, book.scope)
        claimed = [len(orders.claim(conn, ids, fence, at(20), at(20))) for _ in range(2)]
    assert claimed == [1, 0]


def test_a_no_to_a_second_attempt_is_looked_up_since_the_first_may_have_arrived(make, monkeypatch):
    book = make()
    inner, attempts = book.remote.submit, []

    def submit(spec):
        attempts.append(spec.client_order_id)
        if len(attempts) == 1:
            return Unknown("timed out")  # on its way
        if len(attempts) == 2:
            inner(spec)  # the first arrives just before the second, which it leaves no money for
            return Rejected("insufficient buying power")
        return inner(spec)

    monkeypatch.setattr(book.remote, "submit", submit)
    book.run(20)
    assert book.states()["ENTRY"] == ["NEW"]
    assert len(set(attempts)) == 1
    book.holds()


# orders that are not ours ---------------------------------------------------------------------------------------------


def foreign(book):
    """Someone else's order at the same account; returns its id there."""
    if book.kind == "alpaca":
        order = {"client_order_id": "by-hand", "symbol": "A", "qty": "3", "side": "buy", "type": "limit"}
        return book.remote.new(order | {"limit_price": "90"})[1]["id"]
    order = BrokerOrder("SOMEBODY", "F99", "NEW", D(0), None, None, D(3), KEY, "BUY", D(90))
    with book.remote._change() as memory:
        memory.orders.append((order, "LIMIT"))
    return "F99"


def state_of(book, theirs):
    return next(o.state for o in book.broker.open_orders() if o.broker_order_id == theirs)


@pytest.mark.parametrize("kind", ["unique", "alpaca"])
def test_an_order_that_is_not_ours_is_adopted_it_stays_and_its_symbol_is_locked_once(make, kind):
    book = make(kind)
    theirs = foreign(book)
    report = book.run(20)
    assert state_of(book, theirs) == "NEW"
    assert [d.reasons for d in report.decisions] == [("locked",)]
    (why,) = book.locks()
    assert why == f"order {theirs} (BUY 3 A spot) is not ours: adopted"
    book.sql(
        "UPDATE trading.instrument_lock SET cleared_at = now(), cleared_by = 'me', cleared_reason = 'it is mine'"
        " WHERE book = :b",
        b=book.scope,
    )
    book.run(20)
    assert book.locks() == []  # an operator has seen it
    (kept,) = book.sql("SELECT what, qty, side FROM trading.foreign_order WHERE book = :b", b=book.scope)
    assert (kept["what"], kept["qty"], kept["side"]) == ("adopted", 3, "BUY")


@pytest.mark.parametrize("kind", ["unique", "alpaca"])
def test_an_order_that_is_not_ours_is_cancelled_where_that_is_configured_and_our_own_are_not(make, kind):
    book = make(kind, execution={"foreign_orders": "cancel"})
    book.run(20)
    mine = [o.client_order_id for o in book.broker.open_orders() if o.state == "NEW"]
    theirs = foreign(book)
    report = book.run(20)
    assert theirs not in [o.broker_order_id for o in book.broker.open_orders()]
    assert [o.client_order_id for o in book.broker.open_orders() if o.state == "NEW"] == mine
    assert any(f"order {theirs}" in note and "cancelled" in note for note in report.notes)
    assert book.locks() == []
    book.run(20)
    assert len(book.sql("SELECT FROM trading.foreign_order WHERE book = :b", b=book.scope)) == 1


def test_an_order_of_ours_that_had_ended_here_and_lives_there_is_cancelled(make):
    book = make()
    book.run(20)
    given_up = "UPDATE trading.orders SET state = 'ABANDONED', reason = 'x' WHERE book = :b AND leg = 'ENTRY'"
    book.sql(given_up, b=book.scope)
    book.run(20)
    assert [o["state"] for o in book.theirs()] == ["CANCELED"]
    assert book.locks() == []
