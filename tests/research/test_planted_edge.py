"""
`alphapivot evaluate` on a market whose edge is known, through the feed, the database and all steps: it finds what was
planted, with its sign, and in noise it finds nothing.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.reports import overview
from alphapivot.research.evaluate import evaluation
from tasks.local import replay

pytestmark = pytest.mark.timeout(600)  # minutes of a machine that is shared
ROOT = Path(__file__).parents[2]
FOLLOWERS = ["composite", "trend", "trend.cross_fast", "trend.cross_mid", "trend.breakout_fast"]


@pytest.fixture
def evaluated(server_url, template, monkeypatch):
    def market(edge, seed=7):
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("edge", template=template))
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(ROOT / "tests" / "configs" / "small.ini"))
        monkeypatch.setenv("ALPHAPIVOT_FEED_SIMULATED__START", "2019-01-01")
        monkeypatch.setenv("ALPHAPIVOT_FEED_SIMULATED__EDGE", str(edge))
        monkeypatch.setenv("ALPHAPIVOT_FEED_SIMULATED__SEED", str(seed))
        settings = process.configure()
        replay.session(settings, datetime.fromisoformat("2025-04-03T23:30:00Z"))
        with hubs.connect() as hub:  # each market has a database of its own, and connections that must not stay
            found = evaluation.run(hub, settings, overview.latest(hub), [1, 5])
        measures = found.measures[(found.measures["slice"] == "all") & (found.measures["interval"] == "1d")]
        return measures.set_index(["subject", "outcome", "horizon"])

    return market


@pytest.mark.parametrize("edge", [0.2, pytest.param(-0.2, marks=pytest.mark.slow)])
def test_a_planted_edge_is_found_with_its_sign(evaluated, edge):
    found = evaluated(edge)
    for subject in FOLLOWERS:
        for horizon in (1, 5):
            assert np.sign(edge) * found.loc[(subject, "return", horizon), "t"] > 3, (subject, horizon)
    # what follows the last 20 sessions cannot do much better than the edge itself, nor much worse over one session
    ic = np.sign(edge) * found.loc[("trend", "return", 1), "ic"]
    assert 0.05 < ic < 0.25


def test_in_noise_nothing_is_found(evaluated):
    t = evaluated(0.0, seed=12).xs("return", level="outcome")["t"].dropna()
    assert len(t) > 30
    # of forty, most of which are nearly the same
    assert t.abs().max() < 3.5
    assert t.abs().median() < 1.5


@pytest.mark.slow
def test_in_many_noises_what_is_found_is_chance(evaluated):
    t = pd.DataFrame([evaluated(0.0, seed).xs("return", level="outcome")["t"] for seed in range(20, 28)])
    # of a score that follows prices noise has a t of -0.3 in the mean: within a sample what was high comes down
    assert (t.mean() + 0.3).abs().max() < 3 * 1.1 / np.sqrt(len(t))
    assert 0.5 < t.std().median() < 1.5
