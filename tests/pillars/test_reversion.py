"""Reversion against numpy's least squares, on prices that are known to return and on prices that do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pillars.base import Panel
from pillars.reversion import Reversion

DAYS = 2000
PILLAR = Reversion(length=60)


def market(**closes):
    ts = pd.date_range("2015-01-01 21:00", periods=DAYS, tz="UTC").as_unit("us")
    frames = [
        pd.DataFrame({"symbol": name, "interval": "1d", "ts": ts, "close": close}).assign(
            open=close, high=close, low=close, volume=1.0, open_interest=np.nan
        )
        for name, close in closes.items()
    ]
    return Panel.of(pd.concat(frames, ignore_index=True))


def scores(panel, pillar=PILLAR):
    return pillar.score(panel)["score"].to_numpy(float)


def returning(half_life, seed=1):
    """An Ornstein-Uhlenbeck process about 0, of this half-life in days."""
    keeps, moves = 0.5 ** (1 / half_life), np.random.default_rng(seed).normal(size=DAYS)
    path = np.zeros(DAYS)
    for i in range(1, DAYS):
        path[i] = keeps * path[i - 1] + moves[i]
    return path


def walk(seed=1):
    return np.random.default_rng(seed).normal(size=DAYS).cumsum()


def following(score, path, days=10):
    """The correlation about zero of a score with the change of the next days."""
    known = np.flatnonzero(np.isfinite(score[:-days]))
    score, change = score[known], path[known + days] - path[known]
    return (score @ change) / np.sqrt((score @ score) * (change @ change))


@pytest.mark.parametrize("row", [120, 500, 1999])
def test_a_score_is_distance_times_pull_as_least_squares_has_them(row):
    path = returning(8)
    expected = 0.0
    for n in (60, 120):
        before = path[row - n : row]
        design = np.column_stack([np.ones(n), before])
        change = np.diff(path[row - n : row + 1])
        (_, slope), rest, *_ = np.linalg.lstsq(design, change)
        t = slope / np.sqrt(rest[0] / (n - 2) * np.linalg.inv(design.T @ design)[1, 1])
        pull = np.clip((-1.5 - t) / 1.4, 0, 1)
        expected -= 50 * np.clip((path[row] - before.mean()) / before.std() / 2, -1, 1) * pull
    assert scores(market(A=path))[row] == pytest.approx(expected, abs=0.0051)


def test_what_returns_is_bought_low_and_sold_high():
    for half_life in (3, 10):
        path = returning(half_life)
        assert following(scores(market(A=path)), path) > 0.25


def test_in_random_walks_scores_are_small_and_say_nothing():
    paths = {f"A{seed:02d}": walk(seed) for seed in range(60)}
    score = scores(market(**paths)).reshape(60, DAYS)
    assert np.nanmean(np.abs(score)) < 0.4 * np.nanmean(np.abs(scores(market(A=returning(5)))))
    # not correlations: what a path is divided by knows its end
    earned = [np.nanmean(one[:-10] * (path[10:] - path[:-10])) for one, path in zip(score, paths.values(), strict=True)]
    assert abs(np.mean(earned)) < 3 * np.std(earned) / np.sqrt(len(earned))


def test_a_trend_is_not_fought():
    path = 0.5 * np.arange(DAYS) + walk()
    assert np.nanmean(np.abs(scores(market(A=path)))) < 10


def test_a_price_that_crosses_zero_and_one_at_a_high_level_score_alike():
    path = returning(5)
    at_zero, high, mirrored = (scores(market(A=p)) for p in (path, path + 1e6, -path))
    np.testing.assert_allclose(high[120:], at_zero[120:], atol=0.0101)
    np.testing.assert_array_equal(mirrored[120:], -at_zero[120:])


def test_what_does_not_move_has_no_direction():
    assert set(scores(market(A=np.full(DAYS, 7.0)))[120:]) == {0}
    jumped = np.where(np.arange(DAYS) < 1000, 7.0, 9.0)
    assert set(scores(market(A=jumped))[1130:]) == {0}


def test_limits_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match="strong < weak expected, got -1, -2"):
        Reversion(weak=-2, strong=-1)
