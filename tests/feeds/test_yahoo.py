"""The real yfinance against a local server in Yahoo's wire format (conftest.py): each ticker is a behaviour."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import time_machine

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.feeds import YahooFeed
from alphapivot.config.sections.instrument import Instrument
from alphapivot.data.screen import screen
from alphapivot.errors import Unavailable
from alphapivot.feeds import yahoo as yahoo_feed
from alphapivot.feeds.base import Request
from alphapivot.feeds.registry import open_feed

CHECKOUT = Path(__file__).parents[2]
SINCE = pd.Timestamp("2024-06-28 20:00", tz="UTC").to_pydatetime()
UNTIL = pd.Timestamp("2024-07-05 15:00", tz="UTC").to_pydatetime()  # New York has been open for 90 minutes


def instrument(ticker):
    terms = {"symbol": f"X{ticker}", "signal_market": "spot", "trade_market": "spot", "currency": "USD"}
    numbers = {"quote_unit": 1, "multiplier": 1, "tick": "0.01", "lot": 1, "margin": 1, "tradable": True}
    return Instrument(spot=ticker, calendar="XNYS", **terms, **numbers)


def fetch(url, *tickers, interval="1d", since=SINCE, until=UNTIL, patience=1.0, timeout=5):
    feed = open_feed("yahoo", YahooFeed(base_url=url, patience=patience, timeout=timeout))
    return feed.fetch([Request(instrument(t), "spot", interval, since, until) for t in tickers])


def stamps(bars):
    return [f"{t:%Y-%m-%d %H:%M}" for t in bars["ts"]]


def test_a_daily_bar_is_stamped_with_its_sessions_close_and_the_unfinished_one_is_left_out(yahoo):
    found = fetch(yahoo[0], "GOOD")
    assert not found.problems
    # 3 July was a half day, 4 July a holiday, and on 5 July the session was not over
    assert stamps(found.bars) == ["2024-07-01 20:00", "2024-07-02 20:00", "2024-07-03 17:00"]
    first = found.bars.iloc[0]
    assert (first["symbol"], first["market"], first["contract"], first["source"]) == ("XGOOD", "spot", "", "yahoo")


def test_prices_are_those_that_were_traded_not_adjusted_ones(yahoo):
    bar = fetch(yahoo[0], "GOOD").bars.iloc[0]
    # the server's adjusted close is half of its close
    assert (bar["open"] - bar["low"], bar["high"] - bar["low"], bar["close"] - bar["low"]) == (1, 3, 2)


def test_a_later_split_is_undone_and_comes_with_the_dividend_as_it_was_paid(yahoo):
    found = fetch(yahoo[0], "SPLIT")
    assert not found.problems
    plain = fetch(yahoo[0], "GOOD").bars
    columns = ["ts", "open", "high", "low", "close", "volume"]
    pd.testing.assert_frame_equal(found.bars[columns], plain[columns])
    assert [(r.kind, f"{r.ts:%m-%d %H:%M}", r.value) for r in found.actions.itertuples()] == [
        ("dividend", "07-01 13:30", 2.0),
        ("split", "07-02 13:30", 4.0),
    ]


def test_what_was_fetched_before_a_split_is_not_restated_after_it(yahoo):
    eve = pd.Timestamp("2024-07-01 20:00", tz="UTC").to_pydatetime()
    before = fetch(yahoo[0], "SPLIT", until=eve)
    after = fetch(yahoo[0], "SPLIT").bars
    pd.testing.assert_frame_equal(before.bars, after[after["ts"] <= eve].reset_index(drop=True))
    # the split that is to come is not known yet
    assert before.actions["kind"].tolist() == ["dividend"]


def test_a_longer_request_brings_the_same_bars(yahoo):
    until = pd.Timestamp("2024-07-03 17:00", tz="UTC").to_pydatetime()
    assert stamps(fetch(yahoo[0], "GOOD", until=until).bars)[-1] == "2024-07-03 17:00"
    history = fetch(yahoo[0], "GOOD", since=None).bars
    assert stamps(history)[0] == "2010-01-04 21:00"
    assert screen(history, {"XGOOD": instrument("GOOD")}, now=UNTIL).issues.empty


DAYS = {
    "a session under way": "2026-11-25 15:10",
    "a half day after its close": "2026-11-27 20:11",
    "the last evening of a week": "2026-11-20 22:00",
    "a Sunday": "2026-11-29 12:00",
    "a holiday": "2026-11-26 16:00",
    "the morning when clocks go forward": "2026-03-08 07:30",
    "29 February": "2024-02-29 23:00",
    "the last night of a year": "2026-12-31 23:59",
}


@pytest.mark.parametrize("now", DAYS.values(), ids=DAYS)
def test_intraday_stamps_at_the_start_become_ends_and_the_unfinished_bar_is_left_out(yahoo, now):
    now = pd.Timestamp(now, tz="UTC").to_pydatetime()
    with time_machine.travel(now):
        found = fetch(yahoo[0], "GOOD", interval="1h", since=None, until=now)
    assert not found.problems
    assert screen(found.bars, {"XGOOD": instrument("GOOD")}, now=now).issues.empty
    # seven bars a day, the last one of half an hour, over nearly two years; four on a half day
    assert set(found.bars["ts"].dt.minute) == {30, 0}
    assert len(found.bars) > 3400
    assert found.bars["ts"].iloc[-1] == bar_ends.due("XNYS", "1h", now)


def test_a_piece_of_a_request_in_which_nothing_traded_stops_no_others(yahoo):
    with time_machine.travel(UNTIL):
        found = fetch(yahoo[0], "HALTED", interval="1m", since=None)
    assert not found.problems
    days = found.bars["ts"].dt.strftime("%m-%d").unique().tolist()
    assert "06-14" in days
    assert "06-17" not in days
    assert "06-24" in days
    assert days[-1] == "07-05"


def test_days_without_a_price_come_through_for_the_screening_to_quarantine(yahoo):
    found = fetch(yahoo[0], "HOLES", since=pd.Timestamp("2024-06-23", tz="UTC").to_pydatetime())
    assert not found.problems
    screened = screen(found.bars, {"XHOLES": instrument("HOLES")}, now=UNTIL)
    assert screened.quarantined == 1
    assert "missing close" in set(screened.issues["check_name"])


def test_a_volume_that_yahoo_does_not_know_is_missing_and_not_zero(yahoo):
    assert fetch(yahoo[0], "INDEX").bars["volume"].isna().all()


@pytest.mark.parametrize(
    ("ticker", "reason", "transient"),
    [
        ("NOBODY", "Yahoo knows no ticker NOBODY (HTTP 404)", False),
        ("EMPTY", "Yahoo has nothing for ticker EMPTY: no price data found", False),
        ("BROKEN", "{url} failed for BROKEN (HTTP 500)", True),
        ("PAGE", "{url} returned an unreadable response for PAGE (HTTP 200, JSONDecodeError", True),
        ("HALF", "{url} returned an unreadable response for HALF (HTTP 200, JSONDecodeError", True),
        ("CUT", "{url} returned an unreadable response for CUT (IncompleteRead", True),
    ],
)
def test_a_ticker_that_fails_is_a_problem_and_the_others_go_on(yahoo, ticker, reason, transient):
    found = fetch(yahoo[0], ticker, "GOOD")
    (problem,) = found.problems
    assert problem.request.instrument.spot == ticker
    assert problem.reason.startswith(reason.format(url=yahoo[0]))
    assert problem.transient is transient
    assert set(found.bars["symbol"]) == {"XGOOD"}


def test_too_many_requests_are_waited_out_as_long_as_the_server_says(yahoo):
    url, asked = yahoo
    found = fetch(url, "BUSY")
    assert not found.problems
    assert len(found.bars) == 3
    assert asked["BUSY"] >= 2


def test_too_many_requests_may_name_a_date(yahoo):
    url, asked = yahoo
    found = fetch(url, "DATED", patience=30)
    assert not found.problems
    assert asked["DATED"] >= 2


def test_a_ticker_that_hangs_takes_a_bounded_time_and_the_others_go_on(yahoo):
    url, _ = yahoo
    begun = time.monotonic()
    found = fetch(url, "HANGS", "GOOD", timeout=1)
    assert time.monotonic() - begun < 30
    (problem,) = found.problems
    assert problem.reason == f"{url} did not respond for HANGS within 1 s"
    assert problem.transient
    assert set(found.bars["symbol"]) == {"XGOOD"}


def test_a_provider_that_hangs_is_not_asked_for_every_ticker(yahoo):
    url, asked = yahoo
    found = fetch(url, "GOOD", "HANGS", "HANGS2", "LATER", timeout=1)
    assert set(found.bars["symbol"]) == {"XGOOD"}
    assert [p.transient for p in found.problems] == [True] * 3
    assert found.problems[2].reason.startswith("not requested, because")
    assert asked["LATER"] == 0
    with pytest.raises(Unavailable, match=r"did not respond for HANGS2 within 1 s.*`--feed simulated` works offline"):
        fetch(url, "HANGS", "HANGS2", "GOOD", timeout=1)


def test_a_limit_that_does_not_pass_makes_the_rest_wait_for_the_next_run(yahoo):
    url, asked = yahoo
    found = fetch(url, "GOOD", "LIMITED", "LATER", patience=0.25)
    assert set(found.bars["symbol"]) == {"XGOOD"}
    assert [p.transient for p in found.problems] == [True, True]
    assert "too many requests (HTTP 429) after waiting 0.25 s" in found.problems[0].reason
    assert found.problems[1].reason.startswith("not requested, because")
    assert asked["LATER"] == 0


def test_a_limit_from_the_start_is_unavailable(yahoo):
    with pytest.raises(Unavailable, match=r"HTTP 429.*`--feed simulated` works offline"):
        fetch(yahoo[0], "LIMITED", "GOOD", patience=0.25)


def test_a_server_that_is_not_there_is_unavailable_with_what_to_do(yahoo):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(Unavailable, match=r"cannot be reached \(.*`--feed simulated` works offline"):
        fetch(nobody, "GOOD")


def test_what_yahoo_does_not_offer_is_said_without_asking_it(yahoo):
    url, asked = yahoo
    assert (
        "Yahoo has no bars of '4h'; it has 1m, 5m, 15m, 30m, 1h, 1d"
        in fetch(url, "NEW", interval="4h").problems[0].reason
    )
    assert "Yahoo has 1m bars only from" in fetch(url, "NEW", interval="1m").problems[0].reason
    assert asked["NEW"] == 0


FETCH = """
import sys
from datetime import datetime, timezone
from alphapivot.config.sections.feeds import YahooFeed
from alphapivot.config.sections.instrument import Instrument
from alphapivot.feeds.base import Request
from alphapivot.feeds.registry import open_feed

