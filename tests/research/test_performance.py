"""Figures of a book: worked by hand, and the same as empyrical's over random returns."""

from __future__ import annotations

import importlib.util
import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphapivot.reports import performance

D = Decimal
_spec = importlib.util.spec_from_file_location("empyrical_oracle", Path(__file__).with_name("empyrical_oracle.py"))
oracle = importlib.util.module_from_spec(_spec)  # importlib mode knows no package to import it from
_spec.loader.exec_module(oracle)
START = datetime(2026, 1, 1, 22, tzinfo=UTC)


def marks(equity, *, start=START, days=None, gross=None):
    days = range(len(equity)) if days is None else days
    return pd.DataFrame(
        {
            "as_of": pd.DatetimeIndex([start + timedelta(days=d) for d in days]),
            "equity": [D(str(e)) for e in equity],
            "gross": gross or [D(0)] * len(equity),
            "net": gross or [D(0)] * len(equity),
            "open_trades": [int(bool(g)) for g in gross or [0] * len(equity)],
        }
    )


def no_trades():
    return pd.DataFrame(columns=["closed", "result", "r", "days_held", "mae", "mfe"])


def no_fills():
    return pd.DataFrame(columns=["notional", "commission", "slippage", "delay"])


def figures(days, trades=None, fills=None):
    money = {"net": D(0), "carry": D(0)}
    return performance.figures(
        days, no_trades() if trades is None else trades, no_fills() if fills is None else fills, money
    )


@pytest.mark.parametrize("number", range(len(oracle.CASES)))
def test_figures_agree_with_empyrical(number):
    theirs, own = json.loads(oracle.FILE.read_text())[number], oracle.returns(*oracle.CASES[number])
    days = pd.DatetimeIndex([own.index[0] - pd.Timedelta(days=1), *own.index])
    equity = 100_000 * np.concatenate([[1.0], np.cumprod(1 + own.to_numpy())])
    table = performance.daily(marks(equity).assign(as_of=days.tz_localize("UTC") + pd.Timedelta(hours=22)))
    found = figures(table)
    assert {name: found[name] for name in theirs["figures"]} == pytest.approx(theirs["figures"], rel=1e-9)
    months = performance.monthly(table).to_numpy().ravel()  # row by row, hence in the order of time
    np.testing.assert_allclose(months[~np.isnan(months)], theirs["months"], rtol=1e-9)
    assert performance.ROLLING == oracle.WINDOW
    np.testing.assert_allclose(performance.rolling_sharpe(table).dropna().iloc[::30], theirs["rolling"], rtol=1e-7)


def test_deposits_are_no_profit_and_midnight_belongs_to_the_day_that_ends():
    frame = marks([1000, 1100, 1650, 1650], start=datetime(2026, 1, 2, tzinfo=UTC))
    days = performance.daily(frame, [(START, D(77)), (datetime(2026, 1, 3, 12, tzinfo=UTC), D(440))])
    assert [d.isoformat()[:10] for d in days.index] == ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
    assert days["flow"].tolist() == [0, 0, 440, 0]  # what came before the first mark is part of it
    assert days["ret"].tolist()[1:] == pytest.approx([0.1, 0.1, 0.0])
    assert days["growth"].iloc[-1] == pytest.approx(1.21)


def test_the_last_of_several_marks_of_a_day_counts():
    frame = marks([1000, 5, 1100])
    frame["as_of"] = pd.DatetimeIndex([START, START + timedelta(hours=20), START + timedelta(hours=24)])
    assert performance.daily(frame)["equity"].tolist() == [1000, 1100]


def test_a_drawdown_lasts_from_its_high_until_that_is_reached_again():
    days = performance.daily(marks([100, 110, 99, 104.5, 110, 108.9], days=[0, 1, 2, 5, 9, 12]))
    found = figures(days)
    assert found["max_drawdown"] == pytest.approx(-0.1)
    assert found["drawdown"] == pytest.approx(-0.01)
    assert found["drawdown_days"] == 8  # from day 1 to day 9
    never = performance.daily(marks([100, 110, 99, 104], days=[0, 1, 2, 30]))
    assert performance.longest_drawdown(never["drawdown"]) == 29
    assert performance.longest_drawdown(performance.daily(marks([1, 2, 3]))["drawdown"]) == 0


def test_losing_everything_ends_the_returns():
    days = performance.daily(marks([100, 50, -10, 20, 40, 50, 60]))
    found = figures(days)
    assert (found["total_return"], found["cagr"], found["max_drawdown"]) == (-1.0, -1.0, -1.0)
    assert days["ret"].isna().tolist() == [True, False, False, True, False, False, False]
    assert (days["growth"].iloc[2:] == 0).all()


@pytest.mark.parametrize("equity", [[100], [100, 100], [100, 101, 100]])
def test_what_cannot_be_known_is_none_not_zero(equity):
    found = figures(performance.daily(marks(equity)))
    for name in ("sharpe", "sortino", "volatility", "sharpe_error", "hit_rate", "profit_factor", "expectancy_r", "mae"):
        assert found[name] is None, name
    assert found["trades"] == found["commission"] == 0


