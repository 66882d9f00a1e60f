"""
No lookahead in the whole system: results for the past are the same with and without later data.

The pipeline's steps run over a history that ends at a random instant, and over a much longer one; signals, calibrations
and composites up to that instant must be identical. This covers pillars on two timeframes, rules, rolls, splits and
dividends, calibration and the database. Deliberate lookahead of several kinds is caught.
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

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.calendar import bar_ends
from alphapivot.config import read
from alphapivot.data import actions, rolls
from alphapivot.feeds.base import Request
from alphapivot.feeds.registry import open_feed
from alphapivot.frames import Actions, Composites, Rolls, Signals
from alphapivot.hub import Hub
from alphapivot.hub.tables import ops
from alphapivot.scoring import calibration, inputs
from pillars import PILLARS
from pillars.base import Panel, Parts
from pillars.trend import Trend
from tasks import composite, ingest, pillars, runs

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
RULES = """
[rule.trend.pullback]
when = close > mean_slow and low < mean_mid and adx > 25
score = +10

[rule.momentum.quiet]
when = rank(atr, 60) < 0.2 or crossed_above(rsi, 50)
score = -5
veto = quiet
"""
FILES = """
[feed.files]
kind = files
root = SHARES
zone = America/New_York
stamp = date
columns = split: split, dividend: dividend
"""
MARKETS = {  # config: end of the full history, first and last cut, and what makes calibration bite in so short a time
    "small.ini": ("2025-06-20T23:30", "2023-10-01", "2025-06-01", {"CALIBRATE": "quarterly", "MIN_BARS": "60"}),
    "eurostoxx.ini": ("2006-02-24T20:00", "2006-01-20", "2006-02-22", {"CALIBRATE": "monthly", "MIN_BARS": "100"}),
}

# corporate actions of a simulated share: split ratios, and dividends as shares of the price
SPLITS = {"2023-11-08": 4.0, "2024-06-11": 0.5, "2025-01-22": 3.0}
DIVIDENDS = dict.fromkeys(["2023-06-14", "2023-09-13", "2024-03-13", "2024-09-11", "2024-12-11", "2025-03-12"], 0.02)


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """A folder with the simulated prices of ALPHA as traded, unadjusted for its splits and dividends."""
    folder = tmp_path_factory.mktemp("shares")
    config = read.load(ROOT / "tests" / "configs" / "small.ini", {})
    request = Request(config.instruments["ALPHA"], "spot", "1d", None, at(MARKETS["small.ini"][0]))
    bars = open_feed("simulated", config.feeds["simulated"]).fetch([request]).bars
    dates = bars["ts"].dt.tz_convert("America/New_York").dt.strftime("%Y-%m-%d")
    assert {*SPLITS, *DIVIDENDS} <= {*dates}
    made_of = dates.map(SPLITS).fillna(1.0).cumprod()
    paid = (1 - dates.map(DIVIDENDS).fillna(0.0)).cumprod()  # the price falls by the dividend
    traded = bars.assign(date=dates, split=dates.map(SPLITS), volume=bars["volume"] * made_of)
    for name in ("open", "high", "low", "close"):
        traded[name] = bars[name] * paid / made_of
    traded["dividend"] = dates.map(DIVIDENDS) * traded["close"]
    names = ["date", "open", "high", "low", "close", "volume", "split", "dividend"]
    traded[names].to_csv(folder / "alpha.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def computed(server, template, tmp_path_factory, shares):
    """A function that runs the steps of a config up to an instant, on a database of its own; returns the hub."""
    names: list[str] = []
    with pytest.MonkeyPatch.context() as monkeypatch:

        def until(config: str, as_of: datetime) -> Hub:
            if config == "eurostoxx.ini" and not (SHARED / "eurostoxx50_2006").is_dir():
                pytest.skip(f"{SHARED / 'eurostoxx50_2006'} is not there")
            names.append(f"lookahead_{len(names)}")
            path = tmp_path_factory.mktemp("config") / config
            content = (ROOT / "tests" / "configs" / config).read_text()
            content = content.replace("root = ../../../shared", f"root = {ROOT.parent / 'shared'}")
            if config == "small.ini":
                alpha, spot = "[instrument.ALPHA]\n", "spot = simulated\n"
                assert alpha + spot in content
                content = content.replace(alpha + spot, f"{alpha}feed = files\nspot = alpha.csv\n") + FILES
            path.write_text(content.replace("SHARES", str(shares)) + RULES)
            monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server.database(names[-1], template=template))
            monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(path))
            for key, value in MARKETS[config][3].items():
                monkeypatch.setenv(f"ALPHAPIVOT_COMPOSITE__{key}", value)
            chosen = process.configure()
            run = runs.begin("replay", chosen, key="lookahead", as_of=as_of)
            ingested = [ingest.ingest.fn(run, feed, shard) for feed, shard in ingest.batches(run)]
            freeze = ingest.freeze.fn(run, after=ingested)
            run = ingest.frozen(run, freeze)
            scored = [
                pillars.score_pillar.fn(run, name, shard, after=[freeze])
                for name in chosen.pillars
                for shard in range(chosen.runtime.shards)
            ]
            composite.compose.fn(run, after=scored)
            ops.finish_run(hubs.connect(), run.run_id, "completed")
            return hubs.connect()

        yield until
    with psycopg.connect(server.url, autocommit=True) as connection:
        for name in names:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
def whole(computed):
    """The same over the full history, once per config."""
    hubs_of: dict[str, Hub] = {}

    def of(config: str) -> Hub:
        if config not in hubs_of:
            hubs_of[config] = computed(config, at(MARKETS[config][0]))
        return hubs_of[config]

    return of


def at(moment: str) -> datetime:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC)


def cuts(config: str, count: int, seed: int) -> Iterator[datetime]:
    first, last = (at(moment) for moment in MARKETS[config][1:3])
    for share in np.random.default_rng(seed).random(count):
        yield first + timedelta(seconds=int(share * (last - first).total_seconds()))


def results(hub: Hub, until: datetime) -> dict[str, pd.DataFrame]:
    """Signals, composites and calibrations up to an instant, by table."""
    tables = {}
    for frame in (Signals, Composites):
        rows = hub.read(frame).drop(columns="batch_id")
        tables[frame.table()] = rows[rows["ts"] <= until].sort_values(frame.keys(), ignore_index=True)
    with hub.engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT kind, subject, effective_from, value, fitted_from FROM signals.calibration"
                " WHERE effective_from <= :until ORDER BY kind, subject, effective_from"
            ),
            {"until": until},
        )
        tables["signals.calibration"] = pd.DataFrame([tuple(row) for row in rows])
    return tables


def differences(config: str, computed, whole, cut: datetime) -> list[str]:
    """Where the results of the truncated history differ: table and first difference."""
    then, later = results(computed(config, cut), cut), results(whole, cut)
    messages = []
    for table, expected in later.items():
        try:
            pd.testing.assert_frame_equal(then[table], expected, check_exact=True)
        except AssertionError as error:
            messages.append(f"{table} up to {cut}: {error}")
    return messages


LONGER = [pytest.param(config, seed, marks=pytest.mark.slow) for config in MARKETS for seed in (3, 4, 5)]


@pytest.mark.parametrize(("config", "seed"), [("small.ini", 1), ("eurostoxx.ini", 2), *LONGER])
def test_the_past_is_told_alike_whatever_came_after_it(config, seed, computed, whole):
    full = whole(config)
    for cut in cuts(config, 2, seed):
        assert differences(config, computed, full, cut) == []


@pytest.mark.parametrize("config", MARKETS)
def test_what_is_compared_is_not_nothing(config, whole):
    full = whole(config)
    tables = results(full, at(MARKETS[config][2]))
    signals, composites = tables["signals.signal"], tables["signals.composite"]
    scored = signals[signals["score"].notna() & (signals["score"] != 0)]
    assert scored.groupby(["pillar", "interval"]).size().min() > 10
    assert composites["raw"].notna().sum() > 100
    assert (tables["signals.calibration"][3] != 1).any()
    if config == "small.ini":
        assert (full.read(Rolls)["previous"] != "").sum() > 10
        assert full.read(Actions)["kind"].value_counts().to_dict() == {"split": 3, "dividend": 6}
        # traded prices fell to a quarter and doubled at splits; no pillar sees a move
        alpha = signals[(signals["symbol"] == "ALPHA") & (signals["pillar"] == "risk") & (signals["interval"] == "1d")]
        assert alpha["gate"].notna().sum() > 300
        assert not alpha["veto"].isin(["volatile", "shock"]).any()
    assert signals["veto"].eq("quiet").any()


# --- each of these looks ahead and is caught --------------------------------------------------------------------------


class Peeking(Trend):
    """Uses the next close."""

    def parts(self, bars: Panel) -> Parts:
        honest = super().parts(bars)
        following = bars.each(lambda close: np.append(close[1:], close[-1:]), bars.close)
        valid = ~np.isnan(honest.parts["cross_fast"])
        part = np.where(valid, 50 * np.sign(following - bars.close), np.nan)
        return Parts(parts={"cross_fast": part}, features=honest.features)


class Normalising(Trend):
    """Scales by the mean of the whole sample, which includes later bars."""

    def parts(self, bars: Panel) -> Parts:
        honest = super().parts(bars)
        part = bars.each(lambda s: 10 * s / (1 + np.abs(s).mean()) if len(s) else s, honest.parts["cross_fast"])
        return Parts(parts={"cross_fast": part}, features=honest.features)


def caught(config: str, computed, cut: datetime) -> list[str]:
    return differences(config, computed, computed(config, at(MARKETS[config][0])), cut)


@pytest.mark.parametrize("culprit", [pytest.param(Peeking, marks=pytest.mark.always), Normalising])
def test_a_pillar_that_peeks_is_caught(culprit, computed, monkeypatch):
    monkeypatch.setitem(PILLARS, "trend", culprit)
    messages = caught("small.ini", computed, at("2025-01-15T12:00"))
    assert any(message.startswith("signals.signal") for message in messages)


def test_a_calibration_from_the_future_is_caught(computed, monkeypatch):
    honest = calibration.fit

    def peeking(scores, dates, settings):
        fitted = honest(scores.assign(ts=scores["ts"].min()), dates, settings)  # treats all scores as past
        return fitted.assign(fitted_from=honest(scores, dates, settings)["fitted_from"])

    monkeypatch.setattr(calibration, "fit", peeking)
    messages = caught("small.ini", computed, at("2025-01-15T12:00"))
    assert any(message.startswith("signals.calibration") for message in messages)
    assert any(message.startswith("signals.composite") for message in messages)
    assert not any(message.startswith("signals.signal") for message in messages)


def test_a_split_that_counts_before_it_happens_is_caught(computed, monkeypatch):
    honest = actions.adjust

    def peeking(bars, events, how):
        return honest(bars, events.assign(ts=events["ts"] - pd.Timedelta(days=6)), how)

    monkeypatch.setattr(inputs.actions, "adjust", peeking)
    messages = caught("small.ini", computed, at("2025-01-21T23:30"))
    assert any(message.startswith("signals.signal") for message in messages)


def test_a_roll_that_knows_where_interest_will_move_is_caught(computed, monkeypatch, whole):
    rolled = whole("small.ini").read(Rolls).query("previous != ''")["ts"]
    cut = rolled[rolled < at("2025-01-15")].max().to_pydatetime() - timedelta(days=3)
    honest = rolls.decide

    def peeking(bars, *rest):
        bars = bars.sort_values(["symbol", "contract", "ts"])
        later = bars.groupby(["symbol", "market", "contract"])[["volume", "open_interest"]].shift(-5)
        return honest(bars.assign(**later.fillna(bars[["volume", "open_interest"]])), *rest)

    monkeypatch.setattr(rolls, "decide", peeking)
    messages = caught("small.ini", computed, cut)
    assert any(message.startswith("signals.signal") for message in messages)


def test_a_higher_timeframe_that_counts_before_it_is_complete_is_caught(computed, monkeypatch):
    honest = bar_ends.due

    def peeking(calendar, interval, instants):
        return honest(calendar, interval, instants + pd.Timedelta(days=4 if interval == "1w" else 0))

    monkeypatch.setattr(bar_ends, "due", peeking)
    messages = caught("small.ini", computed, at("2025-01-14T23:30"))
    assert any(message.startswith("signals.composite") for message in messages)
