"""A book at Zerodha, through its wire: days and nights, the gap at the open, kills, and what must lock."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from tests.execution import conftest
from tests.execution.book import Book
from tests.execution.conftest import FIRST, World, make_settings

pytest.importorskip("kiteconnect")

D = Decimal
HOURS = {"session": "09:15-15:30", "session_zone": "Asia/Kolkata"}
OPEN, LATER, CLOSING, EVENING = 0.75, 0.76, 0.995, 1.1  # after a close: 9:30 in India, 9:44, 15:22, 17:54


def at(day: float) -> datetime:
    """The close of the day-th session in India, and the hours after it."""
    return FIRST + timedelta(days=day, hours=10)


@pytest.fixture
def make(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    monkeypatch.setattr(conftest, "at", at)
    World(hub, make_settings({})).calm(range(1, 31))
    books = []

    def new(**sections):
        book = Book(hub, make_settings({"A": HOURS}, **sections), "kite", tmp_path, at, timeout=10)
        books.append(book)
        return book

    yield new
    for book in books:
        book.close()


def entered(make, **sections):
    """A book that has decided at the close of day 20, entered at the next open and placed its stop."""
    book = make(**sections)
    book.score(20, 50)
    book.remote.open = False
    book.run(20)
    assert book.theirs() == []
    book.remote.open = True
    book.price(20 + OPEN, 100)
    book.run(20 + OPEN)
    book.price(20 + LATER, 100)
    book.run(20 + LATER)
    book.holds()
    return book


def resting(book):
    """The stops that work: order type or trigger, and the price."""
    orders = [o for o in book.remote.orders if o["status"] in ("TRIGGER PENDING", "OPEN", "PUT ORDER REQ RECEIVED")]
    return [(o["order_type"], o["trigger_price"]) for o in orders] + [
        ("GTT", t["condition"]["trigger_values"][0]) for t in book.remote.triggers if t["status"] == "active"
    ]


def run(book, day, price=None):
    if price is not None:
        book.price(day, price)
    book.now(day)
    return book.run(day)


def test_a_day_and_a_night_leave_one_stop_in_place_at_every_hour(make):
    book = entered(make)
    assert (book.held(), resting(book)) == (250, [("SL-M", 96)])
    report = run(book, 20 + CLOSING)
    assert resting(book) == [("GTT", 96)]
    assert any("it ends with the day: a trigger takes its place overnight" in note for note in report.notes)
    book.holds()
    book.rests(20 + CLOSING)
    run(book, 20 + EVENING)
    assert resting(book) == [("GTT", 96)]
    run(book, 21 + OPEN, 101)
    assert resting(book) == [("SL-M", 96)]
    book.holds()
    assert book.locks() == []
    run(book, 21 + LATER, 95)
    run(book, 21 + LATER)
    trade = book.trades()[0]
    assert (trade["state"], trade["close_reason"], trade["exit_price"], book.held()) == ("CLOSED", "stop", 95, 0)
    book.holds()


def test_a_trigger_that_fires_at_the_open_closes_its_trade(make):
    book = entered(make)
    run(book, 20 + CLOSING)
    run(book, 21 + OPEN, 94)
    trade = book.trades()[0]
    assert (trade["close_reason"], trade["exit_price"], book.held()) == ("stop", 94, 0)
    assert book.states()["STOP"][:2] == ["CANCELED", "FILLED"]
    book.holds()


def test_a_gap_past_the_triggers_limit_is_told_and_leaves_at_market(make):
    book = entered(make)
    run(book, 20 + CLOSING)
    run(book, 21 + OPEN, 80)  # its order rests at 93.10
    assert book.held() == 250
    report = run(book, 21 + LATER)
    assert any("250 rest unfilled: the price has gone past their limit" in note for note in report.notes)
    assert [o["order_type"] for o in book.remote.orders if o["status"] not in ("COMPLETE", "CANCELLED")] == ["MARKET"]
    run(book, 21 + LATER, "79.5")
    trade = book.trades()[0]
    assert (trade["close_reason"], trade["exit_price"], book.held()) == ("stop", D("79.5"), 0)
    assert book.locks() == []
    book.holds()


def test_a_gap_of_which_a_part_fills_leaves_with_the_rest_at_market(make):
    book = entered(make)
    run(book, 20 + CLOSING)
    book.price(21 + OPEN, 94, most=100)
    run(book, 21 + OPEN)
    book.price(21 + OPEN, 80)
    run(book, 21 + LATER)
    run(book, 21 + LATER, 80)
    trade = book.trades()[0]
    assert (trade["close_reason"], trade["exit_qty"], book.held()) == ("stop", 250, 0)
    assert sum(f["qty"] for f in book.sql("SELECT qty FROM trading.fill WHERE side = 'SELL'")) == 250
    book.holds()


def test_a_triggers_order_that_is_refused_leaves_at_market_and_locks(make):
    book = entered(make)
    run(book, 20 + CLOSING)
    book.remote.trigger_rejects = ["Insufficient holdings: authorise the sale at CDSL"]
    run(book, 21 + OPEN, 90)
    run(book, 21 + LATER, 90)
    trade = book.trades()[0]
    assert (trade["state"], book.held()) == ("CLOSED", 0)
    assert "authorise the sale at CDSL" in book.locks()[0]


def test_an_exit_that_market_protection_leaves_resting_is_sent_again_until_it_is_out(make):
    book = entered(make)
    book.score(21, -50)
    run(book, 21)  # an exit is decided, and the market is closed
    book.price(21 + OPEN, 100)
    run(book, 21 + OPEN)
    (sent,) = [o for o in book.remote.orders if o["transaction_type"] == "SELL" and o["order_type"] == "MARKET"]
    book.price(21 + OPEN, 90)  # past its protection of 3 %
    assert (sent["status"], book.held()) == ("OPEN", 250)
    report = run(book, 21 + LATER)
    assert any("A: the EXIT is placed again: 250 rest unfilled" in note for note in report.notes)
    run(book, 21 + LATER, 90)
    assert (book.trades()[0]["state"], book.held()) == ("CLOSED", 0)
    book.holds()


def test_fills_that_come_twice_and_out_of_order_count_once(make):
    book = make()
    book.score(20, 50)
    book.price(20 + OPEN, 100)
    book.run(20 + OPEN)
    book.price(20 + LATER, 100, most=100)
    book.price(20 + LATER, 101)
    book.run(20 + LATER, fault="twice and shuffled", method="fills", times=99)
    (trade,) = book.trades()
    assert (trade["entry_qty"], trade["entry_price"]) == (250, D("100.6"))
    book.holds()


def test_without_a_run_before_the_close_the_next_open_places_the_stop(make):
    book = entered(make)
    book.remote.night()
    run(book, 21 + OPEN, 99)
    assert resting(book) == [("SL-M", 96)]
    assert book.states()["STOP"] == ["EXPIRED", "NEW"]
    assert book.locks() == [], "an order of yesterday is no riddle"
    book.holds()


def test_a_stop_that_filled_unread_locks_with_both_numbers(make):
    book = entered(make)
    book.price(20 + LATER, 95)  # it fills, no run reads it, and Kite forgets it
    book.remote.night()
    book.now(21 + OPEN)
    run(book, 21 + OPEN)
    assert book.held() == 0
    assert "our fills add up to 250, the broker holds 0" in book.locks()[0]


def test_an_entry_whose_answer_was_lost_is_settled_by_the_next_day(make):
    book = make()
    book.score(20, 50)
    book.run(20)
    book.price(20 + OPEN, 100)
    book.run(20 + OPEN, fault="request lost")
    assert (book.states()["ENTRY"], len(book.locks())) == (["UNKNOWN"], 1)
    book.now(21 + OPEN)
    book.remote.night()
    run(book, 21 + OPEN)
    assert book.states()["ENTRY"] == ["EXPIRED"]
    assert [o for o in book.theirs() if o["leg"] == "ENTRY"] == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", [20 + CLOSING, 21 + OPEN])
def test_killed_at_each_point_of_the_change_from_day_to_night_it_has_one_stop(make, moment):
    """Never two. Killed right before the send, nothing proves that it did not leave: someone looks, as for an entry."""
    point, landed = 0, set()
    while True:
        point += 1
        book = entered(make)
        if moment > 21:
            run(book, 20 + CLOSING)
            book.price(moment, 100)
        book.now(moment)
        name = book.killed(moment, point)
        if name is None:
            break
        assert len(resting(book)) <= 1, f"killed {name}, point {point}"
        run(book, moment)
        wanted = ("GTT", 96.0) if moment < 21 else ("SL-M", 96.0)
        unsure = name == "before submit"
        assert resting(book) == ([] if unsure else [wanted]), f"killed {name}, point {point}"
        assert book.held() == 250
        if unsure:
            assert any("may or may not have reached the broker" in reason for reason in book.locks())
        else:
            book.holds()
        landed.add(name)
        book.close()
    assert landed >= {"before cancel", "after cancel", "before submit", "after submit"}
