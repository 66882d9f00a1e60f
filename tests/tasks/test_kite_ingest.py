"""Kite's bars through ingestion: India's days, contracts that roll, and a login that is over."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from alphapivot import cli, hub
from alphapivot.frames import Rolls
from alphapivot.venues.kite import login
from tests.feeds import kite_server
from tests.feeds.http_server import serving

pytest.importorskip("kiteconnect")

NIFTY = {"futures": "NIFTY", "spot": "NSE:NIFTY 50", "signal_market": "futures", "trade_market": "futures"}
NIFTY |= {"calendar": "NSE", "currency": "INR", "lot": "75", "tick": "0.1", "roll": "calendar", "roll_before": "5"}
NIFTY |= {"last_trade": "last tuesday", "feed": "kite", "spot_interval": "1d"}
INFY = {"spot": "INFY", "calendar": "NSE", "currency": "INR", "tick": "0.05", "feed": "kite"}


@pytest.fixture
def kite(market, monkeypatch):
    monkeypatch.setenv("KITE_API_KEY", kite_server.API_KEY)
    monkeypatch.setenv("KITE_API_SECRET", kite_server.SECRET)
    with serving(kite_server.Handler) as made:
        section = f"[feed.kite]\nkind = kite\nbase_url = {made.url}\nstart = 2025-12-01\npatience = 9\n"
        market.configure({"X": NIFTY, "INFY": INFY}, section)
        yield made


def log_in(since):
    login.keep(login.Login(kite_server.API_KEY, "XX0000", kite_server.TOKEN, since.isoformat()))


def test_days_end_when_india_closes_and_contracts_roll(market, kite):
    log_in(datetime.now(UTC))
    market.ingest("2025-12-26 12:00", feed="kite")
    days = market.stored(symbol="INFY")
    assert (days.index[0], days.index[-1]) == ("2025-12-01 10:00", "2025-12-26 10:00")
    assert "2025-12-25 10:00" not in days.index  # Christmas
    assert set(market.stored()["contract"]) == {"", "NIFTY25DECFUT", "NIFTY26JANFUT"}
    (_, second) = hub.connect().read(Rolls).sort_values("ts").itertuples()
    assert (second.contract, second.spread) == ("NIFTY26JANFUT", 0.0)


def test_a_login_that_is_over_stores_nothing_and_names_the_command(market, kite, tmp_path, capsys):
    log_in(datetime(2025, 12, 1, tzinfo=UTC))
    command = ["ingest", "--from", "2025-12-01", "--to", "2025-12-10", "--config", str(tmp_path / "config.ini")]
    assert cli.main(command) == 1
    assert "alphapivot login kite" in " ".join(capsys.readouterr().out.split())
    assert not any("historical" in path for path in kite.asked)
    assert market.stored(symbol="INFY").empty
