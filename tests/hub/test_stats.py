"""The statistics of each stored series."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from alphapivot.calendar import bar_ends
from alphapivot.config import read
from alphapivot.frames import Bars
from alphapivot.hub.tables import ops, stats

LOADED = read.load(Path(__file__).parents[1] / "configs" / "small.ini", {})


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


def test_rows_span_size_and_what_is_missing(filled):
    hub, bars = filled
    (row,) = stats.series(hub, LOADED).to_dict(orient="records")
    assert (row["symbol"], row["market"], row["interval"], row["source"]) == ("ALPHA", "spot", "1d", "files")
    assert (row["rows"], row["contracts"], row["missing"]) == (len(bars), 1, 3)
    assert (row["first"], row["newest"]) == (bars["ts"].min(), bars["ts"].max())
    assert row["size"] > 10_000


def test_an_empty_hub_has_no_series(hub):
    assert stats.series(hub, LOADED).empty
