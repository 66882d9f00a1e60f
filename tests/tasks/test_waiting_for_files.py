"""A run waits for live feeds; a file beside them that ends in the past delays nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd

from alphapivot import hub
from alphapivot.frames import Bars
from alphapivot.hub.tables import series
from flows import schedule
from tests.tasks.market import ends, flat


def test_a_file_that_ends_in_the_past_delays_no_live_feed(market):
    live = "[feed.live]\nkind = yahoo\n"
    market.configure({"X": {}, "Y": {"feed": "live"}}, live)
    market.write("X", flat(ends("XNYS", "1d", "2024-01-02", "2024-02-17")))
    market.ingest("2024-03-01 22:00")
    at = datetime(2024, 3, 1, 22, tzinfo=UTC)
    assert schedule.absent(hub.connect(), market.settings, at) == (["Y"], 1)
    newest = Bars.empty().reindex([0])
    newest = newest.assign(symbol="Y", market="spot", interval="1d", ts=pd.Timestamp("2024-03-01 21:00", tz="UTC"))
    with hub.connect().engine.begin() as conn:
        series.answered(conn, "live", {("Y", "spot", "1d"): ""}, newest)
    assert schedule.absent(hub.connect(), market.settings, at) == ([], 1)
    market.configure({"X": {}})  # files alone: a run that was told to wait waits for them
    assert schedule.absent(hub.connect(), market.settings, at) == (["X"], 1)
