"""Databento's historical API, against a server that answers as its documentation says."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from alphapivot.config.sections.feeds import DatabentoFeed
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.feeds.base import Request
from alphapivot.feeds.registry import open_feed
from tests.feeds import databento_server
from tests.feeds.http_server import KEY, serving
from tests.feeds.test_files import instrument

SINCE = pd.Timestamp("2024-07-01 21:00", tz="UTC").to_pydatetime()
UNTIL = pd.Timestamp("2024-07-03 16:00", tz="UTC").to_pydatetime()
FUTURES = {"spot": None, "signal_market": "futures", "trade_market": "futures", "calendar": "CMES"}
BREAK = {"session": "17:00-16:00", "session_zone": "America/Chicago"}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    with serving(databento_server.Handler) as server:
        server.cost, server.licensed = 0.25, None
        yield server


def ask(server, *tickers, interval="1h", since=SINCE, until=UNTIL, dataset="GLBX.MDP3", **terms):
    section = DatabentoFeed(dataset=dataset, base_url=server.url, patience=5, max_cost=1)
    requests = [
        Request(instrument(**FUTURES | {"futures": ticker} | terms), "futures", interval, since, until)
        for ticker in tickers
    ]
    return open_feed("bento", section).fetch(requests)


def test_all_contracts_of_a_root_come_with_two_digits_of_their_year_and_no_spread(server):
    fetched = ask(server, "ES.FUT", **BREAK)
    bars = fetched.bars
    assert not fetched.problems
    assert sorted(bars["contract"].unique()) == ["ESU24", "ESZ24"]  # ESH4 expired in March
    # 21:00 to 22:00 UTC is the break of the CME; the bar of 15:00 is in progress at the end of what is available
    ends = [f"{ts:%d %H:%M}" for ts in bars.loc[bars["contract"] == "ESU24", "ts"]]
    assert ends == [f"{day} {hour:02}:00" for day, hours in (("01", [23]), ("02", [*range(22), 23]), ("03", range(16)))
                    for hour in hours]  # fmt: skip
    first = bars[bars["contract"] == "ESU24"].iloc[0]
    assert first[["open", "high", "low", "close", "volume"]].tolist() == [5001, 5002, 5000.75, 5001, 100]
    assert fetched.notes[0] == "X futures 1h: Databento charges 0.25 USD"
    assert "left out ESU4-ESZ4: a spread or option is no contract" in fetched.notes[1]
    forms = [query for method, query in server.asked if method == "timeseries.get_range"]
    assert [(f["symbols"], f["stype_in"], f["schema"]) for f in forms] == [("ES.FUT", "parent", "ohlcv-1h")]


def test_an_expired_contract_comes_by_its_symbol_and_one_that_is_absent_is_told(server):
    since, until = (pd.Timestamp(day, tz="UTC").to_pydatetime() for day in ("2024-03-11", "2024-03-14"))
    fetched = ask(server, "ESH4, ESM4", since=since, until=until)
    assert set(fetched.bars["contract"]) == {"ESH24"}
    (problem,) = fetched.problems
    assert (problem.partial, problem.reason) == (True, "Databento has no 1h bars of ESM4 in that time")


def test_a_continuous_series_has_no_contract_and_minutes_end_a_minute_later(server):
    until = pd.Timestamp("2024-07-01 22:03", tz="UTC").to_pydatetime()
    bars = ask(server, "ES.v.0", interval="1m", until=until, **BREAK).bars
    assert [(f"{ts:%H:%M}", contract) for ts, contract in zip(bars["ts"], bars["contract"], strict=True)] == [
        ("22:01", ""), ("22:02", ""), ("22:03", ""),
    ]  # fmt: skip


def test_where_the_accounts_licence_ends_the_bars_end_and_none_is_cut(server):
    server.licensed = pd.Timestamp("2024-07-02 15:30", tz="UTC")
    bars = ask(server, "ES.v.0").bars
    assert f"{bars['ts'].max():%d %H:%M}" == "02 15:00"
    server.licensed = pd.Timestamp("2024-06-01", tz="UTC")  # before what is asked for
    (problem,) = ask(server, "ES.v.0").problems
    assert "Databento refuses the request: The dataset GLBX.MDP3 has data available up to" in problem.reason


def test_what_is_dearer_than_max_cost_is_refused_with_its_price_and_not_bought(server):
    server.cost = 40.0
    (problem,) = ask(server, "ES.FUT").problems
    assert problem.reason == "Databento charges 40.00 USD for ES.FUT from 2024-06-26; [feed.bento] max_cost = 1"
    assert not any(method == "timeseries.get_range" for method, _ in server.asked)


@pytest.mark.parametrize(
    ("calendar", "interval", "reads"),
    [("XNYS", "1h", False), ("CMES", "1d", False), ("CMES", "30m", False), ("24/7", "1d", True), ("XNYS", "1m", True)],
)
def test_bars_that_do_not_begin_with_the_session_are_refused(server, calendar, interval, reads):
    fetched = ask(server, "ES.v.0", interval=interval, calendar=calendar)
    if reads:
        assert len(fetched.bars)
        return
    (problem,) = fetched.problems
    assert f"Databento's bars of {interval} do not begin with the sessions of" in problem.reason
    assert "futures_interval = 1m or 1h" in problem.reason


def test_days_of_a_market_that_never_closes_are_those_of_utc(server):
    bars = ask(server, "ES.v.0", interval="1d", calendar="24/7").bars
    assert [f"{ts:%d %H:%M}" for ts in bars["ts"]] == ["02 00:00", "03 00:00"]


def error(case, status):
    detail = {"case": case, "message": "told by them", "status_code": status, "docs": "https://...", "payload": None}
    return status, {}, json.dumps({"detail": detail})


@pytest.mark.parametrize(
    ("failure", "reason", "transient"),
    [
        (error("account_insufficient_funds", 402), "asks for payment (HTTP 402", False),
        (error("auth_account_locked", 403), "does not allow this (HTTP 403", False),
        ((429, {"Retry-After": "99"}, ""), "limits the rate of requests", True),
        ((504, {"Retry-After": "99"}, "<html>"), "answers HTTP 504", True),
        ((200, {}, "<html>"), "cannot be read", True),
        (error("symbology_invalid_request", 422), "told by them", False),
    ],
)
def test_a_refusal_is_a_problem_that_says_what_to_do(server, failure, reason, transient):
    server.failures.append(failure)
    (problem,) = ask(server, "ES.FUT").problems
    assert reason in problem.reason
    assert (problem.transient, KEY in problem.reason) == (transient, False)


def test_the_key_comes_from_the_environment_and_a_wrong_one_is_told(server, monkeypatch):
    monkeypatch.setenv("DATABENTO_API_KEY", "another")
    (problem,) = ask(server, "ES.FUT").problems
    assert "check DATABENTO_API_KEY" in problem.reason
    monkeypatch.delenv("DATABENTO_API_KEY")
    with pytest.raises(ConfigError, match=r"\[feed.bento\] needs DATABENTO_API_KEY in the environment"):
        ask(server, "ES.FUT")


def test_another_dataset_an_unknown_root_and_a_server_that_is_gone(server):
    assert "A license is required" in ask(server, "ES.FUT", dataset="XNAS.ITCH").problems[0].reason
    assert "None of the symbols could be resolved: QQ.FUT" in ask(server, "QQ.FUT").problems[0].reason
    gone = server.url
    server.shutdown()
    server.server_close()
    server.url = gone
    with pytest.raises(Unavailable, match="cannot be reached"):
        ask(server, "ES.FUT")
