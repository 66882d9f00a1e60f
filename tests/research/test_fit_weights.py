"""Fitted weights: exact on small samples, alike for forecasts that cannot be told apart, and never from the future."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapivot.research.fit import weights


def frame(values, start="2010-01-04"):
    names = list("ABCDEF")[: values.shape[1]]
    return pd.DataFrame(values, pd.bdate_range(start, periods=len(values), tz="UTC"), names)


def test_two_uncorrelated_forecasts_by_hand():
    # mean 2 and 1, variance 4 and 1: w ~ mean / variance = 1/2, 1
    a, b = 2 + 2 * np.array([1, 1, -1, -1]), 1 + np.array([1, -1, 1, -1])
    (got,) = weights.best(np.column_stack([a, b])[None].astype(float))
    np.testing.assert_allclose(got, [1 / 3, 2 / 3], rtol=1e-6)


def test_what_loses_gets_nothing_and_if_all_lose_all_get_the_same():
    a, b = 2 + 2 * np.array([1, 1, -1, -1]), -1 + np.array([1, -1, 1, -1])
    (got,) = weights.best(np.column_stack([a, b])[None].astype(float))
    np.testing.assert_allclose(got, [1, 0])
    (got,) = weights.best(-np.abs(np.random.default_rng(1).normal(size=(1, 50, 3))))
    np.testing.assert_allclose(got, [1 / 3] * 3)


@given(seed=st.integers(0, 500), count=st.integers(1, 4))
def test_no_other_weights_have_a_larger_sharpe_ratio(seed, count):
    rng = np.random.default_rng(seed)
    sample = rng.normal(size=(1, 80, count)) + rng.normal(size=(1, 80, 1)) + rng.normal(size=count) * 0.3
    (got,) = weights.best(sample)
    others = rng.dirichlet(np.ones(count), size=300)
    assert got.sum() == pytest.approx(1)
    assert (got >= 0).all()

    def sharpe(w):
        return (sample[0] @ w).mean() / (sample[0] @ w).std()

    if sharpe(got) > 0:
        assert max(sharpe(w) for w in others) <= sharpe(got) + 1e-6


def test_forecasts_that_cannot_be_told_apart_get_about_the_same_and_a_better_one_more():
    rng = np.random.default_rng(3)
    alike = frame(rng.normal(0.03, 1, size=(3000, 4)))
    fit = weights.resampled(alike)
    (sample,) = weights.best(alike.to_numpy()[None])
    assert fit.weights.sum() == pytest.approx(1)
    assert np.ptp(fit.weights) < 0.6 * np.ptp(sample)  # shrunk towards each other
    assert (fit.low <= fit.weights).all()
    assert (fit.weights <= fit.high).all()
    better = frame(rng.normal([0.12, 0.02, 0.02], 1, size=(3000, 3)))
    assert weights.resampled(better).weights["A"] > 0.45


def test_twins_share_what_one_of_them_would_get():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.05, 1, size=(2, 2000))
    alone = weights.resampled(frame(np.column_stack([a, b]))).weights
    twins = weights.resampled(frame(np.column_stack([a, a, b]))).weights
    # before they are shrunk to thirds and to halves
    assert 2 * twins["C"] - 1 / 3 == pytest.approx(2 * alone["B"] - 1 / 2, abs=0.03)


def test_the_same_seed_gives_the_same_and_the_days_to_come_change_nothing():
    rng = np.random.default_rng(7)
    results = frame(rng.normal(0.02, 1, size=(1600, 3)))
    whole = weights.walk(results, draws=50)
    assert whole.index[0] >= results.index[weights.LEAST - 1]
    assert (whole.index < results.index[-1]).all()
    for end in whole.index:
        changed = results.copy()
        changed.loc[changed.index > end] = rng.normal(5, 9, size=(int((changed.index > end).sum()), 3))
        pd.testing.assert_series_equal(weights.walk(changed, draws=50).loc[end], whole.loc[end])


def test_weights_are_in_force_from_the_close_of_their_fit_on():
    results = frame(np.random.default_rng(8).normal(size=(1600, 2)))
    fits = weights.walk(results, draws=20)
    used = weights.in_force(fits, results.index)
    first = fits.index[0]
    assert used[: first - pd.Timedelta(days=1)].isna().all().all()
    pd.testing.assert_series_equal(used.loc[first], fits.loc[first])
    second = fits.index[1]
    pd.testing.assert_series_equal(
        used.loc[: second - pd.Timedelta(days=1)].iloc[-1], fits.loc[first], check_names=False
    )


def test_a_difference_of_sharpe_ratios_and_its_error():
    rng = np.random.default_rng(9)
    days = pd.bdate_range("2010-01-04", periods=2500)
    common = rng.normal(0.05, 1, 2500)
    a, b = pd.Series(common + 0.05 + rng.normal(0, 0.1, 2500), days), pd.Series(common, days)
    gap, low, high = weights.apart(a, b)
    assert gap == pytest.approx(16 * (a.mean() / a.std() - b.mean() / b.std()))
    assert 0 < low < gap < high
    noise = pd.Series(rng.normal(0.05, 1, 2500), days)
    _, low, high = weights.apart(noise, b)
    assert low < 0 < high
    assert weights.apart(a, a) == (0, 0, 0)


def test_the_most_diversified_by_hand():
    # A and B correlate 0.8, which counts as 0.76, C with neither: C w = 1 gives 1/1.76, 1/1.76 and 1
    z = np.random.default_rng(3).normal(size=(4_000, 3))
    z -= z.mean(axis=0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T  # exactly uncorrelated
    sample = np.column_stack([z[:, 0], 0.8 * z[:, 0] + 0.6 * z[:, 1], 5 * z[:, 2]])
    (got,) = weights.diversified(sample[None])
    np.testing.assert_allclose(got, np.array([1 / 1.76, 1 / 1.76, 1]) / (2 / 1.76 + 1), rtol=1e-6)


@given(seed=st.integers(0, 500), count=st.integers(1, 9))
def test_no_other_weights_diversify_more(seed, count):
    rng = np.random.default_rng(seed)
    sample = rng.normal(size=(1, 60, count)) + rng.normal(size=(1, 60, 1)) * rng.normal(size=count)
    (got,) = weights.diversified(sample)
    related = 0.95 * np.corrcoef(sample[0].T).reshape(count, count) + 0.05 * np.eye(count)
    spread = lambda w: 1 / np.sqrt(np.einsum("...i,ij,...j", w, related, w))  # noqa: E731 - of weights that sum to one
    assert got.sum() == pytest.approx(1)
    assert (got >= 0).all()
    assert spread(got) >= spread(rng.dirichlet(np.ones(count), size=300)).max() - 1e-6


def test_what_has_no_results_yet_gets_no_diversified_weight():
    sample = np.random.default_rng(1).normal(size=(1, 100, 3))
    sample[:, :, 1] = 0
    (got,) = weights.diversified(sample)
    assert got[1] == 0
    assert got.sum() == pytest.approx(1)


def test_the_multiplier_by_hand():
    # Carver 2015: half each, correlation 0.5: 1 / sqrt(0.25 + 0.25 + 2 x 0.25 x 0.5) = 1.15
    z = np.random.default_rng(3).normal(size=(4_000, 2))
    z -= z.mean(axis=0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T
    results = frame(np.column_stack([z[:, 0], 0.5 * z[:, 0] + 0.75**0.5 * z[:, 1]]))
    assert str(weights.multiplier(pd.Series([0.5, 0.5], list("AB")), results)) == "1.15"
    against = frame(np.column_stack([z[:, 0], -z[:, 0]]))  # negative correlations count as none
    assert str(weights.multiplier(pd.Series([0.5, 0.5], list("AB")), against)) == "1.41"
    many = frame(np.random.default_rng(5).normal(size=(900, 6)))
    wide = pd.concat([many, many.rename(columns=str.lower).sample(frac=1, random_state=1).set_axis(many.index)], axis=1)
    assert str(weights.multiplier(pd.Series(1 / 12, wide.columns), wide)) == "2.5"
