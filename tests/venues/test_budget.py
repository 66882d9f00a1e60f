"""A venue's limits on requests, kept over processes; each expected wait is worked by hand."""

from __future__ import annotations

import pytest

from alphapivot import home, waiting
from alphapivot.venues.budget import Budget, Rule, pause

TEN_MINUTES = Rule(60, 600)
SAME = Rule(1, 15, key=1)
CONTRACT = Rule(5, 2, key=0)
SECOND = Rule(10, 1, calendar=True)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))


def past(*times, keys=("a", "r")):
    return [(at, keys) for at in times]


@pytest.mark.parametrize(
    ("rule", "before", "now", "waits"),
    [
        (TEN_MINUTES, past(*range(60)), 60, 540),  # until the first is ten minutes old
        (TEN_MINUTES, past(*range(59)), 60, 0),
        (TEN_MINUTES, past(*range(60)), 601, 0),
        (SAME, past(0), 14, 1),
        (SAME, past(0, keys=("a", "other")), 14, 0),
        (CONTRACT, past(0, 0.5, 1, 1, 1), 1.5, 0.5),
        (CONTRACT, past(0, 0.5, 1, 1, 1, keys=("b", "r")), 1.5, 0),
        (SECOND, past(*[0.9] * 10), 0.95, 0.05),  # of the clock's second, which is over at 1
        (SECOND, past(*[0.9] * 10), 1.01, 0),
    ],
)
def test_a_request_waits_until_it_breaks_no_rule(rule, before, now, waits):
    assert pause(before, ("a", "r"), [rule], now) == pytest.approx(waits)


class Clock:
    def __init__(self):
        self.now, self.slept = 1000.0, []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def test_two_processes_share_what_a_venue_takes_and_a_long_wait_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(waiting, "say", told.append)
    clock = Clock()
    one, other = (Budget("Venue at a/b", [Rule(2, 60)], now=lambda: clock.now, sleep=clock.sleep) for _ in range(2))
    one.take("a", "1")
    other.take("a", "2")
    assert clock.slept == []
    one.take("a", "3")
    assert clock.slept == [60]
    assert told == ["Venue at a/b takes no more requests for now: waiting 60 s"]
    (file,) = (home.cache() / "requests").iterdir()
    file.write_text('[[1060.0, ["a"')  # as a kill leaves it
    one.take("a", "4")
    assert clock.slept == [60]
