"""CSV and JSON by a pattern of addresses, against a server that answers as Tiingo, Polygon and Stooq document."""

from __future__ import annotations

import pandas as pd
import pytest
from pydantic import ValidationError

from alphapivot.config.sections.feeds import HttpFeed
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.feeds.base import Request
from alphapivot.feeds.registry import open_feed
from tests.feeds.http_server import KEY, serving
from tests.rigs import instrument

UNTIL = pd.Timestamp("2024-07-03 16:00", tz="UTC").to_pydatetime()
SINCE = pd.Timestamp("2024-06-25 20:00", tz="UTC").to_pydatetime()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("HTTP_TEST_KEY", KEY)
    with serving() as server:
        yield server


def tiingo(server, **keys):
    url = f"{server.url}/tiingo/daily/{{symbol}}/prices?startDate={{from}}&endDate={{to}}&token={{secret}}"
    columns = {"ts": "date", "split": "splitFactor", "dividend": "divCash"}
    section = {"zone": "UTC", "stamp": "date", "columns": columns, "secret": "HTTP_TEST_KEY", "patience": 5} | keys
    return open_feed("tiingo", HttpFeed(url=url, **section))


def ask(feed, *tickers, interval="1d", since=SINCE):
    return feed.fetch([Request(instrument(t, t), "spot", interval, since, UNTIL) for t in tickers])


def test_json_with_prices_as_traded_and_events_beside_them(server):
    fetched = ask(tiingo(server), "SPLIT")
    assert fetched.bars["close"].tolist() == [26, 27, 28, 1, 2]  # not adjClose
    assert fetched.actions[["kind", "value"]].to_numpy().tolist() == [["split", 4], ["dividend", 2]]
    assert fetched.actions_after == {"SPLIT": SINCE - pd.Timedelta(days=3)}
    assert server.asked == [f"/tiingo/daily/SPLIT/prices?startDate=2024-06-22&endDate=2024-07-04&token={KEY}"]


def test_pages_are_followed_with_the_key_and_stamps_are_starts(server):
    path = "/v2/aggs/ticker/{symbol}/range/30/minute/{from_ms}/{to_ms}?adjusted=false&apiKey={secret}"
    columns = {"ts": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
    section = {"zone": "UTC", "stamp": "start", "columns": columns, "secret": "HTTP_TEST_KEY", "rows": "results"}
    feed = open_feed("polygon", HttpFeed(url=server.url + path, next="next_url", **section))
    bars = ask(feed, "SPY", interval="30m").bars
    assert len(bars) == 13
    assert len(server.asked) == 4
    assert (f"{bars['ts'].iloc[0]:%H:%M}", f"{bars['ts'].iloc[-1]:%H:%M}") == ("14:00", "20:00")
    server.elsewhere = "http://localhost:1"
    (problem,) = ask(feed, "SPY", interval="30m").problems
    assert "names a next page on localhost:1; expected its own" in problem.reason  # or it would get the key


def test_csv_in_pieces_with_dates_of_another_form(server):
    url = f"{server.url}/q/d/l/?s={{symbol}}.us&d1={{from:%Y%m%d}}&d2={{to:%Y%m%d}}&i=d"
    feed = open_feed("stooq", HttpFeed(url=url, zone="UTC", stamp="date", days=5))
    fetched = ask(feed, "spy", "nobody")
    assert fetched.bars["close"].tolist() == [26, 27, 28, 1, 2]
    assert [path.split("&", 1)[1] for path in server.asked[:3]] == [
        "d1=20240622&d2=20240627&i=d",
        "d1=20240627&d2=20240702&i=d",
        "d1=20240702&d2=20240704&i=d",
    ]
    assert "nobody" in fetched.problems[0].reason


@pytest.mark.parametrize(
    ("failures", "reason", "transient"),
    [
        (
            [(403, {}, "not in your plan")],
            "does not allow this (HTTP 403: not in your plan); check $HTTP_TEST_KEY",
            False,
        ),
        ([(404, {}, "")], "has nothing there (HTTP 404: ); is the ticker right?", False),
        ([(429, {"Retry-After": "60"}, "")], "limits the rate of requests (HTTP 429); try again later", True),
        ([(500, {"Retry-After": "0"}, "oops")] * 3, "answers HTTP 500: oops", True),
        ([(200, {}, "<html>sign in</html>")], "", False),
        ([(200, {}, '[{"date": "2024-')], "is not JSON", False),
    ],
)
def test_a_failure_is_a_problem_that_says_what_to_do(server, failures, reason, transient):
    server.failures += failures
    fetched = ask(tiingo(server), "ONE", "TWO")
    (problem,) = fetched.problems
    assert problem.request.instrument.symbol == "ONE"
    assert reason in problem.reason
    assert problem.transient == transient
    assert set(fetched.bars["symbol"]) == {"TWO"}


def test_a_busy_server_is_asked_again_after_its_pause(server):
    server.failures += [(429, {"Retry-After": "0.1"}, ""), (502, {"Retry-After": "0"}, "")]
    assert ask(tiingo(server), "ONE").problems == []
    assert len(server.asked) == 3


def test_a_wrong_key_is_not_repeated_in_the_message_and_a_missing_one_is_an_error(server, monkeypatch):
    monkeypatch.setenv("HTTP_TEST_KEY", "wrong")
    (problem,) = ask(tiingo(server), "ONE").problems
    assert "refuses the login (HTTP 401" in problem.reason
    assert "wrong" not in problem.reason
    monkeypatch.delenv("HTTP_TEST_KEY")
    with pytest.raises(ConfigError, match=r"\[feed.tiingo\] secret = HTTP_TEST_KEY: that environment variable is not"):
        ask(tiingo(server), "ONE")


def test_where_nobody_answers_the_feed_is_unavailable(server):
    feed = tiingo(server, patience=0)
    server.shutdown()
    server.server_close()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1 cannot be reached"):
        ask(feed, "ONE", "TWO")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"url": "ftp://x/{symbol}"}, "is not an http address"),
        ({"url": "http://x/?s={symbl}"}, "url needs {symbol} and knows"),
        ({"url": "http://x/{symbol}?k={secret}"}, "if, and only if, secret names"),
    ],
)
def test_an_address_that_cannot_work_is_refused(keys, message):
    with pytest.raises(ValidationError) as raised:
        HttpFeed(zone="UTC", stamp="date", **keys)
    assert message in str(raised.value)
