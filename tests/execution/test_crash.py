"""A real process is killed in mid-run, and the next run ends as an undisturbed one would."""

import os
import signal
import threading
from datetime import datetime

import pytest

from alphapivot.brokers.registry import open_broker
from alphapivot.clock import SimulatedClock
from alphapivot.execution.book import control
from alphapivot.execution.run.engine import trade
from alphapivot.hub import Hub
from alphapivot.runs import RunRef


class DyingBroker:
    """The configured broker, which takes the process with it at the n-th submit: before the order arrives, or after."""

    def __init__(self, hub, settings, moment, nth):
        self._broker, self._moment, self._left = open_broker(hub, settings), moment, nth

    def __getattr__(self, name):
        return getattr(self._broker, name)

    def submit(self, spec):
        self._left -= 1
        if self._left == 0 and self._moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = self._broker.submit(spec)
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


class DyingClock(SimulatedClock):
    """Kills at any reading of the clock: there is one before each commit of the engine."""

    left: int = 0

    def now(self) -> datetime:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().now()


def killed(world, run, *, broker=None, looks=0):
    """Runs in a forked child; True if it was killed."""
    child = os.fork()
    if child == 0:
        try:
            hub = Hub(world.hub.url)  # a connection is not shared between processes
            clock = DyingClock(run.as_of)
            clock.left = looks
            trade(hub, run, world.settings, clock, broker=DyingBroker(hub, world.settings, *broker) if broker else None)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.fixture
def two(new_world):
    """A reverses its open long, B wants to enter, C is stopped out on the way."""
    world = new_world({"A": {}, "B": {}, "C": {}})
    for symbol in "ABC":
        world.calm(range(1, 22), symbol=symbol)
    world.score(20, 50, symbol="A")
    world.score(20, 50, symbol="C")
    world.trade(20)
    world.bar(22, 100, 101, 99, 100, symbol="A")
    world.bar(22, 100, 101, 99, 100, symbol="B")
    world.bar(22, 100, 101, 90, 91, symbol="C")
    for symbol, value in (("A", -50), ("B", 60), ("C", 0)):
        world.score(22, value, symbol=symbol)
    return world


EXPECTED = {
    ("A", "ENTRY"): ("FILLED", 100),
    ("A", "STOP"): ("NEW", None),
    ("A", "TARGET"): ("NEW", None),
    ("A", "EXIT"): ("NEW", None),
    ("B", "ENTRY"): ("NEW", None),
    ("B", "STOP"): ("SUSPENDED", None),
    ("B", "TARGET"): ("SUSPENDED", None),
    ("C", "ENTRY"): ("FILLED", 100),
    ("C", "STOP"): ("FILLED", 96),
    ("C", "TARGET"): ("CANCELED", None),
}


def check(world):
    assert world.orders() == EXPECTED
    assert len(world.sql("SELECT FROM paper.orders")) == len(EXPECTED)
    world.holds()
    before = world.state()
    world.trade(22)
    assert world.state() == before


def test_an_undisturbed_run_is_what_the_others_are_measured_by(two):
    two.trade(22)
    check(two)


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_a_send_the_next_run_sends_exactly_once(two, moment, nth):
    run = RunRef("killed", "live", two.runs[0].as_of.replace(day=23), None, "hash")
    assert killed(two, run, broker=(moment, nth))
    sent = len(two.sql("SELECT FROM paper.orders")) - 6
    assert two.sql("SELECT state FROM trading.orders WHERE state = 'PENDING_NEW'") == [{"state": "PENDING_NEW"}]
    two.trade(22)
    check(two)
    assert sent == {("before", 1): 0, ("after", 1): 1, ("before", 2): 1, ("after", 2): 4}[moment, nth]


@pytest.mark.parametrize("looks", range(1, 12))
def test_killed_before_any_commit_the_next_run_does_what_is_left(two, looks):
    run = RunRef("killed", "live", two.runs[0].as_of.replace(day=23), None, "hash")
    assert killed(two, run, looks=looks)
    two.trade(22)
    check(two)


