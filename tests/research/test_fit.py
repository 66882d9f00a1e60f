"""`alphapivot fit weights` over the hub: what foresees gets weight, what only looks back at the same day gets none."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from alphapivot import cli
from alphapivot import hub as hubs
from alphapivot.errors import DataError
from alphapivot.frames import Bars, Composites, Signals
from alphapivot.hub.tables import ops
from alphapivot.research.fit import fit, instruments, pillars
from pillars import PILLARS

DAYS = 1300


def stored(world, **scores):
    """Writes ``scores`` (pillar -> symbol, ts, score) and returns the run whose scope has them."""
    run, _ = world.begin("bt-fit")
    names = {"symbol", "ts", "score"}
    with ops.batch(world.hub, run, "signals", "", {}) as batch:
        for pillar, frame in scores.items():
            rows = frame[list(names)].assign(scope="bt-fit", pillar=pillar, interval="1d", gate=np.nan, veto=None)
            rows["batch_id"] = batch.batch_id
            batch.write(Signals, rows[Signals.columns()].astype(Signals.empty().dtypes))
    return ops.freeze_known_at(world.hub, replace(run, known_at=None))


@pytest.fixture
def market(walks):
    """Three walks, and by bar: the change of the day to come, of the day itself, and noise."""
    world = walks(symbols=3, days=DAYS)
    chosen = {name: PILLARS[name]() for name in ("trend", "momentum", "structure")}
    world.settings = world.settings.model_copy(update={"pillars": chosen})
    bars = world.hub.read(Bars).sort_values(["symbol", "ts"])[["symbol", "ts", "close"]]
    change = bars.groupby("symbol")["close"].pct_change().fillna(0.0)
    rng = np.random.default_rng(4)
    noise = lambda: rng.normal(0, 30, len(bars)).clip(-100, 100)  # noqa: E731
    tomorrow = change.groupby(bars["symbol"]).shift(-1).fillna(0.0)
    foresees = (noise() * 0.9 + 100 * tomorrow / change.std()).clip(-100, 100)
    looks_back = (100 * change / change.std() / 3).clip(-100, 100)
    frames = {"trend": foresees, "momentum": looks_back, "structure": noise()}
    return world, {name: bars.assign(score=values) for name, values in frames.items()}


def test_what_foresees_gets_weight_and_what_the_same_day_shows_none(market):
    world, frames = market
    found = pillars.run(world.hub, world.settings, stored(world, **frames))
    assert found.now.weights["trend"] > 0.55
    assert found.now.weights[["momentum", "structure"]].max() < 0.25
    assert found.now.weights.sum() == pytest.approx(1)
    sharpe = {name: fit.measure.sharpe(results.dropna())[0] for name, results in found.alone.items()}
    assert sharpe["trend"] > 3
    assert abs(sharpe["momentum"]) < 2.5  # a position of the close earns nothing of its own day
    gap, low, _ = found.apart
    assert gap > low > 0
    assert found.verdict.startswith("Fitted weights earned more than equal ones out of sample: Sharpe ratio +")
    walked, days = found.walked.index, found.results["fitted"].index
    assert len(walked) >= 1
    assert days[0] > walked[0]
    assert all(results.index.equals(days) for results in found.results.values())


def test_it_is_stored_by_the_day_of_each_fit(market):
    world, frames = market
    run = stored(world, **frames)
    found = pillars.run(world.hub, world.settings, run)
    number = fit.store(world.hub, world.settings, run, found)
    with world.hub.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT sum(weight), count(*) FROM research.weight_fit_weight WHERE fit_id = {number} GROUP BY fitted_at"
        ).all()
    assert len(rows) == len(found.walked) + 1
    assert all((total, count) == (pytest.approx(1), 3) for total, count in rows)
    tables = fit.tables(found)
    assert tables["Weights from all days"]["fitted"].tolist() == [f"{w:.2f}" for w in found.now.weights]
    assert tables["Out of sample, after costs"]["weights"].tolist()[:2] == ["fitted", "equal"]


@pytest.fixture
def related(walks):
    """Four walks of which A and B are one market under two names, and the sign of each one's last ten changes."""
    world = walks(symbols=4, days=DAYS)
    run, _ = world.begin("bt-fit")
    bars = world.hub.read(Bars).sort_values(["symbol", "ts"])[["symbol", "ts", "close"]]
    a, b = sorted(bars["symbol"].unique())[:2]
    with world.hub.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE market.bar b SET (open, high, low, close) = (SELECT open, high, low, close FROM market.bar a WHERE"
            f" (a.symbol, a.market, a.interval, a.ts) = ('{a}', b.market, b.interval, b.ts)) WHERE symbol = '{b}'"
        )
    closes = bars.pivot_table(index="ts", columns="symbol", values="close")
    closes[b] = closes[a]
    bars = closes.reset_index().melt("ts", value_name="close").sort_values(["symbol", "ts"], ignore_index=True)
    score = 50 * np.sign(bars.groupby("symbol")["close"].diff(10).fillna(0.0))
    with ops.batch(world.hub, run, "composite", "", {}) as batch:
        rows = bars[["symbol", "ts"]].assign(scope="bt-fit", score=score, raw=score, gate=1.0, veto=None)
        rows = rows.assign(pillars_used="trend", batch_id=batch.batch_id)
        batch.write(Composites, rows[Composites.columns()].astype(Composites.empty().dtypes))
    return world, ops.freeze_known_at(world.hub, replace(run, known_at=None)), a, b


