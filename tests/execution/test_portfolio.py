"""The book's volatility ex ante: by hand, against Ledoit and Wolf's published steps, and as a limit of entries."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapivot.execution.decide.facts import Quote
from alphapivot.execution.decide.portfolio import APART, LEAST, BookVolatility, Covariance, covariance, shrunk
from alphapivot.execution.operator import approvals
from tests.execution.conftest import at
from tests.execution.test_features import changed, reasons
from tests.execution.test_positions import following
from tests.execution.test_positions import swinging as swung

TWO = Covariance(("A", "B"), np.array([[4.0, 3.0], [3.0, 9.0]]))  # sd 2 and 3, correlation 0.5


def test_volatility_and_contributions_by_hand():
    held = {"A": 10.0, "B": -5.0}  # 400 + 225 - 2 x 150 = 325
    assert TWO.volatility(held) == pytest.approx(325**0.5)
    parts = TWO.contributions(held)
    assert parts == pytest.approx({"A": 10 * (40 - 15) / 325**0.5, "B": -5 * (30 - 45) / 325**0.5})
    assert sum(parts.values()) == pytest.approx(TWO.volatility(held))
    assert TWO.contributions({}) == {}


def test_room_is_what_brings_the_book_to_its_limit_by_hand():
    assert TWO.room({}, "B", 1, 30.0) == pytest.approx(10)
    # beside 10 of A (variance 400), B adds 60 x + 9 x^2: 69 at 1
    assert TWO.room({"A": 10.0}, "B", 1, 469**0.5) == pytest.approx(1)
    assert TWO.room({"A": 10.0}, "B", 1, 20.0) == 0
    # short B hedges: 9 x^2 - 60 x = 0 at 60 / 9, at and above the limit
    assert TWO.room({"A": 10.0}, "B", -1, 20.0) == pytest.approx(60 / 9)
    assert TWO.room({"A": 10.0}, "B", -1, 5.0) == pytest.approx(60 / 9)
    assert Covariance(("C",), np.zeros((1, 1))).room({}, "C", 1, 1.0) == np.inf


@given(
    held=st.dictionaries(st.sampled_from("ABC"), st.floats(-100, 100), max_size=3),
    symbol=st.sampled_from("ABC"),
    sign=st.sampled_from([1, -1]),
    limit=st.floats(1, 2000),
    seed=st.integers(0, 100),
)
def test_what_there_is_room_for_never_exceeds_the_limit_nor_what_was_above_it(held, symbol, sign, limit, seed):
    root = np.random.default_rng(seed).normal(size=(3, 3))
    matrix = Covariance(tuple("ABC"), root @ root.T + np.eye(3) * 0.01)
    before, room = matrix.volatility(held), matrix.room(held, symbol, sign, limit)
    after = matrix.volatility(held | {symbol: held.get(symbol, 0.0) + sign * room})
    assert after <= max(limit, before) * (1 + 1e-6) + 1e-6
    if before < limit:
        assert after == pytest.approx(limit, rel=1e-6)  # and uses all of it


def published(x):
    """covCor.m of Ledoit and Wolf's site, step by step, with loops."""
    t, n = x.shape
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    sample = x.T @ x / t
    r_bar = sum(sample[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    prior = np.array([[1.0 if i == j else r_bar for j in range(n)] for i in range(n)])
    pi = [[np.mean((x[:, i] * x[:, j] - sample[i, j]) ** 2) for j in range(n)] for i in range(n)]
    rho = sum(pi[i][i] for i in range(n))
    for i in range(n):
        for j in range(n):
            if i != j:
                ii = np.mean((x[:, i] ** 2 - 1) * (x[:, i] * x[:, j] - sample[i, j]))
                jj = np.mean((x[:, j] ** 2 - 1) * (x[:, i] * x[:, j] - sample[i, j]))
                rho += r_bar / 2 * (ii + jj)
    gamma = np.sum((sample - prior) ** 2)
    delta = min(max((np.sum(pi) - rho) / gamma / t, 0), 1)
    return delta * prior + (1 - delta) * sample


def test_correlations_are_shrunk_as_published():
    rng = np.random.default_rng(7)
    common = rng.normal(size=(50, 1))
    changes = common * np.array([1.0, 0.5, -0.3, 0.0]) + rng.normal(size=(50, 4)) * np.array([1, 5, 0.1, 2])
    got = shrunk(changes)
    np.testing.assert_allclose(got, published(changes), rtol=1e-12)
    sample = np.corrcoef(changes.T)
    apart = ~np.eye(4, dtype=bool)
    assert np.ptp(got[apart]) < np.ptp(sample[apart])
    np.testing.assert_allclose(np.diag(got), 1)
    assert shrunk(changes[:, :1]) == [[1.0]]


def days(count, start="2024-01-01", hour=21):
    first = np.datetime64(f"{start}T{hour:02}:00:00", "us")
    return first + np.arange(count) * np.timedelta64(1, "D")


def test_a_year_is_made_of_the_bars_that_there_are_and_dates_go_together():
    rng = np.random.default_rng(1)
    move = rng.normal(size=400).cumsum() + 1000
    got = covariance({"A": (days(400), move), "B": (days(400, hour=8), 2 * move)}, 250, daily=True)
    sd = np.diff(move[-251:]).std(ddof=1) * np.sqrt(365.2425)
    np.testing.assert_allclose(got.annual, [[sd**2, 2 * sd**2], [2 * sd**2, 4 * sd**2]], rtol=1e-3)
    assert got.symbols == ("A", "B")
    apart = covariance({"A": (days(400), move), "B": (days(400, hour=8), 2 * move)}, 250, daily=False)
    assert apart.annual.shape == (2, 2)  # by instant they follow each other


def test_a_closed_market_does_not_move_and_a_short_history_is_named():
    rng = np.random.default_rng(2)
    move = rng.normal(size=400).cumsum() + 1000
    week = np.flatnonzero(np.arange(400) % 7 < 5)
    closes = {
        "COIN": (days(400), move),
        "SHARE": (days(400)[week], move[week]),
        "NEW": (days(400)[-LEAST:], move[-LEAST:]),
    }
    got = covariance(closes, 250, daily=True)
    assert got.missing == ("NEW",)
    assert got.symbols == ("COIN", "SHARE")
    # all of its variance falls on five days of seven: about the same in a year
    assert got.annual[1, 1] == pytest.approx(got.annual[0, 0], rel=0.2)
    assert covariance({"NEW": closes["NEW"]}, 250, daily=True) == Covariance(
        (), pytest.approx(np.empty((0, 0))), ("NEW",)
    )


def test_nothing_after_the_last_bar_and_nothing_before_the_window_counts():
    rng = np.random.default_rng(3)
    move = rng.normal(size=400).cumsum() + 1000
    window = 250
    whole = covariance({"A": (days(400), move)}, window, daily=True)
    np.testing.assert_array_equal(
        covariance({"A": (days(400)[-251:], move[-251:])}, window, daily=True).annual, whole.annual
    )
    assert (len(move[-251:]) - 1) % APART == 0


@pytest.fixture
def swinging(new_world):
    """A and B swing by 2 each day, together; C has traded for a month."""
    world = new_world({"A": {}, "B": {}, "C": {}})
    for day in range(-90, 21):
        for symbol in "ABC" if day > -10 else "AB":
            world.bar(day, 100, 103, 97, 99 + 2 * (day % 2), symbol=symbol)
    sd = float(np.std([2.0, -2.0] * 50 + [2.0] * 0, ddof=1) * np.sqrt(365.2425))  # 38.4 a year for one share
    world.one = sd
    return changed(world, risk={"max_volatility": "0.03", "covariance_bars": 100, "risk_per_trade": "0.05"})


def test_an_entry_is_made_smaller_to_keep_the_volatility_of_the_book_and_the_next_denied(swinging):
    # 3 % of 100,000 a year
    world = swinging
    world.score(20, 60, symbol="A")
    world.score(20, 50, symbol="B")
    report = world.trade(20)
    plan = next(d.plan for d in report.decisions if d.symbol == "A")
    assert (plan.qty, plan.capped_by) == (Decimal(int(3000 / world.one)), "book_volatility")
    assert reasons(report, "B") == ("book_volatility",)
    gate = next(d for d in report.decisions if d.symbol == "A").gates["book_volatility"]
    assert gate.passed
    assert float(gate.value) == pytest.approx(float(plan.qty) * world.one, abs=0.01)
    assert gate.limit == "<= 3000.00"


def test_what_lowers_the_volatility_of_the_book_may_be_entered(swinging):
    world = swinging
    world.score(20, 60, symbol="A")
    world.trade(20)
    for symbol in "ABC":
        world.bar(21, 100, 103, 97, 101, symbol=symbol)
    world.score(21, -60, symbol="B")
    world.score(21, 60, symbol="A")
    report = world.trade(21)
    plan = next(d.plan for d in report.decisions if d.symbol == "B")
    assert plan.side == "SHORT"  # up to the limit on the other side of A: twice as much as A alone may be
    assert plan.qty > 1.5 * int(3000 / world.one)


def test_a_short_history_is_not_guessed(swinging):
    swinging.score(20, 60, symbol="C")
    report = swinging.trade(20)
    assert reasons(report, "C") == ("history_missing",)
    (decision,) = (d for d in report.decisions if d.symbol == "C")
    assert decision.gates["size"].limit == "past prices of C"


def test_an_approved_entry_that_no_longer_fits_is_not_sent(swinging):
    world = changed(swinging, execution={"approve": "entries"})
    world.score(20, 60, symbol="A")
    world.trade(20)
    approvals.approve(world.hub, "paper", "A", "it looks right", "Ann", at(20))
    changed(world, risk={"max_volatility": "0.001"})
    world.trade(at(20) + timedelta(minutes=1), decide_too=False)
    (order,) = world.sql("SELECT state, reason FROM trading.orders WHERE symbol = 'A' AND leg = 'ENTRY'")
    assert order == {"state": "DENIED", "reason": "book_volatility"}


def test_an_addition_keeps_the_volatility_of_the_book_too(hub):
    """10 times an average position is wanted; the book may have what 1.5 average positions move."""
    world = following(hub, sizing={"target_volatility": "0.005"})
    swung(world, range(-90, 20))
    changed(world, risk={"max_volatility": "0.0075", "covariance_bars": 100})
    swung(world, [20])
    one = float(np.std([1.0, -1.0] * 50, ddof=1) * np.sqrt(365.2425))  # 19.2 a year for one share
    world.score(20, 30)
    (entry,) = world.trade(20).decisions
    assert (entry.action, entry.plan.capped_by) == ("ENTER_LONG", "target")
    swung(world, [21])
    world.score(21, 60)
    (more,) = world.trade(21).decisions
    assert (more.action, more.plan.capped_by) == ("ADD", "book_volatility")
    held = entry.plan.qty + more.plan.qty
    assert float(held) * one <= 750 < float(held + 1) * one
    swung(world, [22])
    world.score(22, 60)
    (full,) = world.trade(22).decisions
    assert (full.action, full.reasons) == ("HOLD", ("book_volatility",))


def test_markets_that_are_neither_held_nor_to_be_entered_change_nothing():
    """A backtest attends to fewer of them than a live run: both must decide alike."""
    rng = np.random.default_rng(11)
    common = rng.normal(size=300)
    closes = {s: (days(300), (common + rng.normal(size=300)).cumsum() + 1000) for s in "ABCD"}
    quotes = {s: Quote("", at(20), Decimal(100), Decimal(2), 0, closes=series) for s, series in closes.items()}
    told = []
    for attended in ("AB", "ABCD"):
        book = BookVolatility({s: quotes[s] for s in attended}, 250, Decimal(2000))
        book.add("A", "LONG", Decimal(40), Decimal(1))
        told.append((book.cap("B", "SHORT", Decimal(1)), list(book.gates("B", "LONG", Decimal(30), Decimal(1)))))
    assert told[0] == told[1]
    book.add("C", "LONG", Decimal(10), Decimal(1))  # once held it counts
    assert book.cap("B", "SHORT", Decimal(1)) != told[0][0]
