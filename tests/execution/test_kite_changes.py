"""Stops at Zerodha that are moved and resized in place, by day and by night, and what Kite refuses or loses."""

from __future__ import annotations

from decimal import Decimal

import pytest

from alphapivot.execution.book import control
from tests.execution.test_kite_book import CLOSING, EVENING, LATER, OPEN, entered, make, resting, run  # noqa: F401

pytest.importorskip("kiteconnect")

D = Decimal


def following(make, **sections):  # noqa: F811 - the fixture
    """A book whose stop trails the close by one ATR, entered; its stop is at 96."""
    book = entered(make, **sections)
    follows = book.settings.exit.model_copy(update={"trail_atr": D(1)})
    book.settings = book.settings.model_copy(update={"exit": follows})
    book.score(20, 50)
    return book


def decided(book):
    """The decision of the evening moves the stop to 98."""
    book.now(21)
    book.score(21, 50)
    book.run(21)
    return book


def test_a_trigger_is_moved_in_place_and_never_gone(make):  # noqa: F811
    book = following(make)
    run(book, 20 + CLOSING)
    (trigger,) = book.remote.triggers
    decided(book)
    assert resting(book) == [("GTT", 98)]
    assert book.remote.triggers == [trigger]
    assert trigger["orders"][0]["price"] == pytest.approx(95.06)  # three percent worse, on the tick
    assert [(c[1], c[2]) for c in book.remote.changed] == [(250, 98)]
    assert [(o["version"], o["price"], o["state"]) for o in book.orders("STOP") if o["state"] == "NEW"] == [
        (2, 98, "NEW")
    ]
    assert book.locks() == []
    book.holds()
    run(book, 21 + OPEN, 101)
    assert resting(book) == [("SL-M", 98)]
    book.holds()


def test_a_part_that_leaves_cuts_the_stop_in_place(make):  # noqa: F811
    book = entered(make)
    (stop,) = [o for o in book.remote.orders if o["order_type"] == "SL-M"]
    control.close(book.hub, book.scope, "A", D(100), book.settings.instruments["A"], "a part", "me")
    run(book, 20 + LATER, 100)
    run(book, 20 + LATER, 100)
    assert (book.held(), stop["quantity"], stop["status"]) == (150, 150, "TRIGGER PENDING")
    assert book.remote.changed == [(stop["order_id"], 150, 96)]
    run(book, 20 + LATER)
    book.holds()
    assert book.locks() == []


@pytest.mark.parametrize("fault", ["500", "502", "html", "truncated", "dropped", "lost", "never", "503", "429", "400"])
def test_whatever_becomes_of_a_change_one_stop_protects_and_the_next_run_has_moved_it(make, fault):  # noqa: F811
    book = following(make)
    run(book, 20 + CLOSING)
    book.remote.fault("PUT", fault)
    decided(book)
    (kept,) = resting(book)
    assert kept in (("GTT", 96), ("GTT", 98))
    for _ in range(2):
        run(book, 20 + EVENING)
        book.run(21)
    assert (resting(book), len(book.remote.triggers)) == ([("GTT", 98)], 1)
    assert book.locks() == []
    book.holds()


def test_a_stop_that_a_person_moved_at_kite_stays_where_it_is(make):  # noqa: F811
    book = entered(make)
    run(book, 20 + CLOSING)
    (trigger,) = book.remote.triggers
    trigger["condition"]["trigger_values"] = [97.0, 108.0]
    report = run(book, 20 + EVENING)
    assert any("somebody moved the stop of trade" in note and "to 97: it stays there" in note for note in report.notes)
    assert (resting(book), book.remote.changed, book.locks()) == ([("GTT", 97)], [], [])
    run(book, 21 + OPEN, 101)
    assert resting(book) == [("SL-M", 97)]


@pytest.mark.slow
def test_killed_at_each_point_of_a_change_one_stop_protects(make):  # noqa: F811
    point = 0
    while True:
        point += 1
        book = following(make)
        run(book, 20 + CLOSING)
        book.now(21)
        book.score(21, 50)
        if book.killed(21, point) is None:
            break
        assert len(resting(book)) == 1, f"point {point}"
        book.run(21)
        assert resting(book) == [("GTT", 98)], f"point {point}"
        assert book.locks() == [], f"point {point}"
        book.holds()
        book.close()
    assert point > 5
