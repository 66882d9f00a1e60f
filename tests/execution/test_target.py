"""Targets and bands: numbers that pysystemtrade publishes, by hand, and what holds for all of them."""

from decimal import ROUND_FLOOR, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapivot.execution.decide.target import average, band, cost, forecast

D = Decimal


@pytest.mark.parametrize(
    ("icv", "ivv", "scalar"),
    [
        # PositionSizing of pysystemtrade, its documented numbers for EDOLLAR on 2015-12-10 and 11: instrument currency
        # volatility, instrument value volatility and volatility scalar, of 100,000 at 16 % a year, 2,500 a point
        ("135.272415", "89.382530", "11.187869"),
        ("146.464756", "96.777975", "10.332930"),
    ],
)
def test_an_average_position_is_the_volatility_scalar_of_pysystemtrade(icv, ivv, scalar):
    daily, fx = D(icv) / 2500, D(ivv) / D(icv)
    found = average(
        D(100_000),
        target_volatility=D("0.16"),
        weight=D(1),
        diversification=D(1),
        volatility=daily * 16,
        unit=2500 * fx,
    )
    assert round(found, 6) == D(scalar)


def test_weight_and_diversification_scale_it():
    # 20 % of 500,000 is 100,000 a year; half of it, times 1.5, over 12.5 points of 50 each
    found = average(
        D(500_000),
        target_volatility=D("0.2"),
        weight=D("0.5"),
        diversification=D("1.5"),
        volatility=D("12.5"),
        unit=D(50),
    )
    assert found == 120


@pytest.mark.parametrize(
    ("score", "expected"),
    [(30, 10), (-15, -5), (60, 20), (61, 20), (-99, -20), (0, 0), (47.119998931884766, "15.70667")],
)
def test_a_forecast_is_10_at_a_typical_score_and_capped(score, expected):
    assert round(forecast(score, 30, D(20)), 5) == D(expected)


@pytest.mark.parametrize(
    ("strength", "usual", "buffer", "lot", "most", "edges"),
    [
        # target 12, buffer 1
        (12, 10, "0.1", 1, None, (11, 13)),
        (-12, 10, "0.1", 1, None, (-13, -11)),
        # target 2.5, buffer 0.5: 2 to 3; and 2.75: 2.25 to 3.25
        (5, 5, "0.1", 1, None, (2, 3)),
        ("5.5", 5, "0.1", 1, None, (2, 3)),
        # half a lot goes to the even one, as in numpy: 1.5 to 2.5
        (2, 10, "0.05", 1, None, (2, 2)),
        # 0.3 of a contract of 1: from -0.2 to 0.8
        (1, 3, "0.1666667", 1, None, (0, 1)),
        (0, 10, "0.1", 1, None, (-1, 1)),
        (10, 1234, "0.1", 100, None, (1100, 1400)),
        (10, "0.4567", "0.1", "0.001", None, ("0.411", "0.502")),
        # a limit of 7.9 cuts the target to it and the band at 7
        (12, 10, "0.1", 1, ("risk", "7.9"), (7, 7)),
        (-12, 10, "0.2", 1, ("risk", "7.9"), (-7, -6)),
        # a limit of 12.4 is above the target, and the band ends at it
        (12, 10, "0.1", 1, ("risk", "12.4"), (11, 12)),
        # 4.6 rounds to 5, which a limit of 4.7 does not allow
        ("4.6", 10, "0", 1, ("risk", "4.7"), (4, 4)),
        (12, 10, "0.1", 1, ("risk", "0.5"), (0, 0)),
        # a limit far below the average position narrows the band, which would have 0 in it: 0.1 x 1408.21
        (-20, "15875.15", "0.1", 1, ("risk", "1408.21"), (-1408, -1267)),
    ],
)
def test_a_band_by_hand(strength, usual, buffer, lot, most, edges):
    limit = None if most is None else (most[0], D(most[1]))
    found = band(D(strength), D(usual), buffer=D(buffer), lot=D(lot), most=limit)
    assert (found.low, found.high) == tuple(map(D, edges))
    assert found.capped_by == ("risk" if most is not None and D(most[1]) < D(usual) * abs(D(strength)) / 10 else None)


def test_a_cost_by_hand():
    # ten times in and ten out at 2 basis points of 5,000, which is 20, where a year moves 800 points
    assert cost(D(5000), bps=D(2), turnover=D(10), volatility=D(800)) == D("0.025")


quantities = st.decimals("-1000", "1000", places=3)
sizes = st.decimals("0", "1000", places=3)
lots = st.sampled_from([D(1), D(10), D("0.001"), D("0.5")])


@given(st.decimals("-20", "20", places=2), sizes, st.decimals("0", "1", places=2), lots, st.none() | sizes, quantities)
def test_a_position_is_traded_to_the_nearer_edge_and_never_beyond_a_limit(strength, usual, buffer, lot, most, held):
    found = band(strength, usual, buffer=buffer, lot=lot, most=None if most is None else ("risk", most))
    mirrored = band(-strength, usual, buffer=buffer, lot=lot, most=None if most is None else ("risk", most))
    assert found.low <= found.high
    assert not found.low % lot
    assert not found.high % lot
    after = found.nearest(held)
    assert found.low <= after <= found.high
    assert found.nearest(after) == after
    assert after == held or after in (found.low, found.high)
    if strength:
        assert (mirrored.low, mirrored.high) == (-found.high, -found.low)
    if most is not None:
        largest = (most / lot).to_integral_value(ROUND_FLOOR) * lot
        assert max(abs(found.low), abs(found.high)) <= largest
    else:
        assert found.low - lot <= found.target <= found.high + lot
        assert abs(found.high - found.low - 2 * buffer * usual) <= lot
