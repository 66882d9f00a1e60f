"""The jumps of an unadjusted continuous ticker are found from its convergence on the spot price."""

import numpy as np
import pandas as pd
import pytest

from alphapivot.reports.book.continuous import jump


def market(tooth, noise, *, days=1_000, contract=63, seed=0):
    """Spot, and a ticker that falls by ``tooth`` towards it over each contract of 63 days and jumps back."""
    rng = np.random.default_rng(seed)
    log = np.cumsum(rng.normal(0, 0.01, days))
    basis = tooth * (1 - np.arange(days) % contract / contract)
    at = pd.bdate_range("2020-01-01", periods=days)
    return pd.Series(100 * np.exp(log + basis + rng.normal(0, noise, days)), at), pd.Series(100 * np.exp(log), at)


@pytest.mark.parametrize("tooth", [-0.03, 0.01, 0.05])
@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_the_size_of_a_jump_is_found_within_a_fifth(tooth, noise):
    assert jump(*market(tooth, noise)) == pytest.approx(abs(tooth), rel=0.2)


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_a_ticker_without_jumps_has_none_worth_naming(noise):
    assert jump(*market(0.0, noise)) < 0.002


def test_a_proxy_in_other_units_serves_as_well():
    futures, spot = market(0.03, 0.003)
    assert jump(futures, spot / 10) == pytest.approx(0.03, rel=0.2)


def test_with_few_common_closes_nothing_is_said():
    futures, spot = market(0.03, 0.003, days=59)
    assert jump(futures, spot) is None
    assert jump(futures, spot * 0) is None
