"""Instruments that are listed from a day to another one: entered, held and scored only then."""

from decimal import Decimal

import pytest

from alphapivot.reports import alerts
from tests.execution.conftest import at

SPAN = {"until": "2026-01-23"}  # its session is bar 23: the 24/7 calendar's days end at midnight
MEMBER = {"members": {"2025-01-01": "2026-01-23", "2026-01-27": ""}}


@pytest.mark.parametrize("listed", [SPAN, MEMBER])
def test_what_is_open_leaves_at_the_open_of_its_last_session(new_world, listed):
    world = new_world({"A": listed})
    world.calm(range(1, 23))
    world.bar(23, 103, 104, 102, 103)
    world.score(20, 50)
    for day in (20, 21):
        world.trade(day)
    assert world.one_trade()["state"] == "OPEN"
    world.score(22, 50)
    (decision,) = world.trade(22).decisions
    assert (decision.action, decision.reasons) == ("EXIT", ("not_listed",))
    world.trade(23)
    trade = world.one_trade()
    assert (trade["state"], trade["close_reason"], trade["exit_price"]) == ("CLOSED", "not_listed", Decimal(103))
    assert trade["exit_at"] == at(23)
    world.holds()


@pytest.mark.parametrize(
    ("day", "listed", "denied"),
    [
        (21, SPAN, False),
        (22, SPAN, True),  # it would have to leave at the open at which it enters
        (25, MEMBER, True),
        (26, MEMBER, False),  # the next bar is the first of its second span
        (20, {"from": "2026-01-22"}, True),
        (21, {"from": "2026-01-22"}, False),
        (21, {"members": {"2024-01-01": "2024-12-31"}}, True),
    ],
)
def test_nothing_is_entered_outside_its_time(new_world, day, listed, denied):
    world = new_world({"A": listed})
    world.calm(range(1, day + 1))
    world.score(day, 50)
    (decision,) = world.trade(day).decisions
    assert decision.reasons == (("not_listed",) if denied else ("score_beyond_threshold",))


def test_what_could_not_leave_is_settled_at_its_last_price_and_told(new_world):
    world = new_world({"A": SPAN, "B": {}})
    world.calm(range(1, 23))
    world.calm(range(1, 24), symbol="B")
    world.score(20, 50)
    for day in (20, 21, 22, 23):
        world.trade(day)
    trade = world.one_trade()
    assert (trade["state"], trade["exit_price"]) == ("CLOSED", Decimal(100))
    assert any("A has had its last session, [instrument.A] until = 2026-01-23" in note for note in world.runs[-1].notes)
    (line,) = world.sql("SELECT kind FROM trading.journal WHERE kind = 'ended'")
    assert alerts.NOTED[line["kind"]] == "market ended"
    world.holds()
