"""Databento's hours through ingestion: daily bars and rolls of contracts are made of them."""

from __future__ import annotations

import pandas as pd

from alphapivot import hub
from alphapivot.frames import Rolls
from tests.feeds import databento_server
from tests.feeds.http_server import KEY, serving

TERMS = {"spot": "ESU4", "futures": "ES.FUT", "signal_market": "futures", "trade_market": "futures", "calendar": "CMES"}
TERMS |= {"session": "17:00-16:00", "session_zone": "America/Chicago", "futures_interval": "1h", "roll": "calendar"}
TERMS |= {"last_trade": "third friday", "roll_before": "2", "feed": "bento", "multiplier": "50", "tick": "0.25"}


def test_hours_of_contracts_become_days_and_rolls_and_the_next_run_asks_for_what_is_new(market, monkeypatch):
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    with serving(databento_server.Handler) as server:
        server.cost, server.licensed = 0.0, None
        section = f"[feed.bento]\nkind = databento\ndataset = GLBX.MDP3\nbase_url = {server.url}\nstart = 2024-03-01\n"
        market.configure({"X": TERMS}, section)
        market.ingest("2024-04-01 22:00", feed="bento")
        days = market.stored()
        assert set(days["contract"]) == {"ESH24", "ESU24", "ESZ24"}
        last = days[days["contract"] == "ESH24"].index[-1]
        assert last == "2024-03-15 21:00"  # of the morning in which it ends
        rolls = hub.connect().read(Rolls).sort_values("ts")
        assert [(f"{r.ts:%m-%d}", r.contract, r.spread) for r in rolls.itertuples()] == [
            *(("01-01", "ESH24", 0.0), ("03-13", "ESU24", -10.0)),
        ]
        server.asked.clear()
        market.ingest("2024-04-02 22:00", feed="bento")
        (asked,) = [query for method, query in server.asked if method == "timeseries.get_range"]
        assert pd.Timestamp(asked["start"]) > pd.Timestamp("2024-03-25", tz="UTC")
        assert market.stored().index[-1] == "2024-04-02 21:00"
