"""Additions to a position beside approval, the kill switch, closing, splits and rolls; and traced."""

from datetime import timedelta
from decimal import Decimal

import pytest

from alphapivot.errors import DataError
from alphapivot.execution.book import control
from alphapivot.execution.book.trace import trace
from alphapivot.execution.operator import approvals
from tests.execution.conftest import at
from tests.execution.test_positions import close_of, following, held, lived, swinging

D = Decimal
FUTURE = {"futures": "f", "signal_market": "futures", "trade_market": "futures", "margin": "0.1"}


@pytest.fixture
def wanting(hub):
    """89 of A since day 21, whose close decides to add 50; after ``world.trade(21)``."""

    def new(instruments=None, **options):
        world = following(hub, instruments, **options)
        swinging(world, range(1, 20))
        lived(world, 20, 30)
        swinging(world, [21])
        world.score(21, 45)
        return world

    return new


def addition(world):
    row = world.sql("SELECT state, reason, cum_qty FROM trading.orders WHERE leg = 'ENTRY' AND version > 1")[-1]
    return tuple(row.values())


def approved(world):
    """What day 20 decided gets its yes."""
    approvals.approve(world.hub, "paper", "A", "agreed", "Ann", at(20) + timedelta(hours=1))
    world.trade(at(20) + timedelta(hours=2), decide_too=False)


@pytest.fixture
def asking(hub):
    world = following(hub, approve="entries")
    swinging(world, range(1, 21))
    world.score(20, 30)
    world.trade(20)
    approved(world)
    swinging(world, [21, 22])
    world.score(22, 45)
    world.trade(22)
    return world


def test_an_addition_waits_for_its_own_yes(asking):
    world = asking
    assert (held(world), addition(world)) == (89, ("CREATED", None, 0))
    world.holds()
    (row,) = approvals.waiting(world.hub, "paper").to_dict("records")
    assert (row["qty"], row["reference"], row["addition"], row["approved"]) == (50, 100, True, False)
    note = world.trade(at(22) + timedelta(hours=1), decide_too=False).notes[0]
    assert note.startswith("the addition to A waits for approval until 2026-01-24 00:00 UTC")
    said = approvals.approve(world.hub, "paper", "A", "more", "Ann", at(22) + timedelta(hours=1))
    assert said.startswith("LONG 50 A of 2026-01-23")
    with pytest.raises(DataError, match="was approved by Ann"):
        approvals.approve(world.hub, "paper", "A", "more", "Bob", at(22) + timedelta(hours=1))
    assert len(world.trade(at(22) + timedelta(hours=2), decide_too=False).sent) == 1
    swinging(world, [23, 24])
    world.score(24, 45)
    world.trade(24)
    assert (held(world), addition(world)) == (139, ("FILLED", None, 50))
    world.holds()


def test_an_addition_without_a_yes_is_over_and_its_position_and_stop_stay(asking):
    world = asking
    swinging(world, [23])
    world.score(23, 45)
    world.trade(23)
    rows = world.sql("SELECT version, state, reason FROM trading.orders WHERE leg = 'ENTRY' ORDER BY version")
    assert [tuple(r.values()) for r in rows] == [
        (1, "FILLED", None),
        (2, "EXPIRED", "not_approved_in_time"),
        (3, "CREATED", None),  # the new score asks again
    ]
    assert held(world) == 89
    world.holds()


def test_a_reduction_never_waits_and_ends_the_addition_that_does(asking):
    world = asking
    world.score(22, 15)  # restated while the addition waits
    world.trade(22)
    assert addition(world)[:2] == ("CANCELED", "leaving")
    swinging(world, [23])
    world.score(23, 15)
    world.trade(23)
    assert held(world) == 60
    world.holds()


@pytest.mark.parametrize("state", ["REDUCE_ONLY", "HALTED"])
def test_a_stopped_book_adds_nothing_and_keeps_its_stop(wanting, state):
    world = wanting()
    world.sql(
        "INSERT INTO trading.control (scope, state, reason, by) VALUES ('paper', :state, 'a test', 'me')", state=state
    )
    (decision,) = world.trade(21).decisions
    assert (decision.action, decision.reasons) == ("HOLD", (state.lower(),))
    assert decision.gates["target"].passed
    world.holds()


