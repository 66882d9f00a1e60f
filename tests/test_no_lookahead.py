"""
The whole system does not look ahead: what it says of the past, knowing only the past, is what it says of it later.

The pipeline's steps run over a history that ends at a random instant, and over one that goes on for long; signals,
calibrations and composites up to that instant must agree to the last bit. Pillars on two timeframes, rules, rolls,
calibration and the database lie on the way. And each way of looking ahead that we could think of is caught.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
from sqlalchemy import text

from alphapivot import calendars, calibration, process, scoring
from alphapivot import hub as hubs
from alphapivot.frames import Composites, Rolls, Signals
from alphapivot.hub import Hub, ops
from pillars import PILLARS
from pillars.base import Panel, Parts
from pillars.trend import Trend
from tasks import composite, ingest, pillars, runs

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
RULES = """
[rule.trend.pullback]
when = close > ema_slow and low < ema_mid and adx > 25
score = +10

[rule.momentum.quiet]
when = rank(atr, 60) < 0.2 or crossed_above(rsi, 50)
score = -5
veto = quiet
"""
MARKETS = {  # config: end of the full history, first and last cut, and what makes calibration bite in so short a time
    "small.ini": ("2025-06-20T23:30", "2023-10-01", "2025-06-01", {"CALIBRATE": "quarterly", "MIN_BARS": "60"}),
    "eurostoxx.ini": ("2006-02-24T20:00", "2006-01-20", "2006-02-22", {"CALIBRATE": "monthly", "MIN_BARS": "100"}),
}


@pytest.fixture(scope="module")
def computed(server, template, tmp_path_factory):
    """What the steps make of a config's market up to an instant, on a database of its own."""
    made: list[str] = []
    with pytest.MonkeyPatch.context() as monkeypatch:

        def until(config: str, as_of: datetime) -> Hub:
            if config == "eurostoxx.ini" and not (SHARED / "eurostoxx50_2006").is_dir():
                pytest.skip(f"{SHARED / 'eurostoxx50_2006'} is not there")
            made.append(f"lookahead_{len(made)}")
            path = tmp_path_factory.mktemp("config") / config
            written = (ROOT / "tests" / "configs" / config).read_text()
            path.write_text(written.replace("root = ../../../shared", f"root = {ROOT.parent / 'shared'}") + RULES)
            monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server.database(made[-1], template=template))
            monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(path))
            for key, value in MARKETS[config][3].items():
                monkeypatch.setenv(f"ALPHAPIVOT_COMPOSITE__{key}", value)
            settings = process.configure()
            run = runs.begin("replay", settings, key="lookahead", as_of=as_of)
            ingested = [ingest.ingest.fn(run, feed, shard) for feed, shard in ingest.batches(run)]
            freeze = ingest.freeze.fn(run, after=ingested)
            run = ingest.frozen(run, freeze)
            scored = [
                pillars.score_pillar.fn(run, name, shard, after=[freeze])
                for name in settings.pillars
                for shard in range(settings.runtime.shards)
            ]
            composite.compose.fn(run, after=scored)
            ops.finish_run(hubs.connect(), run.run_id, "completed")
            return hubs.connect()

        yield until
    with psycopg.connect(server.url, autocommit=True) as connection:
        for name in made:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
def whole(computed):
    """The same over the full history, made once for each config."""
    kept: dict[str, Hub] = {}

    def of(config: str) -> Hub:
        if config not in kept:
            kept[config] = computed(config, at(MARKETS[config][0]))
        return kept[config]

    return of


def at(moment: str) -> datetime:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC)


def cuts(config: str, count: int, seed: int) -> Iterator[datetime]:
    first, last = (at(moment) for moment in MARKETS[config][1:3])
    for share in np.random.default_rng(seed).random(count):
        yield first + timedelta(seconds=int(share * (last - first).total_seconds()))


def said(hub: Hub, until: datetime) -> dict[str, pd.DataFrame]:
    """Everything that the hub says of the time up to an instant."""
    found = {}
    for frame in (Signals, Composites):
        rows = hub.read(frame).drop(columns="batch_id")
        found[frame.table()] = rows[rows["ts"] <= until].sort_values(frame.keys(), ignore_index=True)
    with hub.engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT kind, subject, effective_from, value, fitted_from FROM signals.calibration"
                " WHERE effective_from <= :until ORDER BY kind, subject, effective_from"
            ),
            {"until": until},
        )
        found["signals.calibration"] = pd.DataFrame([tuple(row) for row in rows])
    return found


