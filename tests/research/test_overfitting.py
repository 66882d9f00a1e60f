"""Deflated Sharpe ratio and probability of overfitting: published numbers, worked cases, noise and planted edges."""

import numpy as np
import pytest

from alphapivot import figures
from alphapivot.research.tune import overfitting as o


@pytest.mark.parametrize(
    ("trials", "skewness", "kurtosis", "expected"), [(100, -3, 10, 0.9004), (46, -3, 10, 0.9505), (88, 0, 3, 0.9505)]
)
def test_the_worked_example_of_bailey_and_lopez_de_prado_comes_out(trials, skewness, kurtosis, expected):
    # The Deflated Sharpe Ratio (2014): 5 years of 250 days, Sharpe ratio 2.5 a year, variance of the trials' 1/2 a year
    benchmark = o.expected_best(trials, (0.5 / 250) ** 0.5)
    assert trials != 100 or benchmark == pytest.approx(0.1132, abs=5e-5)
    found = o.probabilistic_sharpe(2.5 / 250**0.5, benchmark, 1250, skewness, kurtosis)
    assert found == pytest.approx(expected, abs=5e-5)


def test_the_best_of_many_without_skill_is_as_good_as_expected():
    rng = np.random.default_rng(1)
    best = [rng.normal(0, 0.05, 200).max() for _ in range(2_000)]
    assert o.expected_best(200, 0.05) == pytest.approx(np.mean(best), rel=0.02)
    assert o.expected_best(1, 0.05) == 0


def test_copies_of_one_trial_count_as_one_and_independent_ones_each():
    rng = np.random.default_rng(2)
    one = rng.normal(0, 0.01, 500)
    assert o.independent(np.column_stack([one] * 20)) == 1
    assert o.independent(rng.normal(0, 0.01, (5_000, 20))) == 20
    assert o.independent(np.column_stack([one, one * 0])) == 1  # what never trades is no trial


def test_overfitting_of_two_trials_is_what_can_be_worked_by_hand():
    # 4 blocks of 2 days; in blocks 1 and 2 trial 0 earns more, in 3 and 4 trial 1
    up, down = [0.03, 0.01], [0.01, -0.01]  # the same deviation, means of 2 % and 0
    returns = np.column_stack([up + up + down + down, down + down + up + up])
    found = o.backtest_overfitting(returns, blocks=4)
    # in sample 12: 0 is chosen, and last in 34; in sample 34: the reverse; in the four mixed splits both are equal
    assert len(found.logits) == 6
    assert sorted(np.round(found.logits, 6)) == [round(np.log(0.5), 6)] * 2 + [0.0] * 4
    assert found.probability == 1.0


def test_noise_is_overfit_in_half_of_the_splits_and_its_best_is_no_evidence():
    probabilities, deflated = [], []
    for seed in range(40):
        returns = np.random.default_rng(seed).normal(0, 0.01, (512, 40))
        probabilities.append(o.backtest_overfitting(returns, blocks=8).probability)
        best = int(np.argmax([figures.sharpe(c) for c in returns.T]))
        deflated.append(o.deflated_sharpe(returns, best).probability)
    assert np.mean(probabilities) == pytest.approx(0.5, abs=0.07)
    assert np.mean(np.array(deflated) > 0.95) <= 0.125  # 5 of 100 expected: 5 of 40 are as many as chance may bring


def test_a_planted_edge_is_found_and_believed():
    rng = np.random.default_rng(3)
    returns = rng.normal(0, 0.01, (1_024, 40))
    returns[:, 7] += 0.002
    found = o.backtest_overfitting(returns, blocks=16)
    best = int(np.argmax([figures.sharpe(c) for c in returns.T]))
    deflated = o.deflated_sharpe(returns, best)
    assert best == 7
    assert found.probability < 0.05
    assert deflated.probability > 0.99
    assert o.verdict(deflated, found, 1.5, 2.0, "sharpe")[0]
    assert not o.verdict(deflated, found, -0.1, 2.0, "sharpe")[0]


def test_what_is_too_short_says_nothing():
    few = np.random.default_rng(4).normal(0, 0.01, (20, 3))
    deflated, found = o.deflated_sharpe(few, 0), o.backtest_overfitting(few)
    assert np.isnan(deflated.probability)
    assert np.isnan(found.probability)
    believed, sentence = o.verdict(deflated, found, 1.0, 1.0, "sharpe")
    assert not believed
    assert sentence.startswith("No verdict: the record is too short")
    with pytest.raises(ValueError, match="even number of blocks, got 5"):
        o.backtest_overfitting(few, blocks=5)
