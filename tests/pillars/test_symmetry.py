"""
Long and short are mirror images: a price path negated in log space negates every score, and leaves the gates.

Pillars measure in differences of prices, which the logarithm bends by half its size: so the rule is exact in the limit
of small moves, where we hold it to the last digits, and holds within what that bend explains on a market of usual size.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alphapivot.config.sections.scoring import CompositeSettings, Timeframes
from alphapivot.scoring import calibration
from alphapivot.scoring.composite import blended, compose
from pillars import PILLARS
from pillars.base import Panel
from pillars.kit import windows
from pillars.kit.sample import sample_bars

MIRRORED = {"open": "open", "high": "low", "low": "high", "close": "close"}  # what becomes of what
DIRECTIONAL = [name for name, kind in PILLARS.items() if kind.directional]
GATING = {name: kind() for name, kind in PILLARS.items() if kind.gating}


def paths(size, count=400):
    """The sample market with moves of ``size`` times the usual, and the same with its logarithms negated."""
    bars = sample_bars(count)
    first = bars.groupby("symbol")["close"].transform("first")
    premium = size * (bars["futures_close"] / bars["spot_close"] - 1)
    later = size * (bars["other_close"] / bars["spot_close"] - 1)
    there = bars.assign(**{name: 100 * (bars[name] / first) ** size for name in MIRRORED})
    back = there.assign(**{name: 100**2 / there[of] for name, of in MIRRORED.items()})
    return [
        df.assign(
            spot_close=df["close"],
            futures_close=df["close"] * np.exp(way * np.log1p(premium)),
            other_close=df["close"] * np.exp(way * np.log1p(later)),
        )
        for df, way in ((there, 1), (back, -1))
    ]


@pytest.mark.parametrize("name", DIRECTIONAL)
def test_a_path_negated_in_logarithms_negates_every_part(name):
    there, back = (PILLARS[name]().parts(Panel.of(bars)) for bars in paths(1e-6))
    for part, points in there.parts.items():
        np.testing.assert_allclose(points, -back.parts[part], atol=1e-3, err_msg=part)
    np.testing.assert_allclose(there.score(), -back.score(), atol=1e-3)
    assert np.nanmax(there.score()) - np.nanmin(there.score()) > 70


@pytest.mark.parametrize("name", DIRECTIONAL)
def test_on_a_market_of_usual_size_it_negates_the_score_nearly(name):
    # up to 2 % a day, and a third between the slowest means: some points
    there, back = (PILLARS[name]().parts(Panel.of(bars)).score() for bars in paths(1.0))
    known = ~np.isnan(there)
    np.testing.assert_array_equal(known, ~np.isnan(back))
    assert np.median(np.abs(there + back)[known]) < 6
    assert np.quantile(np.abs(there + back)[known], 0.9) < 14
    assert np.corrcoef(there[known], -back[known])[0, 1] > 0.98


@pytest.mark.parametrize("pillar", GATING.values(), ids=GATING)
def test_the_gates_are_the_same_both_ways(pillar):
    there, back = (pillar.parts(Panel.of(bars)).gate for bars in paths(1e-6))
    np.testing.assert_allclose(there, back, atol=1e-5)
    assert np.nanmin(there) < 0.96


def test_the_composite_of_a_negated_path_is_negated_calibration_and_gates_included():
    settings = CompositeSettings(
        weights={"trend": 0.3, "momentum": 0.2, "carry": 0.2, "flow": 0.15, "structure": 0.15},
        gates={"quality": 0.5, "risk": 0.5},
        calibrate="quarterly",
        min_bars=100,
    )
    daily, fits, made = Timeframes(base="1d", weights={"1d": 1.0}), [], []
    for bars in paths(1e-6):
        every = [PILLARS[name]() for name in DIRECTIONAL] + list(GATING.values())
        signals = pd.concat([windows.score(pillar, bars, "1d", after=None) for pillar in every], ignore_index=True)
        due = bars[["symbol", "ts"]].assign(interval="1d", due=bars["ts"])
        first, last = (bars["ts"].agg(f).tz_localize(None).to_datetime64() for f in ("min", "max"))
        dates = calibration.due("quarterly", first, last)
        fits.append(calibration.fit(blended(signals, due, settings, daily), dates, settings))
        fitted = calibration.of(fits[-1], settings)
        made.append(compose(signals, due, settings, daily, calibration=fitted, explained=False)[0])
    assert (fits[0]["value"] != 1).mean() > 0.5
    # scores are stored to 0.01, and so are what scalars are made of
    np.testing.assert_allclose(fits[0]["value"], fits[1]["value"], atol=1e-3)
    there, back = made
    for name in ("raw", "score"):
        np.testing.assert_allclose(there[name].astype(float), -back[name].astype(float), atol=0.1)
        assert there[name].abs().max() > 50
    np.testing.assert_allclose(there["gate"].astype(float), back["gate"].astype(float), atol=1e-3)
    pd.testing.assert_series_equal(there["veto"], back["veto"])
    # and what is blended is negated to the last bit, where the scores are
    negated = compose(
        signals.assign(score=-signals["score"]), due, settings, daily, calibration=fitted, explained=False
    )[0]
    for name in ("raw", "score"):
        np.testing.assert_array_equal(negated[name], -back[name])