def differences(config: str, computed, whole, cut: datetime) -> list[str]:
    """What the truncated history says otherwise: table, and the first row that differs."""
    then, later = said(computed(config, cut), cut), said(whole, cut)
    told = []
    for table, expected in later.items():
        try:
            pd.testing.assert_frame_equal(then[table], expected, check_exact=True)
        except AssertionError as error:
            told.append(f"{table} up to {cut}: {error}")
    return told


LONGER = [pytest.param(config, seed, marks=pytest.mark.slow) for config in MARKETS for seed in (3, 4, 5)]


@pytest.mark.parametrize(("config", "seed"), [("small.ini", 1), ("eurostoxx.ini", 2), *LONGER])
def test_the_past_is_told_alike_whatever_came_after_it(config, seed, computed, whole):
    full = whole(config)
    for cut in cuts(config, 2, seed):
        assert differences(config, computed, full, cut) == []


@pytest.mark.parametrize("config", MARKETS)
def test_what_is_compared_is_not_nothing(config, whole):
    full = whole(config)
    told = said(full, at(MARKETS[config][2]))
    signals, composites = told["signals.signal"], told["signals.composite"]
    known = signals[signals["score"].notna() & (signals["score"] != 0)]
    assert known.groupby(["pillar", "interval"]).size().min() > 10
    assert composites["raw"].notna().sum() > 100
    assert (told["signals.calibration"][3] != 1).any()
    if config == "small.ini":
        assert (full.read(Rolls)["previous"] != "").sum() > 10
    assert signals["veto"].eq("quiet").any()


# --- each of these looks ahead, and is seen to ------------------------------------------------------------------------


class Peeking(Trend):
    """Knows the next close."""

    def parts(self, bars: Panel) -> Parts:
        made = super().parts(bars)
        following = bars.each(lambda close: np.append(close[1:], close[-1:]), bars.close)
        known = ~np.isnan(made.parts["stack"])
        return Parts(
            parts={"stack": np.where(known, 50 * np.sign(following - bars.close), np.nan)}, features=made.features
        )


class Normalising(Trend):
    """Scales by the mean of the whole sample: a little of tomorrow in every bar."""

    def parts(self, bars: Panel) -> Parts:
        made = super().parts(bars)
        part = bars.each(lambda s: 10 * s / (1 + np.abs(s).mean()) if len(s) else s, made.parts["stack"])
        return Parts(parts={"stack": part}, features=made.features)


def caught(config: str, computed, cut: datetime) -> list[str]:
    return differences(config, computed, computed(config, at(MARKETS[config][0])), cut)


@pytest.mark.parametrize("culprit", [Peeking, Normalising])
def test_a_pillar_that_peeks_is_caught(culprit, computed, monkeypatch):
    monkeypatch.setitem(PILLARS, "trend", culprit)
    found = caught("small.ini", computed, at("2025-01-15T12:00"))
    assert any(told.startswith("signals.signal") for told in found)


def test_a_calibration_from_the_future_is_caught(computed, monkeypatch):
    honest = calibration.fit

    def peeking(scores, dates, settings):
        fitted = honest(scores.assign(ts=scores["ts"].min()), dates, settings)  # all of it counts as the past
        return fitted.assign(fitted_from=honest(scores, dates, settings)["fitted_from"])

    monkeypatch.setattr(scoring.calibration, "fit", peeking)
    found = caught("small.ini", computed, at("2025-01-15T12:00"))
    assert any(told.startswith("signals.calibration") for told in found)
    assert any(told.startswith("signals.composite") for told in found)
    assert not any(told.startswith("signals.signal") for told in found)


def test_a_higher_timeframe_that_counts_before_it_is_complete_is_caught(computed, monkeypatch):
    honest = calendars.due

    def peeking(calendar, interval, instants):
        return honest(calendar, interval, instants + pd.Timedelta(days=4 if interval == "1w" else 0))

    monkeypatch.setattr(scoring.calendars, "due", peeking)
    found = caught("small.ini", computed, at("2025-01-14T23:30"))
    assert any(told.startswith("signals.composite") for told in found)
