"""Scores at other times: as many, as clustered, and without what they knew."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapivot.research.tune.shifted import EDGE, as_good, shares, shifted


def composites(*sizes):
    parts = [
        pd.DataFrame({"symbol": name, "ts": pd.date_range("2024-01-01", periods=size, tz="UTC"), "score": range(size)})
        for name, size in zip("ABCDE", sizes, strict=False)
    ]
    frame = pd.concat(parts, ignore_index=True).astype({"score": float})
    return frame.assign(raw=frame["score"] + 0.5, gate=1.0, veto=None)


def test_each_symbol_is_shifted_round_its_own_end_by_hand():
    moved = shifted(composites(4, 10), 0.5)
    assert moved.loc[moved["symbol"] == "A", "score"].tolist() == [2, 3, 0, 1]
    assert moved.loc[moved["symbol"] == "B", "score"].tolist() == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]
    assert (moved["raw"] == moved["score"] + 0.5).all()
    pd.testing.assert_frame_equal(moved[["symbol", "ts"]], composites(4, 10)[["symbol", "ts"]])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.floats(0, 1))
def test_no_score_is_lost_or_made(sizes, share):
    before = composites(*sizes)
    after = shifted(before, share)
    for _, symbol in after.groupby("symbol"):
        assert sorted(symbol["score"]) == list(range(len(symbol)))


def test_shares_stay_away_from_where_they_were_and_repeat():
    found = shares(500, 3)
    assert EDGE <= found.min() < 0.1
    assert 0.9 < found.max() <= 1 - EDGE
    np.testing.assert_array_equal(found, shares(500, 3))
    assert (found != shares(500, 4)).any()


def test_the_trial_counts_among_its_shifts_and_those_without_trades_are_worse():
    assert as_good(1.0, np.array([0.5, 1.0, 2.0, np.nan])) == pytest.approx(3 / 5)
    assert as_good(3.0, np.zeros(199)) == pytest.approx(1 / 200)
