"""Stop and target of the night in one trigger of two legs at Zerodha: either leg, one that rests, what is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.execution.test_kite_book import CLOSING, LATER, OPEN, entered, make, resting, run  # noqa: F401

pytest.importorskip("kiteconnect")

D = Decimal


@pytest.fixture
def night(make):  # noqa: F811
    """A book whose stop at 96 and target at 108 are a trigger, overnight."""
    book = entered(make)
    run(book, 20 + CLOSING)
    (trigger,) = book.remote.triggers
    assert (trigger["type"], trigger["condition"]["trigger_values"]) == ("two-leg", [96.0, 108.0])
    assert [(leg["quantity"], leg["price"]) for leg in trigger["orders"]] == [(250, 93.12), (250, 108.0)]
    return book


def test_an_open_above_the_target_takes_the_profit_and_nothing_is_left(night):
    run(night, 21 + OPEN, 109)
    trade = night.trades()[0]
    assert (trade["state"], trade["close_reason"], trade["exit_price"]) == ("CLOSED", "target", 109)
    assert (night.held(), night.locks()) == (0, [])
    assert night.states()["STOP"][:2] == ["CANCELED", "FILLED"]
    night.holds()


def test_an_open_below_the_stop_is_a_stop(night):
    run(night, 21 + OPEN, 94)
    trade = night.trades()[0]
    assert (trade["state"], trade["close_reason"], trade["exit_price"], night.held()) == ("CLOSED", "stop", 94, 0)
    night.holds()


def test_a_target_that_fills_in_part_and_rests_leaves_the_rest_with_a_stop(night):
    night.price(21 + OPEN, 109, most=100)
    run(night, 21 + OPEN)
    assert night.held() == 150
    run(night, 21 + LATER, 104)  # its order rests at 108
    run(night, 21 + LATER, 104)
    assert resting(night) == [("SL-M", 96)]
    (stop,) = [o for o in night.remote.orders if o["order_type"] == "SL-M" and o["status"] == "TRIGGER PENDING"]
    assert stop["quantity"] == 150
    assert night.locks() == []
    night.holds()


def test_in_the_day_the_trigger_is_a_stop_again_and_the_target_is_watched(night):
    run(night, 21 + OPEN, 101)
    assert resting(night) == [("SL-M", 96)]
    assert [t["status"] for t in night.remote.triggers] == ["deleted"]
    night.holds()


def test_a_target_too_near_for_a_trigger_leaves_the_stop_alone_in_it(make):  # noqa: F811
    book = entered(make)
    run(book, 20 + CLOSING, "107.9")
    (trigger,) = book.remote.triggers
    assert (trigger["type"], trigger["condition"]["trigger_values"]) == ("single", [96.0])
    book.holds()


@pytest.mark.parametrize("fault", ["500", "html", "dropped", "lost"])
def test_one_whose_answer_is_lost_is_found_and_not_sent_again(make, fault):  # noqa: F811
    book = entered(make)
    book.remote.fault("POST /gtt", fault)
    run(book, 20 + CLOSING)
    run(book, 20 + CLOSING)
    assert [t["type"] for t in book.remote.triggers] == ["two-leg"]
    assert book.states()["STOP"] == ["CANCELED", "NEW"]
    assert book.locks() == []
    book.holds()
