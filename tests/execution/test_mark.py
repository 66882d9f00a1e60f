"""The equity curve: each run records the book's value once; and the cost of fills."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy.exc import DBAPIError

D = Decimal


def marks(world):
    rows = world.sql("SELECT * FROM api.marks WHERE book = 'paper' ORDER BY as_of")
    return [tuple(row[c] for c in ("equity", "cash", "gross", "net", "open_trades")) for row in rows]


def entered(world):
    """250 bought at 101, a tick of 1 dearer than the close that was decided on; the day closes at 103."""
    world.score(20, 50)
    world.trade(20)
    world.bar(21, 101, 104, 100, 103)
    world.trade(21)
    return world


def test_each_run_leaves_equity_cash_and_exposure(world):
    entered(world)
    assert marks(world) == [
        (100_000, 100_000, 0, 0, 0),
        (100_000 + 250 * 2, 100_000 - 250 * 101, 250 * 103, 250 * 103, 1),
    ]
    assert world.sql("SELECT currency, run_id, round(leverage, 6) AS leverage FROM api.marks ORDER BY as_of")[1] == {
        "currency": "EUR",
        "run_id": "run-21",
        "leverage": D("0.256219"),  # 25,750 / 100,500
    }


def test_the_same_again_is_not_kept_and_what_changed_takes_its_place(world):
    entered(world)
    world.trade(21)
    assert world.sql("SELECT count(*) AS n FROM trading.mark") == [{"n": 2}]
    world.sql("UPDATE market.bar SET close = 100 WHERE ts = (SELECT max(ts) FROM market.bar)")
    world.trade(21)  # the paper broker has seen that bar: the exposure is what changes
    assert world.sql("SELECT count(*) AS n FROM trading.mark") == [{"n": 3}]
    assert marks(world)[1][2] == 250 * 100


@pytest.mark.parametrize(
    "statement", ["UPDATE trading.mark SET equity = 1", "DELETE FROM trading.mark", "TRUNCATE trading.mark"]
)
def test_a_mark_is_never_changed(world, statement):
    world.trade(20)
    with pytest.raises(DBAPIError, match="keeps its rows as they are"):
        world.sql(statement)


def test_a_short_counts_against_the_net_and_foreign_money_at_its_rate(new_world):
    future = {
        "spot": None,
        "futures": "a",
        "signal_market": "futures",
        "trade_market": "futures",
        "multiplier": "10",
        "margin": "0.1",
        "currency": "USD",
    }
    world = new_world({"A": future, "EURUSD": {"tradable": False, "tick": "0.0001"}})
    world.roll(None, "Z5")
    for day in range(1, 22):
        world.bar(day, 1.25, 1.25, 1.25, 1.25, symbol="EURUSD")
    world.calm(range(1, 22), market="futures", contract="Z5")
    world.score(20, -50)
    world.trade(20)
    world.trade(21)
    qty = world.one_trade()["entry_qty"]
    assert qty > 0
    held = qty * 100 * 10 * D("0.8")
    assert marks(world)[1][2:] == (held, -held, 1)


def test_an_unknown_price_leaves_the_exposure_unknown_not_zero(world):
    entered(world)
    world.sql("DELETE FROM market.bar")
    world.trade(22)
    assert marks(world)[2] == (100_500, 74_750, None, None, 1)


def test_a_fill_tells_what_was_hoped_for_and_what_it_cost(new_world):
    world = new_world({"A": {}}, broker={"fee_bps": "10", "slippage_bps": "20"})
    world.calm(range(1, 21))
    entered(world)  # 101 and 20 bps, up to the next cent: 101.21
    world.bar(22, 95, 95, 90, 91)  # a gap through the stop at 96: 95 less 20 bps, 94.81
    world.trade(22)
    entry, stop = world.sql("SELECT * FROM api.fills ORDER BY ts")
    assert (entry["leg"], entry["reference"], entry["price"], entry["fx"]) == ("ENTRY", 100, D("101.21"), 1)
    assert (entry["commission"], entry["slippage"]) == (D("0.25") * D("101.21"), 250 * D("1.21"))
    assert entry["slippage_bps"] == 121
    assert (stop["leg"], stop["reference"], stop["price"]) == ("STOP", 96, D("94.81"))
    assert (stop["slippage"], stop["notional"]) == (250 * D("1.19"), 250 * D("94.81"))


def test_an_exit_at_market_hoped_for_the_last_close_before_it(world):
    entered(world)
    world.score(21, -50)
    world.trade(21)
    world.score(21, -50)
    world.trade(21, settings=world.settings)
    world.bar(22, 102, 103, 101, 102)
    world.trade(22)
    exits = world.sql("SELECT reference, price, slippage FROM api.fills WHERE leg = 'EXIT'")
    assert exits == [{"reference": 103, "price": 102, "slippage": 250}]