instrument = Instrument.model_validate_json(sys.argv[2])
request = Request(instrument, "spot", "1d", None, datetime(2024, 7, 5, tzinfo=timezone.utc))
found = open_feed("yahoo", YahooFeed(base_url=sys.argv[1])).fetch([request])
assert len(found.bars) > 3000, found.problems
"""


def test_nothing_is_cached_outside_our_home(yahoo, tmp_path):
    ours, users = tmp_path / "ours", tmp_path / "users"
    users.mkdir()
    places = {"ALPHAPIVOT_HOME": str(ours), "HOME": str(users), "NO_PROXY": "127.0.0.1"}
    arguments = [yahoo[0], instrument("GOOD").model_dump_json()]
    subprocess.run([sys.executable, "-c", FETCH, *arguments], env=places, cwd=CHECKOUT, check=True)
    assert list((ours / "cache" / "yfinance").iterdir())
    assert not list(users.iterdir())


def test_an_answer_that_yahoo_restates_is_not_served_from_memory(yahoo):
    url, asked = yahoo
    fetch(url, "GOOD")
    before = asked["GOOD"]
    fetch(url, "GOOD")
    assert asked["GOOD"] > before


@pytest.mark.parametrize(
    ("closes", "paid", "gain", "expected"),
    [
        ([110.6, 103.2], 7.857, 6.42, 7.857),  # within the dividend: the fund fell by 7.4
        ([110.6, 96.2], 7.857, 6.42, 14.277),  # beside it: the fund fell by 14.4
        ([110.6, 104.0], 0, 6.42, 6.42),
        ([110.6, 103.2], 1.4, 6.42, 7.82),  # larger than the dividend, so not within it
        ([float("nan"), 103.2], 7.857, 6.42, 7.857),
    ],
)
def test_a_capital_gain_that_the_dividend_includes_counts_once(closes, paid, gain, expected):
    table = pd.DataFrame({"Close": closes, "Dividends": [0, paid], "Capital Gains": [0, gain]})
    found = yahoo_feed._events(table, pd.DatetimeIndex(["2023-12-13", "2023-12-14"]))
    assert found["kind"].tolist() == ["dividend"]
    assert found["value"].iloc[0] == pytest.approx(expected)
