"""Late bars of a held contract and a silent feed are told, and lock their symbol."""

import pytest

from tests.execution.conftest import make_settings


def held(world, *, short=False):
    """A trade from the open of day 22 on; its stop is 4 away from 100."""
    world.calm([21])
    world.score(20, -50 if short else 50)
    world.trade(20)
    world.trade(21)
    return world


def locked(world):
    rows = world.sql("SELECT symbol, reason FROM trading.instrument_lock WHERE cleared_at IS NULL")
    return {r["symbol"]: r["reason"] for r in rows}


@pytest.mark.parametrize("short", [False, True])
def test_a_late_bar_that_went_through_a_stop_locks_its_symbol(world, short):
    held(world, short=short)
    world.calm([23])
    world.trade(23)
    assert locked(world) == {}
    low, high = (100, 105) if short else (95, 100)
    world.bar(22, 100, high, low, 100)  # after that of day 23 was traded
    report = world.trade(24)
    assert "the bar of 2026-01-23 00:00 UTC came after later bars were traded" in locked(world)["A"]
    assert f"went to {105 if short else 95}, through the stop of trade" in report.notes[0]
    assert world.one_trade()["state"] == "OPEN"
    world.sql("UPDATE trading.instrument_lock SET cleared_at = now(), cleared_by = 'me', cleared_reason = 'kept'")
    world.trade(24)
    assert locked(world) == {}


def test_a_late_bar_within_the_stop_is_nothing_to_tell(world):
    held(world)
    world.calm([23])
    world.trade(23)
    world.bar(22, 100, 101, 97, 100)
    assert world.trade(24).notes == []
    assert locked(world) == {}


def test_a_simulated_market_that_has_ended_locks_nothing(world):
    """Its time ends with it: `alphapivot manage` typed long after the demo finds nothing wrong."""
    simulated = {"kind": "simulated", "seed": 1, "start": "2025-01-01", "end": "2026-01-22"}
    world.settings = make_settings({"A": {}}, feeds={"simulated": simulated})
    held(world)
    world.trade(60)
    assert locked(world) == {}


def test_a_held_share_whose_whole_feed_is_silent_locks_its_symbol(world):
    held(world)
    for day in (22, 25, 31):
        world.trade(day)
    assert locked(world) == {}
    world.trade(32)
    assert "is held and has no bar since 2026-01-22 00:00 UTC" in locked(world)["A"]