def test_a_book_stopped_before_the_open_takes_back_its_addition(wanting):
    world = wanting()
    world.trade(21)
    control.halt(world.hub, "paper", "a test", "me")
    world.trade(at(21) + timedelta(hours=1), decide_too=False)
    assert addition(world) == ("CANCELED", "halted", 0)
    lived(world, 22, 45)
    assert held(world) == 89


@pytest.mark.parametrize("qty", [None, 20])
def test_closing_takes_back_the_addition_first(wanting, qty):
    world = wanting()
    world.trade(21)
    amount = None if qty is None else D(qty)
    control.close(world.hub, "paper", "A", amount, world.settings.instruments["A"], "enough", "me")
    world.trade(at(21) + timedelta(hours=1), decide_too=False)
    assert addition(world)[0] == "CANCELED"
    for day in (22, 23):  # it was asked for within the bar of day 22
        swinging(world, [day])
        world.score(day, 0 if qty is None else 22)
        world.trade(day)
    assert held(world) == (0 if qty is None else 69)
    world.holds()


def test_a_split_cancels_an_addition_and_the_average_is_of_todays_shares(wanting):
    world = wanting()
    world.trade(21)
    world.action(21, "split", 2, hour=9)
    world.bar(22, 50, "50.5", "49.5", 50)
    world.score(22, 45)
    world.trade(22)
    before, again = world.sql("SELECT state, reason, qty FROM trading.orders WHERE leg = 'ENTRY' AND version > 1")
    assert (held(world), before["state"], before["reason"]) == (178, "CANCELED", "split")
    world.holds()
    # twice as many shares, of half the volatility each: 297.9 less 19.9, of which 178 are there
    assert (again["state"], again["qty"]) == ("NEW", 100)
    world.bar(23, 51, 52, 50, 51)
    world.score(23, 45)
    world.trade(23)
    world.holds()
    trade = world.one_trade()
    assert (trade["entry_qty"], trade["adjusted"], trade["stop"]) == (278, 89, 48)
    # 89 at 101 are 178 at 50.5
    assert round(trade["entry_price"], 9) == round((178 * D("50.5") + 100 * 51) / 278, 9)
    world.bar(24, 51, 52, 50, 51)
    world.score(24, 45)
    world.trade(24)
    assert held(world) == 278  # the addition was sized after the split: nothing leaves for it
    world.holds()


def test_a_roll_carries_the_whole_position_and_it_grows_in_the_next_contract(hub):
    world = following(hub, {"A": FUTURE}, exits={"roll": True})
    h6, m6 = ({"market": "futures", "contract": c} for c in ("H6", "M6"))
    world.roll(None, "H6")
    swinging(world, range(1, 20), **h6)
    for day in range(10, 34):
        close = close_of(day) + 3
        world.bar(day, close, close + 1, close - 1, close, **m6)
    for day in (20, 21, 22):
        lived(world, day, 30 if day == 20 else 45, **h6)
    assert held(world) == 139
    world.roll(23, "M6", "H6", spread=3.0, offset=-3.0)
    lived(world, 23, 45, **h6)
    lived(world, 24, 45, **h6)
    rolled = world.one_trade()
    assert (rolled["contract"], held(world), rolled["stop"]) == ("M6", 139, 99)
    decision = world.score(25, 60) or world.trade(25).decisions[0]
    assert (decision.action, decision.plan.qty) == ("ADD", 50)
    world.score(26, 60)
    (decision,) = world.trade(26).decisions
    assert held(world) == 189
    # 89 at 101 and 50 at 100 in the first contract, 3 more here, and 50 at 103
    assert round(decision.trade.price, 9) == round((D(139) * 3 + 89 * 101 + 50 * 100 + 50 * 103) / 189, 9)
    world.holds()


def test_an_addition_is_traced_to_its_own_decision(wanting):
    world = wanting()
    world.trade(21)
    (order,) = world.sql("SELECT client_order_id FROM trading.orders WHERE leg = 'ENTRY' AND version = 2")
    chain = dict(trace(world.hub, order["client_order_id"]))
    decided = next(table for title, table in chain.items() if title.startswith("Decision"))
    shown = dict(zip(decided["field"], decided["value"], strict=True))
    assert (shown["action"], shown["reasons"], shown["qty"]) == ("ADD", ["target_larger"], "50")
    assert "target" in list(chain["Gates"]["gate"])
    (trade,) = (table for title, table in chain.items() if title.startswith("Trade"))
    assert dict(zip(trade["field"], trade["value"], strict=True))["entry_qty"] == 89
