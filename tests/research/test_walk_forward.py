"""Folds of the walk-forward: training never touches the test."""

import itertools

import numpy as np
import pytest

from alphapivot.errors import ConfigError
from alphapivot.research.tune import walkforward as w


def spans(folds):
    return [((f.train.start, f.train.stop), (f.test.start, f.test.stop)) for f in folds]


def test_anchored_folds_train_on_all_that_came_before():
    assert spans(w.folds(600, 3, "anchored", purge=10, embargo=5)) == [
        ((0, 135), (150, 300)),
        ((0, 285), (300, 450)),
        ((0, 435), (450, 600)),
    ]


def test_rolling_folds_train_on_the_piece_before():
    assert spans(w.folds(600, 3, "rolling", purge=0, embargo=5)) == [
        ((0, 145), (150, 300)),
        ((150, 295), (300, 450)),
        ((300, 445), (450, 600)),
    ]


@pytest.mark.parametrize("kind", ["anchored", "rolling"])
def test_tests_follow_each_other_without_a_gap_and_purge_and_embargo_lie_before_them(kind):
    folds = w.folds(1_003, 7, kind, purge=9, embargo=4)
    assert all(f.test.start - f.train.stop == 13 for f in folds)
    assert all(a.test.stop == b.test.start for a, b in itertools.pairwise(folds))
    assert folds[-1].test.stop == 1_003


def test_a_span_that_is_too_short_is_refused_with_the_numbers():
    with pytest.raises(ConfigError, match="fold 1 would train on 5 of 100 instants after a purge of 40 and an embargo"):
        w.folds(100, 1, "anchored", purge=40, embargo=5)
    with pytest.raises(ConfigError, match="at least 1"):
        w.folds(100, 0, "anchored", purge=0, embargo=0)


def test_the_purge_is_as_long_as_nearly_all_trades():
    assert w.longest([1] * 95 + [50] * 5) == pytest.approx(4, abs=3)
    assert w.longest([]) == 0


def test_the_best_is_the_first_of_the_largest_that_are_known():
    assert w.best(np.array([np.nan, 1.0, 3.0, 3.0])) == 2
    assert w.best(np.array([np.nan, np.nan])) == -1
