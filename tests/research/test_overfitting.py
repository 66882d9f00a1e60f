"""Deflated Sharpe ratio and probability of overfitting: published numbers, worked cases, noise and planted edges."""

from statistics import NormalDist

import numpy as np
import pytest

from alphapivot import figures
from alphapivot.research.tune import overfitting as o
from alphapivot.research.tune.judge import assess
from alphapivot.research.tune.objective import Judgement

YEAR = 252


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
    assert found.probability == pytest.approx(2 / 6)  # those two: among equals nothing is worse than the median
    assert found.loss == 0


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
    found = assess(returns, Judgement(), YEAR)
    assert found.best == 7
    assert found.overfit.probability < 0.05
    assert found.deflated.probability > 0.99
    assert found.believed
    assert found.verdict.startswith(
        "This may be real: without any skill the best of 40 such trials would look as good in"
    )
    believed, sentence = o.verdict(found.luck, found.overfit, 40, -0.1, 2.0, "sharpe")
    assert not believed
    assert sentence == (
        "Do not trust this result: sharpe 2.00 where it was chosen and -0.10 after that (evidence above 0)."
    )


def test_what_is_too_short_says_nothing():
    few = np.random.default_rng(4).normal(0, 0.01, (20, 3))
    deflated, found = o.deflated_sharpe(few, 0), o.backtest_overfitting(few)
    assert np.isnan(deflated.probability)
    assert np.isnan(found.probability)
    assert np.isnan(o.luck(few, 0))
    believed, sentence = o.verdict(o.luck(few, 0), found, 3, 1.0, 1.0, "sharpe")
    assert not believed
    assert sentence.startswith("No verdict: the record is too short")
    with pytest.raises(ValueError, match="even number of blocks, got 5"):
        o.backtest_overfitting(few, blocks=5)


def test_luck_is_the_adjusted_p_value_of_the_best_of_independent_trials():
    """Of 27 independent trials without skill the best exceeds t with probability 1 - N(t)^27."""
    returns = np.random.default_rng(5).normal(0, 0.01, (2_000, 27))
    returns[:, 3] += 2.5 * returns[:, 3].std(ddof=1) / 2_000**0.5 - returns[:, 3].mean()  # its t is 2.5
    assert o.luck(returns, 3) == pytest.approx(1 - NormalDist().cdf(2.5) ** 27, abs=0.03)  # 0.15
    one = returns[:, [3]]
    assert o.luck(one, 0) == pytest.approx(1 - NormalDist().cdf(2.5), abs=0.005)
    assert o.luck(np.repeat(one, 27, axis=1), 3) == o.luck(one, 0)  # copies are one trial
    bad = np.column_stack([one, returns[:, :20] - 0.01])  # hopeless trials make a good one no luckier
    assert o.luck(bad, 0) == pytest.approx(o.luck(one, 0), abs=0.005)
    assert o.luck(np.column_stack([one, one * 0]), 0) == o.luck(one, 0)  # what never trades is no trial
    assert np.isnan(o.luck(one * 0, 0))


def test_luck_counts_days_that_hang_together():
    """Returns in runs of ten days hold a tenth of the evidence: shuffled they look like more."""
    rng = np.random.default_rng(6)
    runs = np.repeat(rng.normal(0.0, 0.01, 252), 10)[:, None]
    runs += 2.5 * 0.01 / 2_520**0.5 - runs.mean()  # t of 2.5 as if each day were its own
    assert o.luck(rng.permutation(runs), 0) < 0.02
    assert o.luck(runs, 0) > 0.1


def test_the_draws_keep_the_length_of_the_record():
    drawn = o._drawn(333, np.random.default_rng(7))
    assert (drawn.sum(axis=1) == 333).all()
    assert drawn.min() >= 0
    assert drawn.mean(axis=0) == pytest.approx(np.ones(333), abs=0.3)  # each day as likely


@pytest.mark.parametrize(
    ("lucky", "loss", "outside", "told"),
    [
        (0.031, 0.0, 1.0, "without any skill the best of 9 such trials would look as good in 3.1% of cases"),
        (0.03, 0.2, 1.0, "the best of one half of the record lost in the other half in 20% of splits (evidence below"),
        (0.03, 0.19, 0.0, "sharpe 2.00 where it was chosen and 0.00 after that (evidence above 0)"),
        (0.03, 0.19, 0.1, ""),
    ],
)
def test_each_condition_of_the_verdict_is_enough_to_refuse(lucky, loss, outside, told):
    overfit = o.Overfit(probability=0.5, logits=np.zeros(1), inside=np.ones(1), outside=np.ones(1), slope=0, loss=loss)
    believed, sentence = o.verdict(lucky, overfit, 9, outside, 2.0, "sharpe")
    assert believed == (not told)
    assert sentence.startswith(f"Do not trust this result: {told}" if told else "This may be real: without any skill")


# --- searches of which the truth is known -----------------------------------------------------------------------------


def trials(kind, years, seed, *, sharpe=0.0, correlation=0.0):
    """27 trials of daily returns: of that annual Sharpe ratio and correlation; or only the eighth has it (``one``)."""
    rng, days = np.random.default_rng([seed, 16]), int(YEAR * years)
    shared, own = rng.normal(size=(days, 1)), rng.normal(size=(days, 27))
    returns = 0.01 * (correlation**0.5 * shared + (1 - correlation) ** 0.5 * own)
    good = np.arange(27) == 7 if kind == "one" else np.ones(27, bool)
    return returns + good * 0.01 * sharpe / YEAR**0.5


def believed(count, kind, years, **truth):
    return np.mean([assess(trials(kind, years, seed, **truth), Judgement(), YEAR).believed for seed in range(count)])


def test_plateaus_are_believed_and_noise_is_not():
    assert believed(8, "noise", 3) <= 1 / 8
    assert believed(8, "plateau", 3, sharpe=3, correlation=0.8) == 1
    assert believed(8, "one", 5, sharpe=3) >= 7 / 8
    twins = np.repeat(trials("plateau", 5, 0, sharpe=3)[:, :1], 2, axis=1)
    found = assess(twins, Judgement(), YEAR)
    assert (found.overfit.probability, found.believed) == (0, True)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("correlation", [0, 0.5, 0.8, 0.95])
def test_at_most_one_noise_search_in_twenty_is_believed(correlation):
    for years in (3, 5, 10):
        assert believed(200, "noise", years, correlation=correlation) <= 0.05, years


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("sharpe", [1.5, 2, 3])
@pytest.mark.parametrize("correlation", [0.5, 0.8, 0.95])
def test_nine_of_ten_plateaus_of_five_years_are_believed(sharpe, correlation):
    assert believed(200, "plateau", 5, sharpe=sharpe, correlation=correlation) >= 0.9


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_one_good_trial_among_noise_is_believed_after_five_years():
    assert believed(200, "one", 5, sharpe=2) >= 0.8
