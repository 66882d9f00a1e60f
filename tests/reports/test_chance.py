"""Resampled days and reshuffled trades: by hand, against all permutations, and against what theory says."""

import itertools

import numpy as np
import pandas as pd
import pytest

from alphapivot.reports import chance


def test_days_that_are_all_the_same_leave_nothing_to_chance():
    found = chance.days(np.full(100, 0.001))
    assert found["resampled_low"] == pytest.approx(1.001**100 - 1)
    assert found["resampled_high"] == pytest.approx(1.001**100 - 1)
    assert (found["resampled_drawdown"], found["resampled_deepest"]) == (0, 0)


def test_blocks_run_on_over_the_end_and_are_as_long_as_they_should_be():
    n, paths = 1_000, 200
    drawn = chance.drawn(n, paths, np.random.default_rng(1))
    assert drawn.min() >= 0
    assert drawn.max() == n - 1
    goes_on = (np.diff(drawn, axis=1) % n) == 1
    # blocks of 10 on average: a day begins one with probability 1/10, and then follows the day before by chance alone
    assert goes_on.mean() == pytest.approx(0.9 + 0.1 / n, abs=0.005)
    assert np.bincount(drawn.ravel(), minlength=n).mean() == paths
    assert np.bincount(drawn.ravel(), minlength=n).std() < 0.4 * paths  # no day is left out or preferred


def test_the_band_of_independent_days_is_that_of_a_normal_sum():
    rng = np.random.default_rng(7)
    returns = rng.normal(0.0005, 0.01, 1_000)
    found = chance.days(returns)
    logs = np.log1p(returns)
    mean, deviation = logs.sum(), logs.std() * np.sqrt(len(logs))
    for name, z in (("resampled_low", -1.645), ("resampled_high", 1.645)):
        assert np.log1p(found[name]) == pytest.approx(mean + z * deviation, abs=0.35 * deviation)
    assert found["resampled_deepest"] < found["resampled_drawdown"] < 0


def test_days_that_follow_each_other_have_a_wider_band_than_if_they_did_not():
    rng = np.random.default_rng(3)
    runs = np.repeat(rng.normal(0, 0.01, 100), 10)  # each return ten days in a row
    mixed = rng.permutation(runs)
    width = [found["resampled_high"] - found["resampled_low"] for found in map(chance.days, (runs, mixed))]
    assert width[0] > 1.5 * width[1]


def test_reshuffled_trades_fall_as_all_their_orders_do(monkeypatch):
    monkeypatch.setattr(chance, "FEWEST_TRADES", 5)
    results, equity = [300.0, -200.0, 100.0, -250.0, 50.0], 1_000.0
    falls = []
    for order in itertools.permutations(results):
        path = np.concatenate([[equity], equity + np.cumsum(order)])
        falls.append((path / np.maximum.accumulate(path) - 1).min())
    found = chance.trades(results, equity)
    low, high = np.quantile(falls, (0.03, 0.07))
    assert low <= found["reshuffled_deepest"] <= high
    low, high = np.quantile(falls, (0.47, 0.53))
    assert low <= found["reshuffled_drawdown"] <= high


def test_more_than_all_cannot_be_lost():
    found = chance.trades([-600.0] * 10, 1_000.0)
    assert (found["reshuffled_drawdown"], found["reshuffled_deepest"]) == (-1, -1)


def test_a_few_days_or_trades_say_nothing():
    assert chance.days(np.full(chance.FEWEST_DAYS - 1, 0.01)) == {}
    assert chance.trades([1.0] * (chance.FEWEST_TRADES - 1), 1_000.0) == {}


def test_the_same_book_has_the_same_figures():
    returns = np.random.default_rng(1).normal(0, 0.01, 300)
    assert chance.days(returns) == chance.days(returns.copy())
    results = list(returns[:50] * 1_000)
    assert chance.trades(results, 10_000.0) == chance.trades(results, 10_000.0)


TS = pd.date_range("2026-01-01", periods=200, freq="D", tz="UTC")


def market(**closes):
    frames = [pd.DataFrame({"symbol": s, "ts": TS, "close": c, "offset": 0.0}) for s, c in closes.items()]
    return pd.concat(frames, ignore_index=True)


def longs(begins, held, symbol="A", side="LONG"):
    """Decided at the close of each of ``begins``, entered on the next bar."""
    entry, until = TS[np.asarray(begins) + 1], TS[np.asarray(begins) + held]
    return pd.DataFrame({"symbol": symbol, "side": side, "entry_at": entry, "until": until})


def test_entries_before_the_only_rises_are_no_chance():
    """A rises by 1 % on every tenth day; of ten days' shifts one is as good."""
    close = 100 * 1.01 ** np.cumsum(np.arange(200) % 10 == 0)
    begins = np.arange(9, 180, 10)  # the rise is the next day
    assert chance.shifted(longs(begins, 1), market(A=close)) == pytest.approx(0.1, abs=0.03)
    assert chance.shifted(longs(begins + 5, 1), market(A=close)) == pytest.approx(1, abs=0.03)
    # short before each rise is the worst of all
    assert chance.shifted(longs(begins, 1, side="SHORT"), market(A=close)) == pytest.approx(1, abs=0.11)


def test_in_a_market_that_only_rises_any_time_would_have_done():
    close = 100 * 1.01 ** np.arange(200)
    assert chance.shifted(longs(range(20, 180, 7), 5), market(A=close)) == 1


def test_entries_by_chance_are_as_good_as_others_on_average():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(60):
        close = 100 + np.cumsum(rng.normal(0, 0.5, 200))
        found.append(chance.shifted(longs(np.sort(rng.integers(5, 180, 15)), 6), market(A=close)))
    assert np.mean(found) == pytest.approx(0.5, abs=0.15)
    assert 0 < np.mean(np.array(found) < 0.2) < 0.45


def test_what_is_paid_is_the_raw_price_and_each_symbol_has_its_own():
    """B, raw at 10, moves by a tenth of it where A moves by a hundredth: all of the result is B's."""
    a, b = 100 + np.arange(200) % 2, 100 + np.arange(200) % 2
    closes = market(A=a.astype(float), B=b.astype(float))
    closes.loc[closes["symbol"] == "B", "offset"] = 90.0
    good = pd.concat([longs(range(20, 120, 10), 1, "B"), longs(range(21, 121, 10), 1, "A")])
    assert chance.shifted(good, closes) == pytest.approx(0.5, abs=0.02)  # every second shift
    assert chance.shifted(good.assign(side=["SHORT"] * 10 + ["LONG"] * 10), closes) > 0.9  # but for the ends


def test_without_prices_or_with_a_few_trades_nothing_is_known():
    assert chance.shifted(longs(range(20, 28), 1), market(A=np.arange(200.0) + 1)) is None
    assert chance.shifted(longs(range(20, 40), 1, "Z"), market(A=np.arange(200.0) + 1)) is None
