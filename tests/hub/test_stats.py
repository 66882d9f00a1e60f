"""What the hub holds, series by series, and what retention takes away and what it leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot import calendars, settings
from alphapivot.frames import Bars
from alphapivot.hub import ops, stats
from alphapivot.settings import Retention

LOADED = settings.load(Path(__file__).parents[1] / "configs" / "small.ini", {})


@pytest.fixture
def filled(hub):
    """Daily bars of ALPHA over the last 400 days, three of them missing, all restated once."""
    now = datetime.now(UTC)
    ts = calendars.bar_ends("XNYS", "1d", now - timedelta(days=400), now).delete([50, 51, 90])
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


def test_rows_span_size_and_what_is_missing(filled):
    hub, bars = filled
    (row,) = stats.series(hub, LOADED).to_dict(orient="records")
    assert (row["symbol"], row["market"], row["interval"], row["source"]) == ("ALPHA", "spot", "1d", "files")
    assert (row["rows"], row["contracts"], row["missing"]) == (len(bars), 1, 3)
    assert (row["first"], row["newest"]) == (bars["ts"].min(), bars["ts"].max())
    assert row["size"] > 10_000


def test_an_empty_hub_has_no_series(hub):
    assert stats.series(hub, LOADED).empty


def test_bars_past_their_days_go_with_their_revisions_and_no_others(filled):
    hub, bars = filled
    cut = datetime.now(UTC) - timedelta(days=100)
    left = int((bars["ts"] >= cut).sum())
    gone = stats.maintain(hub, Retention(bars={"1d": 100, "1m": 1}))
    assert gone == {
        "bars of 1d": len(bars) - left,
        "revisions of 1d": len(bars) - left,
        "bars of 1m": 0,
        "revisions of 1m": 0,
    }
    assert count(hub, "market.bar") == count(hub, "market.bar_revision") == left


def test_superseded_versions_go_after_their_days(filled):
    hub, bars = filled
    assert stats.maintain(hub, Retention(revisions=1))["revisions in market.bar"] == 0
    with hub.engine.begin() as connection:
        aged = "superseded_at = now() - interval '2 days', ingested_at = ts WHERE ts < now() - interval '10 days'"
        connection.execute(text(f"UPDATE market.bar_revision SET {aged}"))
    old = int((bars["ts"] < datetime.now(UTC) - timedelta(days=10)).sum())
    assert stats.maintain(hub, Retention(revisions=1))["revisions in market.bar"] == old
    assert count(hub, "market.bar") == len(bars)


def test_without_retention_nothing_goes(filled):
    hub, bars = filled
    assert stats.maintain(hub, Retention()) == {}
    assert count(hub, "market.bar") == len(bars)
