"""Interactive Brokers' bars through its real client, against a gateway on the wire; the contract has the rest."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest

from alphapivot.config.sections.feeds import IbFeed
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.feeds.base import Request
from alphapivot.feeds.registry import open_feed
from tests.feeds import ib_bars
from tests.feeds.test_files import instrument

pytest.importorskip("ib_async")

FUTURES = {"spot": None, "signal_market": "futures", "trade_market": "futures", "calendar": "CMES"}
CHICAGO = {"session": "17:00-16:00", "session_zone": "America/Chicago"}
SINCE = datetime(2024, 6, 25, 20, tzinfo=UTC)
JULY_3 = ib_bars.NOW


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))


@pytest.fixture
def gateway():
    with ib_bars.serving() as made:
        shares = {"SPY": 100, "SPLIT": 400}
        for number, (symbol, price) in enumerate(shares.items(), 1):
            rows = {"1 day": ib_bars.days("XNYS", "2024-06-03", "2024-07-05", price)}
            made.add(ib_bars.share(number, symbol, bars=rows))
        contracts = {"ESM4": "20240621", "ESU4": "20240920", "ESZ4": "20241220", "ESZ6": "20261218", "ESM2": "20220617"}
        for number, (local, last) in enumerate(contracts.items(), 11):
            rows = {
                "1 day": ib_bars.days("CMES", "2024-06-03", min("2024-07-05", f"{last[:4]}-{last[4:6]}-{last[6:]}"))
            }
            if local == "ESM2":
                rows = {"1 day": ib_bars.days("CMES", "2022-06-01", "2022-06-17")}
            made.add(ib_bars.future(number, "ES", last, local, bars=rows))
        yield made


@pytest.fixture
def ask(gateway, monkeypatch):
    def ask(*tickers, market="spot", interval="1d", since=SINCE, until=JULY_3, terms=None, **keys):
        feed = ib_bars.opened(gateway, monkeypatch, **keys)
        terms = (FUTURES if market == "futures" else {"calendar": "XNYS"}) | (terms or {})
        requests = [
            Request(instrument(**terms | {"symbol": f"X{n}", market: ticker}), market, interval, since, until)
            for n, ticker in enumerate(tickers)
        ]
        return feed.fetch(requests)

    return ask


def ends(bars):
    return [f"{ts:%m-%d %H:%M}" for ts in bars["ts"]]


def test_every_contract_of_a_root_comes_in_its_last_days_expired_ones_too(gateway, ask):
    fetched = ask("ES@CME", market="futures", since=datetime(2024, 6, 12, tzinfo=UTC), terms=CHICAGO)
    assert not fetched.problems
    by_contract = {name: ends(bars) for name, bars in fetched.bars.groupby("contract", sort=False)}
    # 200 days before its last trade: ESZ4 too, and not ESZ6; ESM2 ended before, and IB keeps two years
    assert list(by_contract) == ["ESM24", "ESU24", "ESZ24"]
    # the session of 19 June (Juneteenth) is a half day of the CME, and that of 3 July ends at 17:00 UTC
    assert by_contract["ESM24"][0] == "06-12 21:00"
    assert by_contract["ESM24"][-1] == "06-21 21:00"
    assert by_contract["ESU24"][-1] == "07-02 21:00"
    first = fetched.bars.iloc[0]
    assert first[["open", "high", "low", "close", "volume"]].tolist() == [107, 109, 106, 108, 1107]
    assert fetched.bars["open_interest"].isna().all()


def test_a_contract_is_named_by_its_own_month_and_not_by_that_of_its_last_trade(gateway, ask):
    rows = {"1 day": ib_bars.days("CMES", "2024-06-20", "2024-07-05")}
    gateway.add(ib_bars.future(31, "CL", "20240722", "CLQ4", delivery="202408", exchange="NYMEX", bars=rows))
    assert set(ask("CL@NYMEX", market="futures").bars["contract"]) == {"CLQ24"}


def test_two_classes_of_one_symbol_are_told_and_one_is_chosen(gateway, ask):
    for number, kind in ((41, "SI"), (42, "SIL")):
        rows = {"1 day": ib_bars.days("CMES", "2024-06-20", "2024-07-05")}
        terms = {"exchange": "COMEX", "trading_class": kind, "bars": rows}
        gateway.add(ib_bars.future(number, "SI", "20240926", f"{kind}U4", **terms))
    (problem,) = ask("SI@COMEX", market="futures").problems
    assert "SI@COMEX in USD are of the classes SI, SIL: say which, such as SI@COMEX/SI" in problem.reason
    assert set(ask("SI@COMEX/SIL", market="futures").bars["contract"]) == {"SILU24"}


def test_minutes_are_read_day_by_day_in_utc_and_the_one_in_progress_is_left_out(gateway, ask):
    rows = {"30 mins": ib_bars.intraday("2024-07-02 13:30", "2024-07-02 20:00", 30)}
    rows["30 mins"] += ib_bars.intraday("2024-07-03 13:30", "2024-07-03 16:30", 30)
    gateway.contracts[0].bars |= rows
    bars = ask("SPY", interval="30m", since=datetime(2024, 7, 2, 19, tzinfo=UTC)).bars
    assert ends(bars) == [
        "07-02 19:30",
        "07-02 20:00",
        *(f"07-03 {t}" for t in ("14:00", "14:30", "15:00", "15:30", "16:00")),
    ]


def test_bars_of_the_night_are_left_out_where_the_session_is_shorter(gateway, ask):
    gateway.contracts[3].bars = {"1 hour": ib_bars.intraday("2024-07-02 20:00", "2024-07-03 03:00", 60)}
    fetched = ask("ES@CME", market="futures", interval="1h", terms=CHICAGO, since=datetime(2024, 7, 2, 12, tzinfo=UTC))
    # 21:00 to 22:00 UTC is the daily break
    assert ends(fetched.bars) == ["07-02 21:00", "07-02 23:00", *(f"07-03 0{h}:00" for h in range(4))]
    assert "X0 futures 1h: 1 bars before or after the session are left out" in fetched.notes


def test_splits_of_the_config_turn_todays_shares_into_those_of_the_day(ask):
    fetched = ask("SPLIT", splits={"X0": "2024-06-28 4 + 2024-07-02 2"})
    bars = fetched.bars.set_index(fetched.bars["ts"].dt.strftime("%m-%d"))
    # IB has 417 on 26 June in shares of after both splits, and 421 on 2 July
    assert bars.loc["06-26", ["open", "volume"]].tolist() == [416 * 8, 1416 / 8]
    assert bars.loc["07-01", ["open", "volume"]].tolist() == [419 * 2, 1419 / 2]
    assert bars.loc["07-02", "open"] == 420
    assert fetched.actions[["kind", "value"]].to_numpy().tolist() == [["split", 4], ["split", 2]]
    assert [f"{ts:%m-%d %H:%M}" for ts in fetched.actions["ts"]] == ["06-28 13:30", "07-02 13:30"]


def test_a_daily_bar_waits_for_the_end_of_its_session_even_if_it_is_stamped_at_a_settlement(ask):
    terms = CHICAGO | {"daily_stamp": "settlement 15:00"}
    at = {hour: datetime(2024, 7, 2, hour, 30, tzinfo=UTC) for hour in (20, 21)}
    asked = {"market": "futures", "terms": terms}
    assert ends(ask("ES@CME", until=at[20], **asked).bars)[-1] == "07-01 20:00"
    assert ends(ask("ES@CME", until=at[21], **asked).bars)[-1] == "07-02 20:00"


def test_pacing_is_kept_over_processes_and_no_request_is_refused(gateway, ask):
    for contract in gateway.contracts:
        contract.bars = {"1 min": ib_bars.intraday("2024-07-02 13:30", "2024-07-02 13:35", 1)}
    fetched = ask("SPY", interval="1m", since=datetime(2024, 4, 20, tzinfo=UTC))
    assert len(fetched.bars) == 5
    assert not any("pacing" in note for note in fetched.notes)
    assert len(gateway.history) > 70  # a day each
    assert sum(gateway.time.slept) > 500
    asked = len(gateway.history)
    again = ask("SPY", interval="1m", since=datetime(2024, 6, 30, tzinfo=UTC))  # another feed, as in another process
    assert len(again.bars) == 5
    assert len(gateway.history) == asked + 7  # each answered at once: the waits before were long enough


@pytest.mark.parametrize(
    ("error", "told", "transient"),
    [
        (
            (162, "Historical Market Data Service error message:No market data permissions for CME FUT"),
            "no market data subscription for it: subscribe in Client Portal",
            False,
        ),
        (
            (162, "Historical Market Data Service error message:TWS session is connected from a different IP address"),
            "another session of this user takes the market data: log it out",
            True,
        ),
        ((10197, "No market data during competing live session"), "another session of this user", True),
        ((354, "Requested market data is not subscribed."), "no market data subscription", False),
        ((10090, "Part of requested market data is not subscribed."), "no market data subscription", False),
        ((200, "The contract description specified for ESU4 is ambiguous."), "say which", False),
        ((366, "No historical data query found for ticker id"), "(366: No historical data query found", False),
        ((322, "Error processing request"), "(322: Error processing request)", False),
    ],
)  # fmt: skip
def test_an_error_is_a_sentence_and_the_others_go_on(gateway, ask, error, told, transient):
    gateway.bar_errors["SPY"] = [error]
    fetched = ask("SPY", "SPLIT")
    (problem,) = fetched.problems
    assert (problem.request.instrument.symbol, problem.transient) == ("X0", transient)
    assert told in problem.reason
    assert f"({error[0]}: {error[1]})" in problem.reason
    assert set(fetched.bars["symbol"]) == {"X1"}


def test_delayed_prices_come_with_a_note(gateway, ask):
    text = "Requested market data is not subscribed. Displaying delayed market data."
    gateway.bar_errors["SPY"] = [(10167, text)]
    fetched = ask("SPY")
    assert len(fetched.bars) == 5
    (note,) = fetched.notes
    assert "prices are delayed" in note
    assert text in note


def test_minus_one_is_no_volume(gateway, ask):
    gateway.contracts[0].bars["1 day"] = [(*row[:-1], -1) for row in gateway.contracts[0].bars["1 day"]]
    assert ask("SPY").bars["volume"].isna().all()


def test_what_one_contract_lacks_leaves_the_others_and_what_all_lack_is_asked_once(gateway, ask):
    gateway.bar_errors["ESU4"] = [(162, "Historical Market Data Service error message:something new")]
    asked = {"market": "futures", "since": datetime(2024, 6, 28, tzinfo=UTC)}
    fetched = ask("ES@CME", **asked)
    assert set(fetched.bars["contract"]) == {"ESZ24"}
    (problem,) = fetched.problems
    assert (problem.partial, problem.reason.startswith("ESU24: ")) == (True, True)
    denied = [(162, "Historical Market Data Service error message:No market data permissions for CME FUT")]
    gateway.bar_errors = {"ESU4": denied}
    gateway.history.clear()
    (problem,) = ask("ES@CME", **asked).problems
    assert not problem.partial
    assert [asked[0] for _, asked in gateway.history] == ["ESU4"]


def test_a_violation_of_pacing_waits_a_minute_and_asks_again_within_the_patience(gateway, ask):
    slow = [(162, "Historical Market Data Service error message:Historical data request pacing violation")]
    gateway.bar_errors["SPY"] = slow
    (problem,) = ask("SPY", patience=120).problems
    assert problem.transient
    assert "it limits historical requests" in problem.reason
    assert len(gateway.history) == 3
    assert sum(gateway.time.slept) == 120
    (problem,) = ask("SPY", patience=0).problems
    assert len(gateway.history) == 4


def test_a_contract_without_an_answer_is_told_and_the_others_go_on(gateway, ask):
    gateway.silent_bars = [c for c in gateway.contracts if c.local == "ESU4"]
    fetched = ask("ES@CME", market="futures", timeout=0.5)
    assert set(fetched.bars["contract"]) == {"ESZ24"}
    (problem,) = fetched.problems
    assert (problem.partial, problem.transient) == (True, True)
    assert "ESU24: Interactive Brokers did not answer 1 day bars of ESU24" in problem.reason


def test_an_error_that_its_client_takes_for_a_warning_is_told_with_the_missing_answer(gateway, ask):
    gateway.bar_errors["SPY"] = [(321, "Error validating request")]
    (problem,) = ask("SPY", timeout=0.5).problems
    assert "did not answer 1 day bars of SPY: it said 321: Error validating request" in problem.reason
    assert problem.transient


def test_what_it_has_not_is_told(gateway, ask):
    reasons = {
        ("NOBODY", "spot", "1d"): "no share NOBODY in USD: is the ticker right, and its currency?",
        ("NQ@CME", "futures", "1d"): "no futures NQ@CME in USD: are symbol, exchange and currency right?",
        ("ES", "futures", "1d"): "futures = ES: expected SYMBOL@EXCHANGE, such as ES@CME",
        ("SPY", "spot", "1h"): "do not begin with the sessions of",
        ("SPY", "spot", "7m"): "has no bars of '7m'; it has 1m, 5m",
    }
    for (ticker, market, interval), reason in reasons.items():
        (problem,) = ask(ticker, market=market, interval=interval).problems
        assert reason in problem.reason
        assert not problem.transient
    gateway.add(ib_bars.share(51, "SPY", primary="LSE"))
    assert "say which, such as SPY@SMART/NASDAQ, SPY@SMART/LSE" in ask("SPY").problems[0].reason
    assert len(ask("SPY@SMART/NASDAQ").bars) == 5


def test_without_a_gateway_nothing_is_read_and_the_error_says_how_to_start_it(gateway, ask, monkeypatch):
    gateway.close()
    with pytest.raises(Unavailable, match=r"nothing listens at 127.0.0.1:.*start IB Gateway or TWS"):
        ask("SPY")
    monkeypatch.setitem(sys.modules, "ib_async", None)
    with pytest.raises(ConfigError, match="kind = ib needs Interactive Brokers' client: pip install"):
        open_feed("ib", IbFeed(port=1)).fetch([Request(instrument(), "spot", "1d", SINCE, JULY_3)])


def test_the_feed_has_its_own_client_id(gateway, ask):
    ask("SPY")
    assert list(gateway.clients) == [18]  # the broker's is 17
