"""A spread is one trade: sized by its own range, charged and margined by its legs; engine, kernel and memory agree."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from alphapivot.config.sections.brokers import PaperBroker
from alphapivot.config.sections.instrument import Instrument
from alphapivot.research.backtest import warnings
from tests.execution.conftest import World, at, instrument, make_settings
from tests.research.test_simulate import same

DAYS = 120
FEES = {"A": "10 bps + 0.02 each", "B": "20 bps"}
PRICES = {"A": "300", "B": "100"}  # a unit of A - 2 B: worth 500
D = Decimal


def spread(**keys) -> Instrument:
    legs = {"A": instrument("A"), "B": instrument("B")}
    given = {"symbol": "PAIR", "legs": {"A": "1", "B": "-2"}, "leg_prices": PRICES, "leg_terms": legs}
    given |= {"calendar": "24/7", "currency": "EUR", "tradable": "yes", "lot": "1"}
    return Instrument.model_validate(given | keys)


@pytest.fixture
def world(hub):
    """The market of a spread alone, whose price crosses zero again and again, and its opens."""
    broker = {"slippage_bps": "2", "fees": FEES}
    settings = make_settings({"A": {}, "B": {}}, broker=broker, feeds={"legs": {"kind": "legs"}})
    instruments = settings.instruments | {"PAIR": spread()}
    runtime = settings.runtime.model_copy(update={"feed": "legs"})
    world = World(hub, settings.model_copy(update={"instruments": instruments, "runtime": runtime}))
    rng, close, opens = np.random.default_rng(3), 0.0, {}
    for day in range(DAYS):
        opened = round(close + rng.normal(0, 1), 2)
        close = round(0.9 * close + rng.normal(0, 6), 2)
        high, low, opens[at(day)] = max(opened, close), min(opened, close), D(str(opened))
        world.bar(day, opened, high, low, close, symbol="PAIR", market="futures")
        if day >= 20:
            world.score(day, float(round(np.clip(-close * 8, -100, 100), 2)), symbol="PAIR")
    return world, opens


def test_engine_kernel_and_memory_trade_it_alike_and_its_costs_are_the_sums_of_its_legs(world):
    market, opens = world
    found = same(market, [at(day) for day in range(20, DAYS)])
    trades, fills = found["trade"], found["fill"]
    assert len(trades) > 5
    assert {t["symbol"] for t in trades} == {"PAIR"}
    for fill in fills:
        # 10 bps of 300 for A, 20 bps of 2 x 100 for B, and 2 cents for the share of A
        assert fill["fee"] == fill["qty"] * (D("0.30") + D("0.40") + D("0.02"))
        if fill["leg"] == "ENTRY":  # slippage: 2 bps of 500, however small the price
            assert abs(fill["price"] - opens[fill["ts"]]) == D("0.10")
    plans = [row["plan"] for row in found["decision"] if row["plan"]]
    assert {D(str(plan["notional"])) for plan in plans} == {D(str(plan["qty"])) * 500 for plan in plans}
    assert {D(str(plan["margin"])) for plan in plans} == {D(str(plan["qty"])) * 500 for plan in plans}
    # by the range of the spread, and never more than half of the equity
    assert {plan["capped_by"] for plan in plans} == {"risk", "max_notional"}


def test_gross_exposure_is_what_the_legs_are_worth_and_a_halt_of_a_leg_halts_the_spread(world):
    market, _ = world
    market.sql(
        "INSERT INTO market.quality_issue (symbol, market, contract, interval, ts, check_name, outcome, detail, bar,"
        " source) VALUES ('B', 'spot', '', '1d', :ts, 'stale prices', 'halted', 'x', '{}', 'files')",
        ts=at(60),
    )
    found = same(market, [at(day) for day in range(20, 100)])
    entered = [row["as_of"] for row in found["decision"] if row["plan"]]
    assert min(entered) < at(60)
    assert max(entered) < at(60)
    with market.hub.engine.connect() as conn:
        marks = conn.exec_driver_sql(
            "SELECT m.gross, (SELECT sum(t.qty) FROM trading.trade t WHERE t.book = m.book AND t.entry_at <= m.as_of"
            " AND coalesce(t.exit_at, 'infinity') > m.as_of) AS qty FROM trading.mark m WHERE m.book = 'bt-memory'"
        ).all()
    open_ones = [(gross, qty) for gross, qty in marks if qty]
    assert open_ones
    assert all(gross == qty * 500 for gross, qty in open_ones)
    with market.hub.engine.connect() as conn:
        told = warnings._trading(conn, market.settings, {"book": "bt-memory", "since": at(20), "until": at(DAYS)})
        assert ("no_borrowing_cost", None, "short spot positions pay no borrowing cost: PAIR") in list(told)


def test_the_fee_of_a_spread_is_what_its_legs_cost_bought_and_sold():
    tables = {"SALES": {"sell": "50 bps"}}
    broker = PaperBroker.model_validate(
        {"cash": "1", "currency": "EUR", "fees": {"A": "10 bps", "B": "SALES"}, "tables": tables}
    )
    day = at(0).date()
    bought, sold = (broker.fee(spread(), side, day) for side in ("BUY", "SELL"))
    assert bought.bps * 500 == 10 * 300 + 50 * 200  # who buys the spread sells B
    assert sold.bps * 500 == 10 * 300
    assert (bought.each, sold.each) == (0, 0)


def test_a_target_position_in_a_spread_is_held_and_its_costs_are_of_both_legs(world):
    market, _ = world
    settings = market.settings
    changes = {"form": "positions", "reward_to_risk": None}
    sizing = {"target_volatility": D("0.2"), "max_cost": D("0.5"), "costs": {"PAIR": D(10)}}
    settings = settings.model_copy(
        update={
            "execution": settings.execution.model_copy(update=changes),
            "sizing": settings.sizing.model_copy(update=sizing),
        }
    )
    found = same(World(market.hub, settings), [at(day) for day in range(60, 90)])
    assert {"ADD", "REDUCE"} & {row["action"] for row in found["decision"]}
    costs = [float(row["gates"]["costs"]["value"]) for row in found["decision"] if "costs" in row["gates"]]
    # 2 x 10 turns x 10 bps of 500 is 10 a year, over an annual deviation of 6 a day or a little more
    assert costs
    assert all(0.05 < value < 0.12 for value in costs)
