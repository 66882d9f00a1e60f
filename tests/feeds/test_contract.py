"""The contract of every feed: the same tests for all of them."""

import pandas as pd
import pytest

from alphapivot.config.sections.feeds import FEEDS, AlpacaFeed, CcxtFeed, FilesFeed, HttpFeed, SimulatedFeed, YahooFeed
from alphapivot.feeds.base import ACTIONS, RAW, Request
from alphapivot.feeds.registry import open_feed
from tests import rigs
from tests.feeds import alpaca_data_server, binance_server, ib_bars
from tests.feeds.http_server import KEY, serving
from tests.rigs import FeedRig, instrument

SINCE = pd.Timestamp("2024-06-25 20:00", tz="UTC").to_pydatetime()
UNTIL = pd.Timestamp("2024-07-03 16:00", tz="UTC").to_pydatetime()
EXPECTED = ["2024-06-26 20:00", "2024-06-27 20:00", "2024-06-28 20:00", "2024-07-01 20:00", "2024-07-02 20:00"]


def pytest_generate_tests(metafunc):
    # Databento has no days of sessions, and Kite no US shares, which these tests ask for: files of their own
    rigs.parametrize(metafunc, "rig", [*sorted(FEEDS.keys() - {"databento", "kite"}), "files of many"])


@pytest.fixture
def tiingo(monkeypatch):
    """The address of a server that answers as Tiingo does."""
    monkeypatch.setenv("TIINGO_TOKEN", KEY)
    with serving() as server:
        yield server.url


@pytest.fixture
def alpaca(monkeypatch):
    """The address of a server that answers as Alpaca's market data do."""
    monkeypatch.setenv("APCA_API_KEY_ID", "id")
    monkeypatch.setenv("APCA_API_SECRET_KEY", KEY)
    with serving(alpaca_data_server.Handler) as server:
        yield server.url


@pytest.fixture
def binance():
    """The address of a server that answers as Binance does."""
    with serving(binance_server.Handler) as server:
        yield server.url


@pytest.fixture
def gateway(monkeypatch, tmp_path):
    """A gateway that answers as Interactive Brokers' does."""
    pytest.importorskip("ib_async")
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    with ib_bars.serving(ib_bars.NOW) as gateway:
        for number, symbol in enumerate("AB", 1):
            rows = {"1 day": ib_bars.days("XNYS", "2024-06-03", "2024-07-05")}
            gateway.add(ib_bars.share(number, symbol, bars=rows))
        yield gateway


def tiingo_section(url):
    columns = {"ts": "date", "split": "splitFactor", "dividend": "divCash"}
    url += "/tiingo/daily/{symbol}/prices?startDate={from}&endDate={to}&token={secret}"
    return HttpFeed(url=url, secret="TIINGO_TOKEN", zone="UTC", stamp="date", columns=columns)


def files_rig(kind, folder):
    days = pd.bdate_range("2024-06-03", "2024-07-31").difference(pd.DatetimeIndex(["2024-06-19", "2024-07-04"]))
    for name in ("b", "a"):
        table = pd.DataFrame({"date": days, "close": range(len(days)), "split": 0.0, "dividend": 0.0})
        if name == "a":
            table.loc[table["date"] == "2024-07-01", "dividend"] = 2
            table.loc[table["date"] == "2024-07-02", "split"] = 4
            table.loc[table["date"] == "2024-07-05", "split"] = 3  # after until
        table.assign(ticker=name).to_csv(folder / f"{name}.csv", index=False)
    columns = {"split": "split", "dividend": "dividend"}
    tickers = "b.csv", "a.csv", "nobody.csv"
    if kind == "files of many":
        columns["symbol"], tickers = "ticker", ("*.csv: b", "*.csv: a", "*.csv: c")
    section = FilesFeed(root=folder, zone="UTC", stamp="date", columns=columns)
    return FeedRig(open_feed("files", section), *tickers)


