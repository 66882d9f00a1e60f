"""After a restatement of bars, an earlier run's scores are reproduced exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from psycopg import sql

from alphapivot import cli, process
from alphapivot import hub as hubs
from alphapivot.errors import DataError
from alphapivot.frames import Bars, Composites, Signals
from alphapivot.hub.tables import digest, ops
from alphapivot.reports import explanation, overview
from tasks.local import as_known, replay

CONFIG = Path(__file__).parents[1] / "configs" / "small.ini"
FIRST, SECOND = datetime(2024, 3, 5, 23, 30, tzinfo=UTC), datetime(2024, 3, 6, 23, 30, tzinfo=UTC)


@pytest.fixture
def settings(hub_url, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CONFIG))
    return process.configure()


def held(scope: str, frame) -> pd.DataFrame:
    rows = hubs.connect().read(frame, sql.SQL("scope = {}").format(scope))
    columns = [c for c in frame.columns() if c not in ("scope", "batch_id")]
    return rows[columns].sort_values([key for key in columns if key in set(frame.keys())], ignore_index=True)


def restate(settings, run, change) -> int:
    """Corrects stored bars as a provider would; returns how many changed."""
    hub = hubs.connect()
    bars = hub.read(Bars)
    changed = change(bars[bars["symbol"] == "ALPHA"].copy())
    with ops.batch(hub, run, "restate", str(len(changed)), {}) as batch:
        return batch.write(Bars, changed).changed


def dearer(bars: pd.DataFrame) -> pd.DataFrame:
    old = bars[bars["ts"] < "2024-01-01"]
    return old.assign(**{p: old[p] * 1.01 for p in ("open", "high", "low", "close")})


def test_scores_of_an_earlier_run_are_made_again_to_the_last_bit_after_a_restatement(settings):
    first, _ = replay.session(settings, FIRST)
    signals, composites = held("live", Signals), held("live", Composites)
    assert restate(settings, first, dearer) > 300
    replay.session(settings, SECOND)
    restated = held("live", Signals)
    same_time = restated[restated["ts"] <= FIRST].reset_index(drop=True)
    assert not same_time.equals(signals)  # the live ones now depend on the new prices
    before = digest.tables(hubs.connect())

    again = as_known.scores(settings, FIRST, first.known_at)

    assert again.scope.startswith("replay-")
    pd.testing.assert_frame_equal(held(again.scope, Signals), signals, check_exact=True)
    pd.testing.assert_frame_equal(held(again.scope, Composites), composites, check_exact=True)
    after = digest.tables(hubs.connect())
    assert {t for t in after if after[t] != before[t]} == {"signals.signal", "signals.composite"}
    pd.testing.assert_frame_equal(held("live", Signals), restated)
    # the same arguments reopen the same run
    assert as_known.scores(settings, FIRST, first.known_at) == again
    assert digest.tables(hubs.connect()) == after


def test_explain_takes_a_score_apart_as_it_was_known(settings, capsys, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CONFIG))
    first, _ = replay.session(settings, FIRST)
    then = explanation.explain(hubs.connect(), settings, first, "ALPHA", None)
    restate(settings, first, dearer)
    replay.session(settings, SECOND)
    now = explanation.explain(hubs.connect(), settings, overview.latest(hubs.connect()), "ALPHA", FIRST)
    assert (now.ts, then.ts) == (FIRST.replace(hour=21, minute=0),) * 2
    assert now.steps != then.steps  # the restated prices
    instants = ["--at", FIRST.isoformat(), "--known-at", first.known_at.isoformat()]
    capsys.readouterr()
    assert cli.main(["explain", "ALPHA", *instants]) == 0
    assert f"score {then.score:+.2f}" in " ".join(capsys.readouterr().out.split())
    again = explanation.explain(
        hubs.connect(), settings, as_known.scores(settings, FIRST, first.known_at), "ALPHA", FIRST
    )
    assert (again.score, again.parts, again.steps) == (then.score, then.parts, then.steps)
    assert cli.main(["explain", "ALPHA", "--known-at", "2999-01-01T00:00:00Z"]) == 1
    assert "is in the future" in capsys.readouterr().err


def test_nobody_knows_what_will_be_known(settings):
    with pytest.raises(DataError, match="is in the future"):
        as_known.scores(settings, FIRST, datetime.now(UTC) + timedelta(days=1))
