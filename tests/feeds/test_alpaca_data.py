"""Alpaca's market data, against a server that answers as its documentation says; the contract has the rest."""

from __future__ import annotations

import pandas as pd
import pytest

from alphapivot.config.sections.feeds import AlpacaFeed
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.feeds.base import Request
from alphapivot.feeds.registry import open_feed
from tests.feeds import alpaca_data_server
from tests.feeds.http_server import KEY, serving
from tests.rigs import instrument

SINCE = pd.Timestamp("2024-06-25 20:00", tz="UTC").to_pydatetime()
UNTIL = pd.Timestamp("2024-07-03 16:00", tz="UTC").to_pydatetime()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("APCA_API_KEY_ID", "id")
    monkeypatch.setenv("APCA_API_SECRET_KEY", KEY)
    with serving(alpaca_data_server.Handler) as server:
        yield server


def ask(server, *tickers, interval="1d", market="spot", patience=5):
    feed = open_feed("alpaca", AlpacaFeed(base_url=server.url, patience=patience))
    return feed.fetch([Request(instrument(t, t), market, interval, SINCE, UNTIL) for t in tickers])


def test_pages_are_followed_and_an_ordinary_and_a_special_dividend_are_one(server):
    fetched = ask(server, "SPLIT")
    assert [f"{ts:%m-%d %H:%M}" for ts in fetched.bars["ts"]] == [
        "06-26 20:00", "06-27 20:00", "06-28 20:00", "07-01 20:00", "07-02 20:00",
    ]  # fmt: skip
    assert fetched.actions[["kind", "value"]].sort_values("kind").to_numpy().tolist() == [["dividend", 2], ["split", 4]]
    assert "feed=iex" in server.asked[0]
    assert "page_token=3" in server.asked[1]


@pytest.mark.parametrize(
    ("ticker", "told"),
    [
        ("SWAPPED", "becomes 0.5 BUYER and 7.5 in cash a share on 2024-07-03: write until, or what that is worth"),
        ("GONE", "is removed as worthless on 2024-07-03: write until"),
        ("FB", "is META from 2024-07-03 on: write spot = META"),
    ],
)
def test_an_end_without_a_price_and_a_change_of_ticker_are_told(server, ticker, told):
    (note,) = ask(server, ticker).notes
    assert note.startswith(f"{ticker} spot 1d: {told}")


def test_a_merger_for_cash_is_an_event_of_what_was_bought_and_not_of_the_buyer(server):
    actions = ask(server, "SOLD").actions
    assert actions[["kind", "value"]].to_numpy().tolist() == [["merger", 54.2]]
    assert f"{actions['ts'].iloc[0]:%Y-%m-%d %H:%M}" == "2024-07-03 13:30"
    assert ask(server, "BUYER").actions.empty
    feed = open_feed("alpaca", AlpacaFeed(base_url=server.url))
    told = {"2024-07-03 21:00": [], "2024-07-05 14:00": ["2024-07-05 13:30"]}  # it traded on that day, to 17:00
    for until, opens in told.items():
        request = Request(
            instrument("SOLD", "SOLD"), "spot", "1d", SINCE, pd.Timestamp(until, tz="UTC").to_pydatetime()
        )
        assert [f"{ts:%Y-%m-%d %H:%M}" for ts in feed.fetch([request]).actions["ts"]] == opens
    assert ask(server, "META").notes == ()


def test_minutes_outside_of_the_session_are_left_out_and_told(server):
    fetched = ask(server, "SPY", interval="30m")
    assert len(fetched.bars) == 13
    assert (f"{fetched.bars['ts'].iloc[0]:%H:%M}", f"{fetched.bars['ts'].iloc[-1]:%H:%M}") == ("14:00", "20:00")
    assert fetched.notes == ("SPY spot 30m: 19 bars before or after the session are left out",)


@pytest.mark.parametrize(
    ("failures", "reason", "transient"),
    [
        (
            [(403, {}, "subscription does not permit querying recent SIP data")],
            "querying recent SIP data); check",
            False,
        ),
        ([(429, {"Retry-After": "99"}, "")], "limits the rate of requests", True),
        ([(200, {}, "<html>")], "cannot be read", True),
    ],
)
def test_a_failure_is_a_problem_and_the_others_go_on(server, failures, reason, transient):
    server.failures += failures
    fetched = ask(server, "ONE", "TWO")
    (problem,) = fetched.problems
    assert (problem.request.instrument.symbol, problem.transient) == ("ONE", transient)
    assert reason in problem.reason
    assert set(fetched.bars["symbol"]) == {"TWO"}


def test_keys_that_are_wrong_or_missing(server, monkeypatch):
    monkeypatch.setenv("APCA_API_SECRET_KEY", "wrong-one")
    (problem,) = ask(server, "ONE").problems
    assert "check APCA_API_KEY_ID and APCA_API_SECRET_KEY" in problem.reason
    assert "wrong-one" not in problem.reason
    monkeypatch.delenv("APCA_API_SECRET_KEY")
    with pytest.raises(ConfigError, match=r"\[feed.alpaca\] needs APCA_API_SECRET_KEY in the environment"):
        ask(server, "ONE")


def test_what_it_has_not_is_told(server):
    (hours,) = ask(server, "SPY", interval="1h").problems
    assert "it has 1m, 5m, 15m, 30m, 1d" in hours.reason
    server.shutdown()
    server.server_close()
    with pytest.raises(Unavailable, match="Alpaca cannot be reached"):
        ask(server, "SPY", patience=0)
