"""
The pipeline's steps over real market prices, from the config to a protected trade.

Stored results are compared with those of pandas on the raw files; none of our code computes an expected value.
"""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.frames import Bars
from tasks.local import replay

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
OHLCV = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}


@pytest.fixture
def run(hub_url, monkeypatch):
    """Runs the steps of a config at instants, one after the other, on a fresh database."""

    def sessions(name: str, folder: str, *instants: str):
        if not (SHARED / folder).exists():
            pytest.skip(f"{SHARED / folder} is not there")
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(ROOT / "tests" / "configs" / name))
        settings = process.configure()
        for instant in instants:
            replay.session(settings, datetime.fromisoformat(instant))
        return settings, hubs.connect()

    return sessions


def raw(path: str, **options) -> pd.DataFrame:
    """A file as pandas reads it: lower-case OHLCV."""
    frame = pd.read_csv(SHARED / path, **options)
    return frame.rename(columns=str.lower)


def stored(hub, market: str, interval: str) -> pd.DataFrame:
    bars = hub.read(Bars)
    bars = bars[(bars["market"] == market) & (bars["interval"] == interval)]
    return bars.set_index("ts").sort_index()[list(OHLCV)]


def assert_same(ours: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(ours.index) == list(expected.index)
    np.testing.assert_array_equal(ours.to_numpy(), expected[list(OHLCV)].to_numpy(float))


def rows(hub, query: str) -> list:
    with hub.engine.connect() as connection:
        return list(connection.execute(text(query)).mappings())


def slipped(price: float, instrument, broker):
    """What a buyer pays at the market: the open, worsened by the slippage and then to the next tick."""
    worse = price * (1 + float(broker.slippage_bps) / 10_000)
    return math.ceil(round(worse / float(instrument.tick), 9)) * instrument.tick


def assert_protected(hub, trade) -> None:
    """One working stop and one target at the broker, each for the whole position."""
    working = rows(hub, "SELECT leg, qty - cum_qty AS left FROM trading.orders WHERE state = 'NEW' AND leg <> 'ENTRY'")
    assert {order["leg"]: order["left"] for order in working} == {"STOP": trade["qty"], "TARGET": trade["qty"]}


def test_intraday_spot_and_futures_of_one_underlying_lead_to_a_protected_trade(run):
    instants = ("2006-01-27T15:00:00Z", "2006-01-27T15:15:00Z", "2006-01-27T15:30:00Z")
    settings, hub = run("eurostoxx.ini", "eurostoxx50_2006", *instants)

    names = ["Date", "Time", "Open", "High", "Low", "Close", "Volume", "OpenInterest"]
    minutes = raw("eurostoxx50_2006/futures_1m.csv", skiprows=1, names=names)
    stamps = (
        pd.to_datetime(minutes["date"] + " " + minutes["time"]).dt.tz_localize("Europe/Berlin").dt.tz_convert("UTC")
    )
    minutes = minutes.set_index(pd.DatetimeIndex(stamps, name="ts"))
    known = minutes[minutes.index <= instants[-1]]
    for interval in ("15min", "1h"):
        bars = known.groupby(known.index.ceil(interval)).agg(OHLCV)
        bars = bars[bars.index <= instants[-1]]  # an hour that is not over is no bar yet
        assert_same(stored(hub, "futures", interval.removesuffix("in")), bars)
    assert rows(hub, "SELECT * FROM market.quality_issue") == []

    (trade,) = rows(hub, "SELECT * FROM trading.trade")
    instrument, broker = settings.instruments["EUROSTOXX50"], settings.brokers["paper"]
    assert (trade["symbol"], trade["market"], trade["side"], trade["state"]) == (
        "EUROSTOXX50",
        "futures",
        "LONG",
        "OPEN",
    )
    bars = known.groupby(known.index.ceil("15min")).agg(OHLCV)
    at = bars.index.get_loc(trade["entry_at"])
    assert trade["reference"] == bars["close"].iloc[at - 1]
    assert trade["entry_price"] == slipped(bars["open"].iloc[at], instrument, broker)
    assert trade["stop"] < trade["entry_price"] < trade["target"]
    assert_protected(hub, trade)


def test_a_daily_index_leads_to_a_protected_trade(run):
    instants = ("2018-09-28T22:00:00Z", "2018-10-01T22:00:00Z", "2018-10-02T22:00:00Z")
    settings, hub = run("sp500.ini", "sp500_index_1999_2018", *instants)

    days = raw("sp500_index_1999_2018/spot_1d.csv")
    close = pd.to_datetime(days["date"], format="%m/%d/%Y").dt.strftime("%Y-%m-%d 16:00")
    days = days.set_index(
        pd.DatetimeIndex(pd.to_datetime(close).dt.tz_localize("America/New_York").dt.tz_convert("UTC"))
    )
    days = days[days.index <= instants[-1]]
    ours = stored(hub, "spot", "1d")
    assert len(ours) == len(days)
    np.testing.assert_array_equal(ours.to_numpy(), days[list(OHLCV)].to_numpy(float))
    # a half day closes earlier than 16:00, every other day just then
    assert set(ours.index[ours.index != days.index].tz_convert("America/New_York").strftime("%H:%M")) == {"13:00"}

    weeks = days.groupby(days.index.tz_localize(None).to_period("W-FRI")).agg(OHLCV).iloc[:-1]  # the last is not over
    np.testing.assert_array_equal(stored(hub, "spot", "1w").to_numpy(), weeks.to_numpy(float))

    (trade,) = rows(hub, "SELECT * FROM trading.trade")
    assert (trade["side"], trade["state"]) == ("LONG", "OPEN")
    at = ours.index.get_loc(trade["entry_at"])
    assert float(trade["reference"]) == pytest.approx(days["close"].iloc[at - 1], abs=0.005)  # its tick is a cent
    assert trade["entry_price"] == slipped(
        days["open"].iloc[at], settings.instruments["SP500"], settings.brokers["paper"]
    )
    assert trade["stop"] < trade["entry_price"] < trade["target"]
    assert_protected(hub, trade)
