"""The step of an open trade towards its target: every case by hand, and what holds for all of them."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alphapivot.execution.decide.facts import OpenTrade
from alphapivot.execution.decide.lifecycle import LifecycleStep
from alphapivot.execution.decide.positions import towards
from alphapivot.execution.decide.target import Band, band

D = Decimal
HOLD = LifecycleStep("HOLD", ("already_open",))
AMEND = LifecycleStep("AMEND", ("trailing_stop",), D(97))
LONG = OpenTrade(1, "A", "spot", "", "LONG", "OPEN", D(100), D(100), 5, exiting=False, stop=D(96), distance=D(4))


def between(low, high):
    return Band(D(10), D(10), D(0), D(low), D(high))


@pytest.mark.parametrize(
    ("trade", "edges", "step", "expected"),
    [
        (LONG, (90, 110), HOLD, ("HOLD", ("within_buffer",), None, None)),
        (LONG, (90, 110), AMEND, ("AMEND", ("trailing_stop",), D(97), None)),
        (LONG, (120, 140), HOLD, ("ADD", ("target_larger",), None, 20)),
        (LONG, (120, 140), AMEND, ("ADD", ("target_larger", "trailing_stop"), D(97), 20)),
        (LONG, (50, 70), HOLD, ("REDUCE", ("target_smaller",), None, 30)),
        (LONG, (50, 70), AMEND, ("REDUCE", ("target_smaller", "trailing_stop"), D(97), 30)),
        (LONG, (-10, 10), HOLD, ("REDUCE", ("target_smaller",), None, 90)),
        (LONG, (-10, 0), HOLD, ("EXIT", ("target_gone",), None, None)),
        (LONG, (-70, -50), AMEND, ("EXIT", ("target_gone",), None, None)),
        (replace(LONG, side="SHORT"), (50, 70), HOLD, ("EXIT", ("target_gone",), None, None)),
        (replace(LONG, side="SHORT"), (-140, -120), HOLD, ("ADD", ("target_larger",), None, 20)),
        (replace(LONG, side="SHORT"), (-70, -50), HOLD, ("REDUCE", ("target_smaller",), None, 30)),
        # one order at a time
        (replace(LONG, coming=D(5)), (120, 140), HOLD, ("HOLD", ("entry_working",), None, None)),
        (replace(LONG, entering=True), (120, 140), HOLD, ("HOLD", ("entry_working",), None, None)),
        (replace(LONG, coming=D(5)), (50, 70), HOLD, ("REDUCE", ("target_smaller",), None, 30)),
        (replace(LONG, exiting=True), (-70, -50), HOLD, ("HOLD", ("already_open",), None, None)),
        # what has not filled has no size to change
        (replace(LONG, state="PENDING"), (120, 140), HOLD, ("HOLD", ("already_open",), None, None)),
        (replace(LONG, state="PENDING"), (-70, -50), HOLD, ("EXIT", ("target_gone",), None, None)),
        # exits of its rules come first, a roll unless the target is gone
        (LONG, (120, 140), LifecycleStep("EXIT", ("time_stop",)), ("EXIT", ("time_stop",), None, None)),
        (LONG, (120, 140), LifecycleStep("ROLL", ("contract_rolled",)), ("ROLL", ("contract_rolled",), None, None)),
        (LONG, (-70, -50), LifecycleStep("ROLL", ("contract_rolled",)), ("EXIT", ("target_gone",), None, None)),
    ],
)
def test_each_step_by_hand(trade, edges, step, expected):
    found = towards(trade, between(*edges), step, D(1))
    assert (found.action, found.reasons, found.stop, found.qty) == expected


def test_a_part_of_a_lot_stays():
    """Such as 75 in lots of 50, whose size has changed."""
    assert towards(replace(LONG, qty=D(75)), between(0, 50), HOLD, D(50)).action == "HOLD"
    assert towards(replace(LONG, qty=D(125)), between(0, 50), HOLD, D(50)).qty == 50


quantities = st.integers(1, 500).map(D)


@given(
    quantities,
    st.sampled_from(["LONG", "SHORT"]),
    st.decimals("-20", "20", places=1),
    quantities,
    st.decimals("0", "1", places=1),
    st.none() | quantities,
)
def test_every_step_ends_within_the_band_and_never_on_the_other_side(qty, side, strength, usual, buffer, most):
    goal = band(strength, usual, buffer=buffer, lot=D(1), most=None if most is None else ("risk", most))
    sign = 1 if side == "LONG" else -1
    step = towards(replace(LONG, side=side, qty=qty), goal, HOLD, D(1))
    after = {"ADD": qty + (step.qty or 0), "REDUCE": qty - (step.qty or 0), "EXIT": D(0), "HOLD": qty}[step.action]
    assert after >= 0
    if step.action == "EXIT":
        assert sign * goal.nearest(sign * qty) <= 0
    else:
        assert after > 0
        assert goal.low <= sign * after <= goal.high
    assume(step.action not in ("EXIT", "HOLD"))
    again = towards(replace(LONG, side=side, qty=after), goal, HOLD, D(1))
    assert again.action == "HOLD"
