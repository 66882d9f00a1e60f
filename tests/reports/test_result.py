"""The result of a book: hand-worked trades on a real database, every figure, and sums that add up exactly."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest

from alphapivot.config.settings import Settings
from alphapivot.errors import DataError
from alphapivot.reports import chance
from alphapivot.reports.book import activity, comparison
from alphapivot.reports.book import result as results
from alphapivot.reports.page import book_charts, tables

D = Decimal
TERMS = {"A": [{"pillar": "trend", "contribution": 40.0}, {"pillar": "flow", "contribution": 10.0}]}
FUTURE = {"spot": None, "futures": "a", "signal_market": "futures", "trade_market": "futures", "multiplier": "10"}


def at(day):
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)


def bar(world, day, *prices, score=None, **where):
    """One day: its bar, its score if given, its run."""
    world.bar(day, *prices, **where)
    if score is not None:
        world.score(day, score)
    world.trade(day, terms=TERMS)


def traded(world):
    """
    Three trades: 250 bought at 101 (decided at 100, stop 96, target 108), out at 108; 250 bought at 108, out at 102 by
    a gap through the stop; then one that is open.
    """
    world.score(20, 50)
    world.trade(20, terms=TERMS)
    bar(world, 21, 101, 104, 99, 103, score=50)
    bar(world, 22, 104, 109, 103, 108, score=50)  # the target; a new entry is decided at 108
    return world


def made(world, name="paper"):
    return results.make(world.hub, world.settings, name)


def test_a_trade_of_which_a_split_left_no_share_is_counted_and_shown(world):
    """250 bought at 101; for 1,000 shares there is one, so 0.25 of one is paid out at 103,000."""
    world.score(20, 50)
    world.trade(20, terms=TERMS)
    bar(world, 21, 101, 104, 99, 103)
    world.action(21, "split", 0.001, hour=9)
    bar(world, 22, 103_000, 104_000, 102_000, 103_000)
    found = made(world)
    (trade,) = found.trades.itertuples()
    assert (trade.closed, trade.close_reason, trade.result) == (True, "split", 250 * D(2))
    assert (found.net, found.unexplained) == (500, 0)
    shown = tables.trades(found).iloc[0]
    assert shown.str.contains("split").any()
    bars = activity.around(world.hub, found.book, "A")
    assert book_charts.prices(found, "A", bars).data


def test_a_trade_that_won_figure_by_figure(world):
    traded(world)
    found = made(world)
    (trade,) = found.trades.itertuples()
    assert (trade.result, trade.risk, trade.days_held) == (250 * D(7), D(5), 1.0)
    assert trade.r == pytest.approx(7 / 5)
    # from 101: down to 99 and up to 104 in the entry's bar; the exit's own bar counts with its price alone
    assert (trade.mae, trade.mfe) == (pytest.approx(2 / 5), pytest.approx(7 / 5))
    assert (found.net, found.unexplained) == (1750, 0)
    expected = {
        "net": 1750,
        "total_return": 0.0175,
        "best_day": 101_750 / 100_500 - 1,
        "worst_day": 0.005,
        "trades": 1,
        "open": 0,
        "hit_rate": 1,
        "profit_factor": None,
        "average_win": 1750,
        "average_loss": None,
        "expectancy_r": 1.4,
        "commission": 0,
        "slippage": 0,
        "delay": 250,  # from the close of 100 to the open of 101
        "time_in": 1 / 3,
        "max_gross": 250 * 103 / 100_500,
    }
    assert {name: found.figures[name] for name in expected} == pytest.approx(expected)


def test_entries_are_compared_with_others_on_the_books_own_prices(world, monkeypatch):
    """The close before the first entry is 100 and 108 two days later: no other two days of the 23 rise by as much."""
    monkeypatch.setattr(chance, "FEWEST_TRADES", 1)
    traded(world)
    found = made(world)
    ts = pd.date_range(at(11), at(22), freq="D")  # prices from ten days before the first mark on
    closes = [100.0] * 10 + [103.0, 108.0]
    prices = pd.DataFrame({"symbol": "A", "ts": ts, "close": closes, "offset": 0.0})
    trade = pd.DataFrame({"symbol": ["A"], "side": ["LONG"], "entry_at": [ts[10]], "until": [ts[11]]})
    assert found.figures["shifted_entries"] == chance.shifted(trade, prices) == pytest.approx(1 / 10)


def test_what_trades_brought_is_the_change_of_equity_to_the_last_digit(new_world):
    world = new_world({"A": {}}, broker={"fee_bps": "7.3", "slippage_bps": "11"})
    world.calm(range(1, 21))
    traded(world)
    bar(world, 23, 108, 109, 107, 108, score=50)
    bar(world, 24, 90, 91, 89, 90, score=50)  # a gap through the stop; a new entry at the old one's end
    bar(world, 25, 90, 93.33, 89, 92.22, score=50)
    found = made(world)
    assert found.trades["closed"].tolist() == [True, True, False]
    assert found.unexplained == 0
    assert sum(found.trades["result"]) == found.net == found.book.marks["equity"].iloc[-1] - 100_000
    for key in ("pillar", "symbol", "side"):
        assert sum(results.by(found, key)["result"]) == found.net
    assert results.by(found, "pillar").set_index("pillar")["result"]["trend"] == pytest.approx(
        found.net * 4 / 5, abs=D("1e-5")
    )
    costs = results.costs(found)
    assert sum(costs["commission"]) == sum(f["fee"] for f in world.sql("SELECT fee FROM trading.fill")) > 0
    # slippage and delay sum to the whole shortfall
    shortfall = world.sql("SELECT sum(slippage) AS all FROM api.fills")[0]["all"]
    assert sum(costs["slippage"]) + sum(costs["delay"]) == pytest.approx(shortfall, abs=D("1e-5"))
    assert found.figures["profit_factor"] < 1


def test_a_short_in_foreign_money_reconciles_and_counts_its_risk_in_the_books_currency(new_world):
    world = new_world(
        {"A": FUTURE | {"currency": "USD", "margin": "0.1"}, "EURUSD": {"tradable": False, "tick": "0.0001"}}
    )
    for day in range(1, 26):
        world.bar(day, 1.25, 1.25, 1.25, 1.25, symbol="EURUSD")
    world.roll(None, "Z5")
    where = {"market": "futures", "contract": "Z5"}
    world.calm(range(1, 21), **where)
    world.score(20, -50)
    world.trade(20, terms=TERMS)
    bar(world, 21, 100, 101, 99, 100, **where)
    bar(world, 22, 99, 100, 97, 98, **where)
    found = made(world)
    (trade,) = found.trades.itertuples()
    qty = trade.entry_qty
    assert (trade.side, trade.closed, found.unexplained) == ("SHORT", False, 0)
    assert found.net == trade.result == qty * 2 * 10 * D("0.8")
    assert trade.r == pytest.approx(2 / 4)
    bar(world, 23, 98, 99, 91, 92, **where)  # the target at 92
    found = made(world)
    assert (found.trades["result"].iloc[0], found.unexplained) == (qty * 8 * 10 * D("0.8"), 0)
    assert found.trades["r"].iloc[0] == pytest.approx(2.0)
    assert found.book.currency == "EUR"


def test_a_rolled_trade_owes_what_it_brings_to_the_pillars_of_its_first_entry(new_world):
    world = new_world({"A": FUTURE | {"margin": "0.1"}}, risk={"risk_per_trade": "0.02"})
    stored = world.settings.stored()
    stored["exit"] |= {"roll": True}
    world.settings = Settings.restore(stored)
    h6, m6 = ({"market": "futures", "contract": c} for c in ("H6", "M6"))
    world.calm(range(1, 21), **h6)
    world.calm(range(15, 22), close=103, **m6)
    world.roll(None, "H6")
    world.score(20, 50)
    world.trade(20, terms=TERMS)
    bar(world, 21, 100, 101, 99, 100, **h6)
    world.roll(22, "M6", "H6", spread=3.0, offset=-3.0)
    later = {"A": [{"pillar": "momentum", "contribution": 30.0}]}  # what the score is made of on the day of the roll
    for day, price in ((22, 100), (23, 102), (24, 103)):
        world.calm([day], close=price, **h6)
        world.calm([day], close=price + 3, **m6)
        world.score(day, 50)
        world.trade(day, terms=later)
    found = made(world)
    assert found.trades["contract"].tolist() == ["H6", "M6"]
    assert found.trades["closed"].tolist() == [True, False]
    assert (found.trades["result"] != 0).all()
    by = results.by(found, "pillar").set_index("pillar")["result"]
    assert set(by.index) == {"trend", "flow"}
    assert by["trend"] == 4 * by["flow"]
    assert sum(by) == sum(found.trades["result"])


def test_a_split_is_no_excursion(world):
    """250 bought at 100 are 1,000 at 25: the bars before count as quarters of their prices. One R is 1."""
    world.score(20, 50)
    world.trade(20, terms=TERMS)
    bar(world, 21, 100, 102, 98, 100, score=50)
    world.action(21, "split", 4, hour=9)
    bar(world, 22, 25, 25.25, 24.75, 25, score=50)
    (trade,) = made(world).trades.itertuples()
    assert (trade.risk, trade.mae, trade.mfe) == (1, pytest.approx(0.5), pytest.approx(0.5))
    bar(world, 23, 25, 28, 25, 27)  # the target of 27
    (trade,) = made(world).trades.itertuples()
    assert (trade.closed, trade.mae, trade.mfe, trade.r) == (True, pytest.approx(0.5), pytest.approx(2), 2)


def test_a_deposit_is_no_profit(world):
    world.trade(20)
    world.sql(
        "INSERT INTO trading.book_cash (book, at, amount, note, kind) VALUES ('paper', :at, 5000, 'put in', 'deposit')",
        at=at(20) + timedelta(hours=1),
    )
    world.sql("UPDATE paper.account SET cash = cash + 5000, deposited = deposited + 5000")
    world.calm([21])
    world.trade(21)
    found = made(world)
    assert (found.net, found.unexplained, found.figures["total_return"]) == (0, 0, 0)


def test_cash_that_nobody_booked_is_told(world):
    world.trade(20)
    world.sql("UPDATE paper.account SET cash = cash + 12.34")
    world.calm([21])
    world.trade(21)
    found = made(world)
    assert found.unexplained == D("12.34")
    assert any("+12.34 EUR" in warning for warning in found.warnings)


def test_a_book_without_trades_has_a_report_too(world):
    world.trade(20)
    found = made(world)
    assert (found.net, len(found.trades), found.figures["trades"]) == (0, 0, 0)
    assert found.figures["hit_rate"] is None
    assert results.by(found, "symbol").empty


def test_an_unknown_book_is_told_with_those_there_are(world):
    with pytest.raises(DataError, match="no run has marked a book 'papr'; books: none yet"):
        made(world, "papr")
    world.trade(20)
    with pytest.raises(DataError, match=r"books: paper$"):
        made(world, "papr")


def test_buy_and_hold_is_told_beside_the_book(world):
    traded(world)
    table = results.against_holding(made(world)).set_index("instrument")
    assert table.loc["paper", "total_return"] == pytest.approx(0.0175)
    assert table.loc["A", "total_return"] == pytest.approx(0.08)


def test_the_report_ends_where_it_is_told_to(world):
    traded(world)
    until = results.make(world.hub, world.settings, "paper", at(21))
    assert (until.book.until, until.net) == (pd.Timestamp(at(21)), 500)


def other(world, book, **sections):
    """The same market and scores under another book."""
    settings = world.settings.model_copy(deep=True)
    execution = settings.execution.model_copy(update={"book": book})
    return settings.model_copy(update={"execution": execution, **sections})


def test_two_books_are_compared_decision_by_decision(world):
    """The other book pays 100 bps more, holds a second trade that we never had, and lacks ours of the last day."""
    dear = other(world, "bt-dear")
    broker = dear.brokers["paper"].model_copy(update={"slippage_bps": D(100)})
    dear = dear.model_copy(update={"brokers": {"paper": broker}})
    world.score(20, 50)
    for settings in (world.settings, dear):
        world.trade(20, terms=TERMS, settings=settings)
    for day, prices in ((21, (101, 104, 99, 103)), (22, (104, 109, 103, 108)), (23, (108, 108, 107, 108))):
        world.bar(day, *prices)
        world.score(day, 50 if day == 22 else 0)
        for settings in (world.settings, dear):
            if (day, settings) != (22, world.settings):
                world.trade(day, terms=TERMS, settings=settings)
    own, theirs = made(world), made(world, "bt-dear")
    found = comparison.compare(own, theirs, {"A": D("0.01")})
    (pair,) = found.pairs.itertuples()
    assert (pair.entry_price, pair.other_entry_price) == (101, D("102.01"))
    assert (pair.entry_ticks, pair.exit_ticks) == (-101, 0)  # we paid 1.01 less; a target has no slippage
    assert float(pair.entry_bps) == pytest.approx(-10_000 * 1.01 / 102.01)
    assert pair.result_more == 250 * D("1.01")
    assert (found.missed["symbol"].tolist(), found.missed["why"].tolist()) == (["A"], ["not decided here"])
    assert found.extra.empty
    later = own.trades.assign(as_of=own.trades["as_of"] + pd.Timedelta(hours=3))  # the same bar, decided on later
    assert len(comparison.compare(dataclasses.replace(own, trades=later), theirs, {}).pairs) == 1
    back = comparison.compare(theirs, own, {})
    assert back.pairs["entry_ticks"].tolist() == [None]
    assert len(back.extra) == 1