def test_two_names_of_one_market_share_its_weight(related):
    world, run, a, b = related
    found = instruments.run(world.hub, world.settings, run)
    now = found.now.weights
    assert now.sum() == pytest.approx(1)
    apart = now.drop([a, b])
    assert (now[[a, b]] < apart.min()).all()  # a sixth each, and half way to a quarter
    assert now[[a, b]].sum() == pytest.approx((1 / 3 + 1 / 2) / 2, abs=0.03)
    assert now[a] == pytest.approx(now[b], abs=0.02)
    assert 1.5 < found.multiplier < 1.9  # 1.73 of three that do not move together
    number = fit.store(world.hub, world.settings, run, found)
    with world.hub.engine.connect() as connection:
        kind = connection.exec_driver_sql(f"SELECT kind FROM research.weight_fit WHERE fit_id = {number}").scalar_one()
    assert kind == "instruments"
    assert fit.tables(found)["Weights from all days"].columns[0] == "instrument"
    lines = fit.config(found).splitlines()
    assert [lines[0], lines[2]] == ["  [sizing]", f"  diversification = {found.multiplier}"]
    assert lines[1].startswith(f"  weights = {a}: 0.2")


def test_instruments_of_the_config_are_held_against_the_fit_from_the_day_after_it(related):
    world, run, a, b = related
    sizing = world.settings.sizing.model_copy(update={"weights": {a: Decimal("0.5"), b: Decimal("0.5")}})
    world.settings = world.settings.model_copy(update={"sizing": sizing})
    found = instruments.run(world.hub, world.settings, run)
    assert list(found.results) == ["fitted", "equal", "config"]
    first = found.walked.index[0]
    assert all(results.index[0] > first for results in found.results.values())
    # of two that are one: as much as one alone, times sqrt(2)
    alone = found.alone[a][found.alone[a].index > first]
    pd.testing.assert_series_equal(found.results["config"], alone * 2**0.5, check_names=False)


def test_too_few_days_and_other_bars_are_refused_with_what_there_is(walks):
    world = walks(symbols=2, days=200)
    chosen = {name: PILLARS[name]() for name in ("trend", "momentum")}
    world.settings = world.settings.model_copy(update={"pillars": chosen})
    bars = world.hub.read(Bars)[["symbol", "ts"]].assign(score=1.0)
    run = stored(world, trend=bars)
    with pytest.raises(DataError, match="needs two pillars or more with results of 500 days; stored are trend: "):
        pillars.run(world.hub, world.settings, run)
    hourly = world.settings.timeframes.model_copy(update={"base": "1h"})
    with pytest.raises(DataError, match=r"daily scores; \[timeframes\] base = 1h"):
        pillars.run(world.hub, world.settings.model_copy(update={"timeframes": hourly}), run)


def test_the_command_without_scores_says_what_makes_them(hub_url, monkeypatch, capsys):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    assert cli.main(["fit", "weights"]) == 1
    assert "no scores to fit weights to yet; `alphapivot signals` makes them" in capsys.readouterr().err
    hubs.connect().close()


def test_the_line_for_the_config_sums_to_one():
    line = fit.line(pd.Series({"a": 0.325, "b": 0.235, "c": 0.1163, "d": 0.3237}))
    assert line == {"a": Decimal("0.33"), "b": Decimal("0.23"), "c": Decimal("0.12"), "d": Decimal("0.32")}
    assert sum(fit.line(pd.Series([1 / 3, 1 / 3, 1 / 3], list("xyz"))).values()) == 1


def test_days_that_no_year_end_divides_are_told_with_their_number():
    days = pd.bdate_range("2021-03-01", periods=540, tz="UTC")  # years end after 220 and 480 of them
    results = pd.DataFrame(0.1, days, ["A", "B"])
    expected = "at the end of each year that has 500 days of results before it, .* there are 540 days, 2021-03-01 to"
    with pytest.raises(DataError, match=expected):
        fit.walked(results, fit.weights.best)