@pytest.fixture
def rig(request, tmp_path):  # noqa: PLR0911 - one for each kind
    """Each feed, with daily bars of two instruments in late June and early July 2024, and none of a third."""
    if theirs := rigs.named(request.param, tmp_path):
        return theirs
    if request.param == "yahoo":
        url, _ = request.getfixturevalue("yahoo")
        return FeedRig(open_feed("yahoo", YahooFeed(base_url=url)), "GOOD", "SPLIT", "NOBODY")
    if request.param == "alpaca":
        url = request.getfixturevalue("alpaca")
        return FeedRig(open_feed("alpaca", AlpacaFeed(base_url=url)), "GOOD", "SPLIT", "NOBODY")
    if request.param == "ccxt":
        pytest.importorskip("ccxt")
        section = CcxtFeed(exchange="binance", base_url=request.getfixturevalue("binance"))
        return FeedRig(open_feed("ccxt", section), "GOOD/USDT", "ALSO/USDT", "NOBODY/USDT", events=False)
    if request.param == "ib":
        feed = ib_bars.opened(*map(request.getfixturevalue, ("gateway", "monkeypatch")))
        return FeedRig(feed, "B", "A", "NOBODY", events=False)
    if request.param == "http":
        section = tiingo_section(request.getfixturevalue("tiingo"))
        return FeedRig(open_feed("http", section), "GOOD", "SPLIT", "NOBODY")
    if request.param.startswith("files"):
        return files_rig(request.param, tmp_path)
    # any ticker will do here, nothing is split, and what it cannot give is a market without a ticker
    return FeedRig(open_feed("simulated", SimulatedFeed()), "x", "x", None, events=False)


def ask(rig, since=SINCE, until=UNTIL):
    everyone = [instrument("B", rig.b), instrument("NONE", rig.unknown), instrument("A", rig.a)]
    return rig.feed.fetch([Request(i, "spot", "1d", since, until) for i in everyone])


def test_bars_have_the_raw_columns_and_aware_utc_microseconds(rig):
    bars = ask(rig).bars
    assert list(bars.columns) == RAW
    assert str(bars["ts"].dtype) == "datetime64[us, UTC]"
    assert set(bars["source"]) == {rig.feed.name}
    assert (bars["interval"] == "1d").all()
    assert (bars["contract"] == "").all()


def test_bars_are_those_after_since_and_up_to_until_and_none_that_was_not_over(rig):
    # New York closes at 17:00 UTC on 3 July 2024, an hour after until
    for symbol, bars in ask(rig).bars.groupby("symbol"):
        assert [f"{t:%Y-%m-%d %H:%M}" for t in bars["ts"]] == EXPECTED, symbol


def test_splits_and_dividends_have_their_columns_and_none_is_of_the_future(rig):
    actions = ask(rig).actions
    assert list(actions.columns) == ACTIONS
    assert str(actions["ts"].dtype) == "datetime64[us, UTC]"
    assert (actions["ts"] <= UNTIL).all()
    if rig.events:
        assert set(actions["symbol"]) == {"A"}
        assert actions.sort_values("ts")[["kind", "value"]].to_numpy().tolist() == [["dividend", 2], ["split", 4]]


def test_a_feed_says_after_which_instant_it_knows_all_splits_and_dividends(rig):
    actions_after = ask(rig).actions_after
    if not rig.events:
        assert actions_after == {}
        return
    assert set(actions_after) == {"A", "B"}
    assert all(after <= SINCE for after in actions_after.values())


def test_bars_come_in_the_order_of_the_requests_each_sorted_by_time(rig):
    bars = ask(rig).bars
    assert bars["symbol"].drop_duplicates().tolist() == ["B", "A"]
    assert all(part["ts"].is_monotonic_increasing for _, part in bars.groupby("symbol"))


def test_an_unknown_symbol_is_a_problem_and_the_others_go_on(rig):
    fetched = ask(rig)
    (problem,) = fetched.problems
    assert (problem.request.instrument.symbol, problem.transient) == ("NONE", False)
    assert problem.reason
    assert set(fetched.bars["symbol"]) == {"A", "B"}


def test_the_same_question_gets_the_same_answer(rig):
    pd.testing.assert_frame_equal(ask(rig).bars, ask(rig).bars)


def test_where_nothing_is_new_nothing_comes(rig):
    last = pd.Timestamp(EXPECTED[-1], tz="UTC").to_pydatetime()
    fetched = ask(rig, since=last)
    assert fetched.bars.empty
    assert list(fetched.bars.columns) == RAW
    assert len(fetched.problems) == 1
