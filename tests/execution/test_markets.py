"""Futures, rolls, currencies, pence and sessions through the whole engine, each worked out by hand."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest

from alphapivot.config.sections.instrument import Instrument
from alphapivot.execution.book import control
from alphapivot.execution.market import quotes
from alphapivot.frames import Bars

D = Decimal
FUTURE = {
    "futures": "f",
    "signal_market": "futures",
    "trade_market": "futures",
    "multiplier": "50",
    "margin": "0.1",
    "tick": "0.25",
}


@pytest.fixture
def rolling(new_world):
    """
    A future whose front is H6 from the start and M6 from day 22 on; both at a daily range of 2, M6 3 points
    higher.
    """
    world = new_world({"A": FUTURE}, broker={"fee_bps": "1"}, risk={"risk_per_trade": "0.02"})
    world.calm(range(1, 25), market="futures", contract="H6")
    world.calm(range(15, 25), market="futures", contract="M6", close=103)
    world.roll(None, "H6")
    world.score(20, 50)
    world.trade(20)
    world.score(21, 50)
    world.trade(21)
    return world


def test_a_future_is_entered_in_its_front_contract_and_moves_no_cash_but_fees(rolling):
    trade = rolling.one_trade()
    # 2 % of 100,000 over 4 points x 50: 10 contracts; notional 50,000 = the cap of 0.5
    assert (trade["contract"], trade["entry_qty"], trade["entry_price"], trade["stop"], trade["target"]) == (
        "H6",
        10,
        100,
        96,
        108,
    )
    account = rolling.runs[-1].account
    assert account.cash == D(100_000) - D(5)  # 1 bp of 50,000
    assert (account.equity, account.free) == (account.cash, account.cash - 5_000)  # margin of 10 %
    rolling.holds()


def test_a_roll_closes_the_trade_and_the_next_run_enters_the_new_contract(rolling):
    rolling.roll(22, "M6", "H6", spread=3.0, offset=-3.0)
    rolling.score(22, 50)
    report = rolling.trade(22)
    assert [(d.action, d.reasons) for d in report.decisions] == [("EXIT", ("contract_rolled",))]
    rolling.score(23, 50)
    report = rolling.trade(23)
    assert rolling.sql("SELECT close_reason, exit_price FROM trading.trade WHERE state = 'CLOSED'") == [
        {"close_reason": "contract_rolled", "exit_price": 100}
    ]
    assert [(d.action, d.quote.contract) for d in report.decisions] == [("ENTER_LONG", "M6")]
    # ATR is of what was the front contract at each time, joined at the roll; the stop stands in the contract's
    # own prices
    assert (report.decisions[0].quote.bars["series"], report.decisions[0].quote.bars["count"]) == ("adjusted", 23)
    rolling.trade(24)
    trade = rolling.one_trade()
    assert (trade["contract"], trade["entry_price"], trade["stop"]) == ("M6", 103, 99)
    rolling.holds()


def test_a_roll_at_as_of_counts_for_the_next_bar_and_one_after_it_does_not(rolling):
    rolling.roll(23, "M6", "H6")
    rolling.score(22, 50)
    assert [d.reasons for d in rolling.trade(22).decisions] == [("already_open",)]


def test_a_young_contract_borrows_the_adjusted_series_for_its_range(new_world):
    world = new_world({"A": FUTURE})
    world.calm(range(1, 19), market="futures", contract="H6")
    world.calm(range(17, 21), market="futures", contract="M6", close=103)  # four bars: too few for ATR(5)
    world.roll(None, "H6")
    world.roll(18, "M6", "H6", spread=3.0, offset=-3.0)
    world.score(20, 50)
    (decision,) = world.trade(20).decisions
    assert (decision.quote.bars["series"], decision.quote.atr) == ("adjusted", 2)  # the gap of 3 is no range
    assert (decision.plan.stop, decision.plan.reference) == (99, 103)


def test_profit_in_another_currency_is_converted_at_the_rate_of_its_fill(new_world):
    # dollars to euros at 0.8 on days 20 and 21, 0.9 on day 22
    world = new_world(
        {"A": FUTURE | {"currency": "USD"}, "EURUSD": {"tradable": False, "tick": "0.0001"}},
        risk={"risk_per_trade": "0.02"},
    )
    world.calm(range(1, 22), market="futures")
    for day, rate in ((20, 1.25), (21, 1.25), (22, 1 / 0.9)):
        world.bar(day, rate, rate, rate, rate, symbol="EURUSD")
    world.score(20, 50)
    world.trade(20)
    world.trade(21)
    # 2,000 euros over 4 points x 50 x 0.8 = 160: 12.5; notional 5,000 x 0.8 = 4,000 of 50,000: 12.5
    assert world.one_trade()["entry_qty"] == 12
    world.bar(22, 107, 109, 106, 108, market="futures")
    world.trade(22)
    assert world.one_trade()["realised"] == 12 * 8 * 50 * D("0.9")
    world.holds()


@pytest.mark.parametrize("days", [[], [18]])
def test_without_a_fresh_rate_an_entry_is_denied(new_world, days):
    world = new_world({"A": FUTURE | {"currency": "USD"}, "EURUSD": {"tradable": False}})
    world.calm(range(1, 21), market="futures")
    world.calm(days, symbol="EURUSD", close=1.25, spread=0.01)
    world.score(20, 50)
    decisions = {d.symbol: (d.action, d.reasons) for d in world.trade(20).decisions}
    assert decisions["A"] == ("DENIED", ("fx_missing",))


def test_a_rate_that_the_caller_gives_wins(new_world):
    world = new_world({"A": FUTURE | {"currency": "JPY", "multiplier": "1000"}})
    world.calm(range(1, 21), market="futures")
    world.score(20, 50)
    (decision,) = world.trade(20, fx={"JPY": D("0.006")}).decisions
    # 1,000 over 4 x 1,000 x 0.006 = 24: 41.67
    assert (decision.action, decision.plan.qty, decision.plan.fx) == ("ENTER_LONG", 41, D("0.006"))


def test_an_inverse_pair_serves_as_well(new_world):
    world = new_world({"A": FUTURE | {"currency": "USD"}, "USDEUR": {"tradable": False}})
    world.calm(range(1, 21), market="futures")
    world.calm([20], symbol="USDEUR", close=0.8, spread=0.01)
    world.score(20, 50)
    decisions = {d.symbol: d for d in world.trade(20).decisions}
    assert decisions["A"].plan.fx == D("0.8")


def test_shares_in_pence_cost_pounds(new_world):
    world = new_world({"A": {"quote_unit": "0.01"}}, broker={"cash": "1000"}, risk={"risk_per_trade": "0.01"})
    world.calm(range(1, 22))
    world.score(20, 50)
    world.trade(20)
    world.trade(21)
    # 10 over 4 pence: 250 shares of 1.00
    assert world.runs[-1].account.cash == 1000 - 250
    world.holds()


def test_orders_have_the_lot_and_tick_of_their_session_and_what_is_held_leaves_whatever_the_lot_is(new_world):
    dated = {"lot": "10, 2026-01-23: 7", "tick": "0.01, 2026-01-23: 0.5"}
    world = new_world({"A": dated, "B": dated})
    for symbol in ("A", "B"):
        world.calm(range(1, 26), symbol=symbol, close=100.2)
    world.score(20, 50)
    world.trade(20)
    world.trade(21)
    a = world.one_trade()
    # 1,000 over 4: 250, whole lots of 10; the stop 4 below, on the cent
    assert (a["qty"], a["stop"]) == (250, D("96.20"))
    world.score(22, -50)
    world.score(22, 50, symbol="B")
    world.trade(22)  # the day's close: these orders are for the 23rd
    world.trade(23)
    (a,) = world.sql("SELECT * FROM trading.trade WHERE trade_id = :t", t=a["trade_id"])
    b = world.one_trade("B")
    assert (a["state"], a["exit_qty"]) == ("CLOSED", 250)
    # lots of 7; 100.2 fills at 100 on the new tick; 96.2 and 108.2 are moved inwards to it
    assert (b["qty"], b["entry_price"], b["stop"], b["target"]) == (245, 100, D("96.5"), 108)
    world.holds()


def test_a_negative_price_trades_like_any_other(new_world):
    world = new_world({"A": FUTURE | {"allow_nonpositive": True}})
    world.calm(range(1, 22), market="futures", close=-10)
    world.score(20, 50)
    world.trade(20)
    world.bar(22, -13.5, -13, -15, -14, market="futures")
    world.score(22, 0)
    world.trade(22)
    trade = world.one_trade()
    # stop -14; 1,000 over 200: 5 contracts; entered at -10, stopped at -14
    assert (trade["qty"], trade["entry_price"], trade["exit_price"], trade["realised"]) == (5, -10, -14, -1000)
    world.holds()


def test_a_negative_adjusted_price_is_no_price_of_any_order(new_world):
    """
    A future at 5 rolled into one at 105: the adjusted series goes on at 5, and is at -5 when the contract that is
    traded stands at 95. Stop, target, collar, size and notional are in the contract's own price.
    """
    limits = {"risk_per_trade": "0.02", "price_collar": "0.2"}
    world = new_world({"A": FUTURE | {"allow_nonpositive": True}}, risk=limits)
    world.calm(range(1, 15), market="futures", contract="H6", close=5)
    world.calm([14], market="futures", contract="M6", close=105)
    world.calm(range(15, 22), market="futures", contract="M6", close=95)
    world.roll(None, "H6")
    world.roll(14, "M6", "H6", spread=100.0, offset=-100.0)
    world.score(20, 50)
    (decision,) = world.trade(20).decisions
    # the true ranges are 2, and one of 11 where it fell from 5 to -5; Wilder's ATR(5) forgets a fifth of that each day:
    # 2 + 9 / 5 x 0.8 ** 5 = 2.589824; the stop is two of them away, 89.820352, on the tick of 0.25 towards the price 90
    assert decision.quote.atr == pytest.approx(D("2.589824"))
    assert (decision.plan.reference, decision.plan.stop, decision.plan.target) == (95, 90, D("105.25"))
    # 2,000 over 5.179648 x 50: 7 contracts of 4,750
    assert (decision.plan.qty, decision.plan.notional) == (7, 33_250)
    assert decision.gates["price_collar"].limit == "95.0 +- 19.00"
    world.score(21, 0)
    world.trade(21)
    assert (world.one_trade()["entry_price"], world.one_trade()["stop"]) == (95, 90)
    world.holds()


def test_an_entry_that_cash_no_longer_covers_is_cancelled(new_world):
    world = new_world({"A": {}}, broker={"cash": "1000"}, risk={"risk_per_trade": "0.1", "max_notional": "1"})
    world.calm(range(1, 21))
    world.score(20, 50)
    world.trade(20)
    assert world.one_trade()["qty"] == 10  # all the cash at 100
    world.bar(21, 101, 102, 100, 101)
    world.score(21, 0)
    world.trade(21)
    trade = world.one_trade()
    assert (trade["state"], trade["close_reason"], trade["realised"]) == ("CLOSED", "insufficient_cash", 0)
    world.holds()


def test_the_daily_loss_limit_counts_from_the_last_equity_of_the_day_before(new_world):
    world = new_world({"A": {}, "B": {}}, risk={"daily_loss_limit": "0.009"})
    for symbol in "AB":
        world.calm(range(1, 22), symbol=symbol)
    world.score(20, 50)
    world.trade(20)
    world.trade(21)
    world.bar(22, 100, 101, 95, 96)  # the stop: 1 % of equity is gone
    world.calm([22], symbol="B")
    world.score(22, 0, symbol="A")
    world.score(22, 90, symbol="B")
    decisions = {d.symbol: (d.action, d.reasons) for d in world.trade(22).decisions}
    assert decisions["B"] == ("DENIED", ("daily_loss",))
    world.calm([23], symbol="B")
    world.score(23, 90, symbol="B")
    # no loss on the next day, but trading waits for an operator
    assert {d.symbol: d.reasons for d in world.trade(23).decisions}["B"] == ("reduce_only",)
    control.resume(world.hub, "paper", "looked into it", "a person")
    world.calm([24], symbol="B")
    world.score(24, 90, symbol="B")
    assert {d.symbol: d.action for d in world.trade(24).decisions}["B"] == "ENTER_LONG"


def test_an_entry_without_bars_expires_instead_of_filling_late(new_world):
    world = new_world({"A": {}, "B": {}})
    for symbol in "AB":
        world.calm(range(1, 21), symbol=symbol)
    world.score(20, 50)
    world.trade(20)
    world.trade(21)
    assert world.one_trade()["state"] == "PENDING"
    report = world.trade(22)
    assert {d.symbol: d.reasons for d in report.decisions}["A"] == ("entry_expired",)
    trade = world.one_trade()
    assert (trade["state"], trade["close_reason"]) == ("CLOSED", "entry_expired")
    world.calm([23])
    world.trade(23)
    assert world.sql("SELECT FROM trading.fill") == []
    world.holds()


def test_a_position_changed_by_hand_locks_the_symbol(world):
    world.score(20, 50)
    world.trade(20)
    world.calm([21])
    world.trade(21)
    world.sql("UPDATE paper.position SET qty = qty - 50")
    report = world.trade(22)
    (lock,) = world.sql("SELECT symbol, reason FROM trading.instrument_lock")
    assert lock == {"symbol": "A", "reason": "spot: our fills add up to 250, the broker holds 200"}
    assert report.notes[0] == "A is locked: spot: our fills add up to 250, the broker holds 200"
    assert "REDUCE_ONLY" in report.notes[1]  # what is missing is a loss of 5 % of the day's equity
    world.trade(22)
    assert len(world.sql("SELECT FROM trading.instrument_lock")) == 1


def test_a_day_opens_with_its_session_and_its_bars_follow_each_other_from_there():
    terms = {
        s: Instrument(
            symbol=s,
            spot="x",
            signal_market="spot",
            trade_market="spot",
            currency="USD",
            quote_unit=D(1),
            multiplier=D(1),
            tick=D("0.01"),
            lot=D(1),
            margin=D(1),
            tradable=True,
            calendar=c,
        )
        for s, c in (("NY", "XNYS"), ("CME", "CMES"), ("BTC", "24/7"))
    }

    def start(symbol, interval, ts):
        key = {"symbol": symbol, "market": "spot", "ts": pd.Timestamp(ts, tz="UTC")}
        bars = pd.DataFrame([{**dict.fromkeys(Bars.columns(), 1.0), **key}])
        return str(quotes.opened(bars, interval, terms)["start"].iloc[0].tz_convert(None))

    assert start("NY", "1d", "2026-01-20 21:00") == "2026-01-20 14:30:00"
    assert start("NY", "1d", "2025-12-24 18:00") == "2025-12-24 14:30:00"  # a half day
    assert start("NY", "1h", "2026-01-20 15:30") == "2026-01-20 14:30:00"
    assert (
        start("NY", "1h", "2026-01-20 21:00") == "2026-01-20 20:30:00"
    )  # from 14:30 on by the hour: the last is short
    assert start("NY", "5m", "2026-01-20 14:35") == "2026-01-20 14:30:00"
    assert start("CME", "1d", "2026-01-20 23:00") == "2026-01-19 23:00:00"
    assert start("BTC", "1d", "2026-01-20 00:00") == "2026-01-19 00:00:00"
    assert start("NY", "1d", "2026-01-19 05:00") == "2026-01-18 05:00:00"  # a holiday's stub


def test_a_daily_bar_of_new_york_fills_what_was_decided_after_its_last_close(new_world):
    """As a schedule does it: the run comes some time after the close, and not on a bar's end."""
    world = new_world({"A": {"calendar": "XNYS"}})
    friday = datetime(2026, 1, 16, 21, tzinfo=UTC)
    closes = [
        friday - timedelta(days=d)
        for d in (*range(24, 17, -1), *range(17, -1, -1))
        if (friday - timedelta(days=d)).weekday() < 5
    ]
    closes.append(datetime(2026, 1, 20, 21, tzinfo=UTC))
    for ts in closes:
        world.sql(
            "INSERT INTO market.bar VALUES ('A', 'spot', '', '1d', :ts, 100, 101, 99, 100, 5, NULL, 't',"
            " clock_timestamp())",
            ts=ts,
        )
    world.score(friday, 50)
    world.trade(friday + timedelta(minutes=30))
    world.trade(closes[-1] + timedelta(minutes=30))
    trade = world.one_trade()
    assert (trade["state"], trade["entry_at"]) == ("OPEN", closes[-1])


def test_a_decision_taken_within_a_session_waits_for_the_next_open(new_world):
    world = new_world({"A": {"calendar": "XNYS"}})
    days = [datetime(2026, 1, d, 21, tzinfo=UTC) for d in (5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 20, 21)]
    for ts in days:
        world.sql(
            "INSERT INTO market.bar VALUES ('A', 'spot', '', '1d', :ts, 100, 101, 99, 100, 5, NULL, 't',"
            " clock_timestamp())",
            ts=ts,
        )
    world.score(days[-3], 50)
    world.trade(days[-2] - timedelta(hours=5))  # 16:00, and the session has begun at 14:30
    world.trade(days[-2])
    assert world.one_trade()["state"] == "PENDING"
    world.trade(days[-1])
    assert world.one_trade()["entry_at"] == days[-1]
