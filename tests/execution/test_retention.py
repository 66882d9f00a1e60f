"""Data that [retention] deletes, and data that it keeps at any age: all that the trace of an order needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.runtime import Retention
from alphapivot.execution.book.trace import trace
from alphapivot.frames import Bars
from alphapivot.hub.server import retention
from alphapivot.hub.tables import ops


@pytest.fixture
def filled(hub):
    """Daily bars of ALPHA over the last 400 days, three of them missing, all restated once."""
    now = datetime.now(UTC)
    ts = bar_ends.bar_ends("XNYS", "1d", now - timedelta(days=400), now).delete([50, 51, 90])
    bars = pd.DataFrame({"ts": ts, "symbol": "ALPHA", "market": "spot", "contract": "", "interval": "1d"})
    bars = bars.assign(open=10.0, high=12.0, low=9.0, volume=100.0, open_interest=float("nan"), source="files")
    run = ops.begin_run(hub, "r", kind="test", scope="live", as_of=now, config={}, config_hash="", code_version="")
    for close in (10.0, 11.0):
        with ops.batch(hub, run, "ingest", str(close), {}) as batch:
            batch.write(Bars, bars.assign(close=close)[Bars.columns()].astype(Bars.empty().dtypes))
    return hub, bars


def count(hub, table):
    with hub.engine.connect() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def test_bars_past_their_days_go_with_their_revisions_and_no_others(filled):
    hub, bars = filled
    cut = datetime.now(UTC) - timedelta(days=100)
    left = int((bars["ts"] >= cut).sum())
    gone = retention.maintain(hub, Retention(bars={"1d": 100, "1m": 1}))
    assert gone == {
        "bars of 1d": len(bars) - left,
        "revisions of 1d": len(bars) - left,
        "bars of 1m": 0,
        "revisions of 1m": 0,
    }
    assert count(hub, "market.bar") == count(hub, "market.bar_revision") == left


def test_superseded_versions_go_after_their_days(filled):
    hub, bars = filled
    assert retention.maintain(hub, Retention(revisions=1))["revisions in market.bar"] == 0
    with hub.engine.begin() as connection:
        aged = "superseded_at = now() - interval '2 days', ingested_at = ts WHERE ts < now() - interval '10 days'"
        connection.execute(text(f"UPDATE market.bar_revision SET {aged}"))
    old = int((bars["ts"] < datetime.now(UTC) - timedelta(days=10)).sum())
    assert retention.maintain(hub, Retention(revisions=1))["revisions in market.bar"] == old
    assert count(hub, "market.bar") == len(bars)


def test_without_retention_nothing_goes(filled):
    hub, bars = filled
    assert retention.maintain(hub, Retention()) == {}
    assert count(hub, "market.bar") == len(bars)


@pytest.fixture
def traded(world):
    """
    A trade of January 2026. The bars and the score that it stood on were restated in February; beside them there are
    bars that nobody ever acted on.
    """
    world.score(20, 50)
    world.trade(20)
    world.calm([21])
    world.trade(21)
    world.sql("UPDATE market.bar SET ingested_at = '2026-01-01'")
    world.sql("INSERT INTO market.bar_revision SELECT *, '2026-02-01', 99 FROM market.bar")
    world.sql("INSERT INTO signals.composite_revision SELECT *, '2026-02-01', 99 FROM signals.composite")
    world.sql("UPDATE signals.composite SET score = 10, batch_id = 99")
    world.calm(range(-40, 1))
    world.calm(range(1, 22), symbol="B")
    return world


def test_an_order_leads_back_to_all_that_it_stood_on_whatever_its_age(traded):
    (order,) = traded.sql("SELECT client_order_id FROM trading.orders WHERE leg = 'ENTRY'")
    before = dict(trace(traded.hub, order["client_order_id"]))
    (used,) = [int(title.removeprefix("Bars (").split()[0]) for title in before if title.startswith("Bars")]
    assert used > 5
    assert len(before["Composite"]) == 1
    seen = []
    gone = retention.maintain(traded.hub, Retention(bars={"1d": 1}, revisions=1, replays=1), seen.append)
    after = dict(trace(traded.hub, order["client_order_id"]))
    assert before.keys() == after.keys()
    for title, table in before.items():
        pd.testing.assert_frame_equal(after[title], table)
    for table in ("market.bar", "market.bar_revision"):
        left = traded.sql(f"SELECT symbol, count(*) AS n FROM {table} GROUP BY symbol")
        assert left == [{"symbol": "A", "n": used}]
    assert gone["bars of 1d"] == 41 + 21 + 21 - used
    assert any(line.startswith("bars of 1d up to 2025-12-") for line in seen)
    noted = traded.sql("SELECT what, rows FROM ops.maintenance ORDER BY maintenance_id")
    assert {row["what"]: row["rows"] for row in noted} == gone


def test_what_is_expired_goes_once(traded):
    first = retention.maintain(traded.hub, Retention(bars={"1d": 1}))
    assert sum(first.values()) > 60
    again = retention.maintain(traded.hub, Retention(bars={"1d": 1}))
    assert again == dict.fromkeys(first, 0)


def test_replays_go_after_their_days_but_for_those_whose_scores_were_traded_on(traded):
    for scope, started in (("old", "2026-01-01"), ("traded", "2026-01-01"), ("young", "2026-11-20")):
        traded.score(5, 10, scope=scope)
        traded.sql(
            "INSERT INTO ops.run (run_id, kind, scope, as_of, config, config_hash, code_version, started_at)"
            f" VALUES ('{scope}', 'replay', '{scope}', '2026-01-01', '{{}}', '', '', '{started}')"
        )
    traded.sql("UPDATE ops.run SET started_at = now() WHERE scope = 'young'")
    traded.sql("UPDATE ops.run SET run_id = 'run-20' WHERE scope = 'traded'")  # which made the decision
    gone = retention.maintain(traded.hub, Retention(replays=30))
    assert gone == {"replays in signals.signal": 0, "replays in signals.composite": 1}
    left = traded.sql("SELECT DISTINCT scope FROM signals.composite ORDER BY scope")
    assert [row["scope"] for row in left] == ["live", "traded", "young"]
