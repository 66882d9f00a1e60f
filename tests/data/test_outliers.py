"""The first suspects of the jump checks are those that a walk bar by bar finds, one median at a time."""

from __future__ import annotations

import numpy as np
import pytest

from alphapivot.config.sections.screen import Quality
from alphapivot.data import outliers

MINUTE = 60_000_000


def columns(rng, count, *, calm, positive):
    close = 100 * np.exp(np.cumsum(rng.normal(0, calm, count)))
    odd = rng.random(count) < 0.03
    close[odd] *= rng.choice([0.01, 0.1, 0.5, 2, 10, 100], odd.sum())
    first = rng.random(count) < 0.02
    first[0] = True
    return outliers._Columns(
        ts=np.cumsum(rng.integers(1, 5, count)) * MINUTE,
        width=np.full(count, MINUTE),
        open=np.where(rng.random(count) < 0.1, np.nan, close * np.exp(rng.normal(0, 0.01, count))),
        close=close if positive else close - 100,
        first=first,
        fresh=np.ones(count, bool),
        partner=np.full(count, np.nan),
        floor=np.full(count, 0.01),
        spot=np.full(count, rng.random() < 0.7),
        positive=np.full(count, positive),
    )


def near(ratio, targets, tolerance):
    with np.errstate(all="ignore"):
        return bool((np.abs(np.log(ratio) - np.log(targets)) < tolerance).any())


def suspicious(bars, limits, at):
    """The rule of one bar: its change, level and ratio against those of the bars before it in its series."""
    start = np.flatnonzero(bars.first[: at + 1])[-1]
    before = bars.close[start:at]
    if not len(before):
        return False
    one = 1 if not bars.positive[at] else before[-1]
    steps = np.diff(bars.close[start : at + 1]) / np.where(bars.positive[at], before, 1)
    changes = np.abs(steps) / np.sqrt(np.clip(np.diff(bars.ts[start : at + 1]), MINUTE, outliers.BREAK) / MINUTE)
    floor = max(bars.floor[at] / one, outliers.CALM) if bars.positive[at] else bars.floor[at]
    usual = changes[:-1][-limits.window :]
    if len(usual) >= outliers.FEWEST and limits.spike_z:
        score = changes[-1] / (outliers.NORMAL * max(np.median(usual), floor))
        if score > limits.spike_z:
            return True
    if not bars.positive[at]:
        return False
    level = before[-outliers.LEVEL :]
    if len(level) >= outliers.FEWEST_LEVELS and near(bars.close[at] / np.median(level), outliers.SCALES, limits.scale):
        return True
    begins = bars.close[at] if np.isnan(bars.open[at]) else bars.open[at]
    return bool(bars.spot[at]) and near(begins / before[-1], outliers.SPLITS, limits.split)


@pytest.mark.parametrize("seed", range(40))
def test_the_suspects_are_those_of_the_rule_of_one_bar(seed):
    rng = np.random.default_rng(seed)
    bars = columns(rng, 400, calm=[0.0005, 0.01, 0.2][seed % 3], positive=seed % 5 > 0)
    for limits in (Quality(), Quality(spike_z=0), Quality(scale=0), Quality(split=0), Quality(window=30, scale=0.9)):
        expected = [suspicious(bars, limits, at) for at in range(400)]
        assert outliers._suspicious(bars, limits).tolist() == expected
