"""`alphapivot evaluate` over a simulated market in the hub: its tables and page against the stored scores."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot import cli, process
from alphapivot import hub as hubs
from alphapivot.frames import Bars, Composites
from alphapivot.reports import overview
from alphapivot.research.evaluate import evaluation
from tasks.local import replay

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def market(server, template):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server.database("evaluated", template=template))
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(ROOT / "tests" / "configs" / "small.ini"))
        settings = process.configure()
        assert overview.latest(hubs.connect()) is None
        assert cli.main(["evaluate"]) == 1  # there is no score yet
        replay.session(settings, datetime.fromisoformat("2025-04-03T23:30:00Z"))
        yield hubs.connect(), settings, overview.latest(hubs.connect())


@pytest.fixture(scope="module")
def found(market):
    return evaluation.run(*market, [1, 5])


def test_every_subject_is_measured_on_every_timeframe(market, found):
    subjects = set(found.measures["subject"])
    assert {"composite", "trend", "momentum", "quality", "risk", "trend.cross_fast"} <= subjects
    outcomes = found.measures.groupby("subject")["outcome"].unique().map(set)
    assert outcomes["risk"] == outcomes["quality"] == {"move", "against"}
    assert outcomes["trend"] == outcomes["composite"] == {"return"}
    gates = found.measures[found.measures["subject"].isin(["quality", "risk"])]
    assert gates["hit_rate"].isna().all()
    # there is a composite to go against at the bars of the base timeframe alone
    known = gates[(gates["outcome"] == "against") & (gates["slice"] == "all")].groupby("interval")["observations"].sum()
    assert known["1d"] > 1000
    assert known["1w"] == 0
    assert set(found.measures["interval"]) == {"1d", "1w"}
    assert set(found.measures["horizon"]) == {1, 5}
    assert {"all", "SP500", "2024"} <= set(found.measures["slice"])
    whole = found.measures[(found.measures["slice"] == "all") & (found.measures["interval"] == "1d")]
    assert (whole["observations"] > 500).sum() > 10
    assert whole["t"].notna().sum() > 10


def test_the_composite_is_measured_on_the_bars_it_was_made_of(market, found):
    hub, *_ = market
    scores = hub.read(Composites)
    scores = scores[scores["symbol"] == "BITCOIN"].set_index("ts")["score"].astype(float).sort_index()
    bars = hub.read(Bars)
    close = bars[(bars["symbol"] == "BITCOIN") & (bars["market"] == "spot") & (bars["interval"] == "1d")]
    close = close.set_index("ts")["close"].sort_index()
    both = pd.DataFrame({"score": scores, "following": close.shift(-5) / close - 1}).dropna()
    own = found.measures.set_index(["subject", "interval", "horizon", "slice"]).loc[("composite", "1d", 5, "BITCOIN")]
    assert own["observations"] == len(both)
    assert own["ic"] == pytest.approx(both["score"].rank().corr(both["following"].rank()), abs=1e-9)


def test_what_was_found_stands_in_the_database(market, found):
    hub, settings, latest = market
    number = evaluation.store(hub, settings, latest, found)
    with hub.engine.connect() as connection:
        for table, df in (("score", found.measures), ("decile", found.deciles), ("correlation", found.correlations)):
            query = text(f"SELECT count(*) FROM research.evaluation_{table} WHERE evaluation_id = :number")
            assert connection.execute(query, {"number": number}).scalar_one() == len(df) > 0


def test_the_command_shows_and_writes_a_page(market, tmp_path, capsys):
    file = tmp_path / "evaluation.html"
    assert cli.main(["evaluate", "--horizon", "5", "--html", str(file)]) == 0
    assert "composite" in capsys.readouterr().out
    page = file.read_text()
    assert "by decile of the score" in page
    assert "Correlation of scores on 1d" in page
    assert "by decile of the gate" in page
    assert "By symbol and year" in page


def test_correlations_of_pillars_are_within_bounds_and_one_with_themselves(found):
    same = found.correlations[found.correlations["subject"] == found.correlations["other"]]["correlation"].dropna()
    np.testing.assert_allclose(same, 1.0)
    assert found.correlations["correlation"].dropna().abs().max() <= 1 + 1e-9