def test_an_entry_that_was_never_sent_expires_at_the_next_instant(two):
    run = RunRef("killed", "live", two.runs[0].as_of.replace(day=23), None, "hash")
    assert killed(two, run, broker=("before", 1))
    for symbol in "ABC":
        two.calm([23], symbol=symbol)
        two.score(23, 0, symbol=symbol)
    two.trade(23)
    assert two.orders()["B", "ENTRY"] == ("EXPIRED", None)
    assert two.one_trade("B")["close_reason"] == "not_sent_in_time"
    # the exit is still due: it is sent now, and fills at the next open
    assert two.orders()["A", "EXIT"] == ("NEW", None)
    two.calm([24], symbol="A")
    two.trade(24)
    assert two.one_trade("A")["close_reason"] == "reversal"
    two.holds()


def test_two_executors_at_once_trade_once(two):
    """The second ends cleanly and reports it."""
    run = RunRef("both", "live", two.runs[0].as_of.replace(day=23), None, "hash")
    gate, reports = threading.Barrier(4), []

    def execute():
        with Hub(two.hub.url) as hub:
            gate.wait()
            reports.append(trade(hub, run, two.settings, SimulatedClock(run.as_of)))

    threads = [threading.Thread(target=execute) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(reports) == 4
    for report in reports:
        assert not report.busy or (report.decisions == [] and "another executor" in report.notes[0])
    assert sum(len(r.sent) for r in reports) == 2
    check(two)


def test_a_held_lock_means_busy(two):
    with two.hub.dbapi(autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('alphapivot.trade'), hashtext('paper'))")
        before = two.state()
        report = two.trade(22)
        assert report.busy
        assert two.state() == before
    assert not two.trade(22).busy


class HaltingBroker:
    """The configured broker; the kill switch is set right after the first entry is sent."""

    def __init__(self, hub, settings):
        self._hub, self._broker = hub, open_broker(hub, settings)

    def __getattr__(self, name):
        return getattr(self._broker, name)

    def submit(self, spec):
        answer = self._broker.submit(spec)
        if spec.leg == "ENTRY":
            control.halt(self._hub, "paper", "in mid-run", "me")
        return answer


def test_a_kill_switch_thrown_in_mid_run_stops_the_entries_that_are_left_and_no_exit(two):
    # A's exit (-50) goes out first, then the entries, the strongest first
    two.score(22, 80, symbol="C")
    report = two.trade(22, broker=HaltingBroker(two.hub, two.settings))
    assert [d.action for d in report.decisions] == ["ENTER_LONG", "ENTER_LONG", "EXIT"]  # C again, B, A
    states = {
        (r["symbol"], r["leg"]): (r["state"], r["reason"])
        for r in two.sql("SELECT * FROM trading.orders ORDER BY created_at")
    }
    # the entry that was sent is resting, and is cancelled
    assert sorted(states[s, "ENTRY"] for s in "BC") == [("CANCELED", "halted"), ("DENIED", "halted")]
    assert states["A", "EXIT"][0] == "NEW"
    assert len(report.sent) == 2
    denied = "B" if states["B", "ENTRY"][0] == "DENIED" else "C"
    assert {states[denied, leg][0] for leg in ("STOP", "TARGET")} == {"DENIED"}
    assert two.one_trade(denied)["close_reason"] == "halted"
    two.holds()


class DyingAtCancel(DyingBroker):
    def cancel(self, ref):
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed_before_a_cancel_the_next_run_cancels(world):
    world.score(20, 50)
    world.trade(20)
    world.score(21, -50)
    run = RunRef("killed", "live", world.runs[0].as_of.replace(day=22), None, "hash")
    child = os.fork()
    if child == 0:
        try:
            hub = Hub(world.hub.url)
            trade(hub, run, world.settings, SimulatedClock(run.as_of), broker=DyingAtCancel(hub, world.settings, "", 0))
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert world.orders()["A", "ENTRY"] == ("PENDING_CANCEL", None)
    world.trade(21)
    assert {state for state, _ in world.orders().values()} == {"CANCELED"}
    assert world.one_trade()["close_reason"] == "reversal"
    world.holds()
