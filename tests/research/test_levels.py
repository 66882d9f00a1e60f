"""The kernel puts stops and targets on the same ticks as the engine, whose numbers are exact."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from alphapivot import money
from alphapivot.execution.decide.sizing import levels
from alphapivot.research.screen import kernel

TICK = Decimal("0.01")


@settings(deadline=None)  # the first call loads compiled code
@given(
    price=st.integers(10_000, 20_000_000),  # ticks
    ranges=st.integers(50, 5_000),  # ticks, of which the mean is taken
    bars=st.integers(1, 14),
    away=st.integers(-30, 30),
    reward=st.sampled_from(["1", "1.5", "2", "3"]),
    side=st.sampled_from(["LONG", "SHORT"]),
)
def test_a_level_lies_on_the_same_tick(price, ranges, bars, away, reward, side):
    """Near a tick, too: ``away`` from it in millionths."""
    atr = (ranges / bars + away * 1e-6) * float(TICK)
    exact = levels(side, price * TICK, Decimal(repr(atr)) * Decimal("1.5"), Decimal(reward), TICK)
    sign, wide = (1 if side == "LONG" else -1), atr * 1.5
    inwards, back = (kernel._up, kernel._down) if sign > 0 else (kernel._down, kernel._up)
    stop = inwards(price - sign * wide / float(TICK), kernel.NOISE)
    target = back(price + sign * wide * float(reward) / float(TICK), kernel.NOISE)
    if exact is not None:
        assert (stop * TICK, target * TICK) == exact


def test_both_take_the_same_for_noise():
    assert Decimal(repr(kernel.NOISE)) == money.NOISE
