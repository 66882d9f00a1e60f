"""
A book lives through anything, in any order: days, scores, partial fills, lost answers, a lost database, halts, stops
that end by themselves, a person who clears locks. Whatever came before, after the next run the invariants hold.
"""

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from alphapivot.clock import SimulatedClock
from alphapivot.errors import Unavailable
from alphapivot.execution import control
from alphapivot.execution.clearing import abandon, unlock
from alphapivot.hub import Hub
from tests.execution.book import Book
from tests.execution.conftest import World, at, make_settings

FAULTS = (
    (None, "submit"),
    ("accepted, answer lost", "submit"),
    ("request lost", "submit"),
    ("throttled", "submit"),
    ("no connection", "submit"),
    ("refused", "submit"),
    ("no access", "submit"),
    ("unreachable", "cancel"),
    ("done, unreachable", "cancel"),
    ("unreachable", "find"),
    ("twice and shuffled", "fills"),
)
DAYS = 90


@pytest.fixture(scope="module")
def market(server, template):
    with Hub(server.database("machine", template=template)) as hub:
        World(hub, make_settings({"A": {}})).calm(range(1, DAYS))
        yield hub


class Life(RuleBasedStateMachine):
    """``market``, ``folder`` and ``kind`` are set by the test."""

    def __init__(self):
        super().__init__()
        self.book = Book(self.market, make_settings({"A": {}}), self.kind, self.folder, at)
        self.day = 20
        self.halted = False

    @precondition(lambda self: self.day < DAYS - 2)
    @rule(price=st.sampled_from([94, 97, 100, 103, 109]), most=st.sampled_from([None, None, 60]))
    def a_day_passes(self, price, most):
        self.day += 1
        self.book.price(self.day, price, most=most)

    @rule(value=st.sampled_from([-60, 0, 60, 60]), fault=st.sampled_from(FAULTS), nth=st.integers(1, 2))
    def a_score_and_a_run_with_a_broker_that_answers_badly(self, value, fault, nth):
        self.book.score(self.day, value)
        before = self.entries()
        with suppress(Unavailable):
            self.book.run(self.day, fault=fault[0], method=fault[1], nth=nth)
        self.at_rest(before)

    @rule(n=st.integers(1, 30))
    def a_run_loses_the_database(self, n):
        before = self.entries()
        self.book.disconnected(self.day, n)
        self.at_rest(before)

    @rule()
    def stops_end_by_themselves(self):
        self.book.broker.end([o["client_order_id"] for o in self.book.orders("STOP")])

    @rule(flatten=st.booleans())
    def somebody_halts(self, flatten):
        control.halt(self.book.hub, self.book.scope, "a test", "me", flatten=flatten)
        self.halted = True

    @rule()
    def somebody_resumes(self):
        control.resume(self.book.hub, self.book.scope, "a test", "me")
        self.halted = False

    @precondition(lambda self: self.book.locks())
    @rule()
    def a_person_looks_and_clears(self):
        there = {o["id"] for o in self.book.theirs()}
        for order in self.book.orders():
            if order["state"] == "UNKNOWN" and order["client_order_id"] not in there:
                clock = SimulatedClock(at(self.day))
                abandon(self.book.hub, self.book.scope, order["client_order_id"], "it never arrived", "me", clock)
        unlock(self.book.hub, self.book.scope, "A", "looked at", "me")

    def entries(self):
        return [o["id"] for o in self.book.theirs() if o["leg"] == "ENTRY"]

    def at_rest(self, before):
        """The next undisturbed run, and what holds after it."""
        self.book.run(self.day)
        locked = bool(self.book.locks())
        self.book.holds(locked=locked)
        if self.halted:
            assert self.entries() == before, "I12: an entry was sent while the book was halted"
        self.halted = self.word() != "ACTIVE"
        (sums,) = self.book.sql(
            "SELECT coalesce(sum(cash - fee), 0) AS made FROM trading.fill WHERE book = :b", b=self.book.scope
        )
        assert Decimal(100_000) + sums["made"] == self.book.broker.account().cash, "I9"
        self.book.rests(self.day)  # I10

    def word(self):
        with self.book.hub.engine.connect() as conn:
            return control.state(conn, self.book.scope).state


@pytest.mark.parametrize("kind", ["unique", "poor"])
@pytest.mark.parametrize(
    ("examples", "steps"), [(4, 10), pytest.param(150, 30, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
)
def test_whatever_happens_the_invariants_hold_after_the_next_run(market, tmp_path, kind, examples, steps):
    machine = type("Life", (Life,), {"market": market, "folder": tmp_path, "kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
