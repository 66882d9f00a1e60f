from datetime import UTC, datetime, timedelta, timezone

import pytest

from alphapivot.clock import SimulatedClock, WallClock

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def test_the_wall_clock_is_aware_and_now():
    before = datetime.now(UTC)
    assert before <= WallClock().now() <= datetime.now(UTC)


def test_a_simulated_clock_stands_still_until_it_is_moved():
    clock = SimulatedClock(NOON)
    assert clock.now() == clock.now() == NOON
    clock.advance(NOON + timedelta(hours=1))
    assert clock.now() == NOON + timedelta(hours=1)


def test_a_simulated_clock_does_not_run_backwards():
    with pytest.raises(ValueError, match="backwards"):
        SimulatedClock(NOON).advance(NOON - timedelta(seconds=1))


def test_a_simulated_clock_refuses_an_instant_without_a_zone():
    with pytest.raises(ValueError, match="time zone"):
        SimulatedClock(datetime(2026, 1, 5))  # noqa: DTZ001 - the point of the test


def test_a_simulated_clock_tells_utc_whatever_zone_it_was_given():
    tokyo = timezone(timedelta(hours=9))
    assert SimulatedClock(NOON.astimezone(tokyo)).now().tzinfo is UTC