def test_a_flat_book_has_no_sharpe_and_no_calmar():
    found = figures(performance.daily(marks([100] * 10)))
    assert (found["volatility"], found["sharpe"], found["sortino"], found["calmar"]) == (0, None, None, None)


def test_the_standard_error_of_a_sharpe_ratio_is_los():
    equity = [100, 101, 100.5, 102, 101, 103, 102]
    days = performance.daily(marks(equity))
    r = days["ret"].dropna()
    daily = r.mean() / r.std()
    assert figures(days)["sharpe_error"] == pytest.approx(math.sqrt((1 + daily**2 / 2) / 6) * math.sqrt(365))


def test_trades_worked_by_hand():
    trades = pd.DataFrame(
        {
            "closed": [True, True, True, True, False],
            "result": [D(300), D(-100), D(100), D(-200), D(999)],
            "r": [3.0, -1.0, 1.0, -2.0, 9.0],
            "days_held": [1.0, 2.0, 3.0, 6.0, 50.0],
            "mae": [0.5, 1.0, 0.1, 2.0, 7.0],
            "mfe": [3.0, 0.2, 1.0, 0.0, 7.0],
        }
    )
    found = figures(performance.daily(marks([100, 101])), trades)
    expected = {
        "trades": 4,
        "open": 1,
        "hit_rate": 0.5,
        "profit_factor": 400 / 300,
        "average_win": 200,
        "average_loss": -150,
        "expectancy": 25,
        "expectancy_r": 0.25,
        "days_held": 3,
        "mae": 0.9,
        "mfe": 1.05,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    winners = trades[trades["result"] > 0]
    assert figures(performance.daily(marks([100, 101])), winners)["profit_factor"] is None


def test_exposure_and_turnover_worked_by_hand():
    days = performance.daily(marks([100, 100, 100, 200, 200], gross=[D(0), D(50), D(150), D(100), D(0)]))
    fills = pd.DataFrame(
        {"notional": [D(700), D(700)], "commission": [D(1)] * 2, "slippage": [D(2)] * 2, "delay": [D(0)] * 2}
    )
    found = figures(days, fills=fills)
    assert found["time_in"] == pytest.approx(0.6)
    assert found["gross"] == pytest.approx((0.5 + 1.5 + 0.5) / 5)
    assert found["max_gross"] == pytest.approx(1.5)
    assert found["turnover"] == pytest.approx(1400 / 140 / (4 / 365))
    assert (found["commission"], found["slippage"]) == (2, 4)


def test_excursions_are_counted_in_what_was_risked_for_either_side():
    trades = pd.DataFrame(
        {
            "trade_id": [1, 2, 3, 4],
            "side": ["LONG", "SHORT", "LONG", "LONG"],
            "entry_price": [D(100), D(100), D(100), D(100)],
            "exit_price": [D(108), D(104), None, D(96)],
            "risk": [D(4), D(4), D(4), D(4)],
        }
    )
    bars = pd.DataFrame(
        [(1, 101, 98, 100), (1, 106, 99, 105), (2, 103, 94, 95), (3, 101, 99, 100), (3, np.nan, np.nan, 102)],
        columns=["trade_id", "high", "low", "close"],
    )
    found = performance.excursions(trades, bars)
    # the exit's own price counts where it lies beyond all bars; a trade that left in its entry's bar has no other
    assert found["mae"].tolist() == [0.5, 1.0, 0.25, 1.0]
    assert found["mfe"].tolist() == [2.0, 1.5, 0.5, 0.0]


def test_a_pillars_part_is_its_share_of_the_score_and_parts_sum_to_the_result_exactly():
    results = {1: D("100"), 2: D("-10.000001"), 3: D("7")}
    votes = {1: {"trend": 30.0, "flow": 20.0, "momentum": -10.0}, 2: {"trend": 1.0, "flow": 1.0, "momentum": 1.0}}
    parts = performance.by_pillar(results, votes)
    assert parts[1] == {"trend": D("75"), "flow": D("50"), "momentum": D("-25")}
    assert parts[2]["flow"] == D("-3.333334")
    assert parts[3] == {"unknown": D("7")}
    assert {trade: sum(own.values()) for trade, own in parts.items()} == results


def test_a_futures_market_that_is_held_earns_its_adjusted_change_over_the_raw_price_paid():
    ts = pd.date_range("2026-01-01 22:00", periods=4, freq="D", tz="UTC")
    closes = pd.DataFrame(
        {"symbol": "A", "ts": ts, "close": [90.0, 80.0, 84.0, 88.0], "offset": [-20.0] * 4}
    )  # raw 110, 100, 104, 108
    found = performance.held(closes, ts[1] + pd.Timedelta(hours=3), ts[3])
    assert found["A"].tolist() == pytest.approx([1.0, 1.04, 1.08])


def test_every_figure_has_its_definition():
    assert set(figures(performance.daily(marks([100, 101])))) == set(performance.DEFINITIONS)
    for definition in performance.DEFINITIONS.values():
        assert definition.text.endswith(".")
