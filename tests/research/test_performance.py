"""Figures of a book, worked by hand; those of its returns: tests/test_figures.py."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from alphapivot.reports import performance

D = Decimal
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
    trades, fills = no_trades() if trades is None else trades, no_fills() if fills is None else fills
    return performance.of(days, trades, fills, money, 365)


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


def test_bands_of_chance_are_of_the_days_returns_and_of_the_closed_trades_results():
    equity = [100 * 1.001**day for day in range(101)]
    trades = pd.DataFrame(
        {"closed": [True] * 10 + [False], "result": [D(-2)] * 10 + [D(99)], "r": 0.0, "days_held": 1.0, "mae": 0.0}
    ).assign(mfe=0.0)
    found = figures(performance.daily(marks(equity)), trades)
    assert found["resampled_low"] == pytest.approx(1.001**100 - 1)  # all days are the same
    assert (found["resampled_drawdown"], found["reshuffled_drawdown"]) == (0, pytest.approx(-0.2))


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


def test_the_best_week_of_a_weekly_book_is_called_that():
    labels = {year: performance.definitions(year)["best_day"].label for year in (252, 365.25 / 7, 365.25 / 3)}
    assert list(labels.values()) == ["Best day", "Best week", "Best period"]
    assert not [d for d in performance.definitions(52.2).values() if "{" in d.label + d.text or " day's" in d.text]
