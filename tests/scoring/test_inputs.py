"""Pillars through the hub: both markets at one instant, restated bars of either, all symbols at once."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.config import plugins
from alphapivot.frames import Bars, Rolls, Signals
from alphapivot.hub.tables import ops
from alphapivot.scoring import inputs
from pillars import PILLARS
from pillars.base import BESIDE
from tasks import composite, ingest, pillars, runs

ROOT = Path(__file__).parents[2]
FIRST, SECOND = "2024-06-14T23:30:00+00:00", "2024-06-17T23:30:00+00:00"


@pytest.fixture
def steps(server_url, template, monkeypatch):
    """A function that ingests up to an instant and scores the pillars that are named; on a fresh database."""
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("hub", template=template))
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(ROOT / "tests" / "configs" / "small.ini"))

    def at(instant, *names, shards=1, scope="live", key=""):
        monkeypatch.setenv("ALPHAPIVOT_RUNTIME__SHARDS", str(shards))
        settings = process.configure()
        as_of = datetime.fromisoformat(instant)
        run = runs.begin("replay", settings, key=f"{instant} {scope} {key}", as_of=as_of, scope=scope)
        ingested = [ingest.ingest.fn(run, feed, shard) for feed, shard in ingest.batches(run)]
        freeze = ingest.freeze.fn(run, after=ingested)
        run = ingest.frozen(run, freeze)
        for name in names:
            for shard in range(shards):
                pillars.score_pillar.fn(run, name, shard, after=[freeze])
        return settings, run

    return at


def signals(scope="live"):
    found = hubs.connect().read(Signals).sort_values(Signals.keys(), ignore_index=True)
    return found[found["scope"] == scope].drop(columns=["scope", "batch_id"]).reset_index(drop=True)


def test_pillars_are_given_both_markets_at_each_instant_of_the_signal_market(steps):
    settings, run = steps(FIRST)
    hub, instruments = hubs.connect(), list(settings.instruments.values())
    seen = inputs.signal_bars(hub, instruments, "1d", None, run.as_of, None, inputs=tuple(BESIDE))
    plain = inputs.signal_bars(hub, instruments, "1d", None, run.as_of, None)
    pd.testing.assert_frame_equal(seen.drop(columns=list(BESIDE)), plain)

    stored = hub.read(Bars)
    daily = stored[stored["interval"] == "1d"]
    sp = seen[seen["symbol"] == "SP500"].set_index("ts")
    spot = daily[(daily["symbol"] == "SP500") & (daily["market"] == "spot")].set_index("ts")
    contracts = daily[(daily["symbol"] == "SP500") & (daily["market"] == "futures")]
    assert len(sp) > 300
    np.testing.assert_array_equal(sp["spot_close"], spot["close"].reindex(sp.index))
    np.testing.assert_array_equal(
        sp["total_interest"], contracts.groupby("ts")["open_interest"].sum().reindex(sp.index)
    )
    front = contracts.merge(sp.reset_index()[["ts", "contract"]], on=["ts", "contract"]).set_index("ts")
    np.testing.assert_allclose(sp["futures_close"], front["close"].reindex(sp.index))
    rolled = hub.read(Rolls).query("symbol == 'SP500'")["ts"]
    assert sp["rolled"].nunique() == (rolled < sp.index.max()).sum() > 4
    assert seen.loc[seen["symbol"] == "BITCOIN", ["futures_close", "total_interest", "rolled"]].isna().all(axis=None)


def test_a_restated_bar_of_another_contract_is_scored_again_from_its_instant_on(steps):
    _, run = steps(FIRST, "carry")
    before = signals()
    hub = hubs.connect()
    bars = hub.read(Bars)
    dated = bars[(bars["symbol"] == "SP500") & (bars["market"] == "futures") & (bars["interval"] == "1d")]
    at = sorted(dated["ts"].unique())[-8]
    restated = dated[dated["ts"] == at].sort_values("contract").iloc[[-1]]  # the front one is before it
    prices = {name: restated[name] * 1.01 for name in ("open", "high", "low", "close")}
    with ops.batch(hub, run, "restate", "1", {}) as batch:
        assert batch.write(Bars, restated.assign(**prices)[Bars.columns()]).changed == 1

    steps(SECOND, "carry")
    after = signals()
    both = before.merge(after, on=["pillar", "symbol", "interval", "ts"])
    moved = both[(both["score_x"] != both["score_y"]) & both["score_y"].notna()]
    assert set(moved["symbol"]) == {"SP500"}
    assert moved["ts"].min() == restated["ts"].iloc[0]

    # what was scored step by step is what is scored at once
    steps(SECOND, "carry", scope="again")
    pd.testing.assert_frame_equal(after, signals("again"), check_exact=True)


def test_before_anything_was_known_there_is_nothing_to_score(steps):
    settings, _ = steps(FIRST)
    hub, long_ago = hubs.connect(), datetime.fromisoformat("2024-01-01T00:00:00+00:00")
    run = runs.begin("replay", settings, key="long ago", as_of=datetime.fromisoformat(FIRST), scope="ago")
    run = ops.set_known_at(hub, run, long_ago)
    for name in settings.pillars:
        pillars.score_pillar.fn(run, name, 0)
    composite.compose.fn(run)
    assert signals("ago").empty


def test_a_cross_sectional_pillar_scores_all_symbols_alike_in_one_shard_or_several(steps):
    settings, _ = steps(FIRST, "risk", shards=2)
    steps(FIRST, "risk", shards=1, scope="one")
    several, one = signals(), signals("one")
    pd.testing.assert_frame_equal(several, one, check_exact=True)
    assert set(several["symbol"]) == set(settings.instruments)
    assert several["gate"].notna().mean() > 0.2


COMMON = """
from typing import ClassVar
import numpy as np
from pillars.base import Parts, Pillar


class Shared(Pillar):
    name: ClassVar[str] = "NAME"
    directional: ClassVar[bool] = False
    gating: ClassVar[bool] = True
    cross_sectional: ClassVar[bool] = True
    history = property(lambda self: 5)
    common_history = property(lambda self: 5)

    def common(self, closes):
        return {"level": np.full(len(closes.ts), VALUE)}

    def parts(self, bars):
        return Parts(gate=bars.beside["level"])
"""


def test_pillars_with_equal_parameters_do_not_share_what_is_common_to_all_symbols(steps, tmp_path):
    _, run = steps(FIRST)
    settings = process.configure()
    universe = list(settings.instruments.values())

    def level(name, value):
        (tmp_path / f"{name}.py").write_text(COMMON.replace("NAME", name).replace("VALUE", value))
        plugins.load(tmp_path, ())
        pillar = PILLARS[name]()
        shared = inputs.common(hubs.connect(), universe, pillar, "1d", None, run.as_of, run.known_at)
        return set(shared["level"].dropna())

    try:
        assert level("one", "0.25") == {0.25}
        assert level("two", "0.5") == {0.5}
        assert level("one", "0.75") == {0.75}  # its file was edited while this process runs
    finally:
        plugins.load(None, ())
