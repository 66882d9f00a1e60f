"""The screening engine against the paper broker's rules and two other backtesters, on random and on real bars."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphapivot.config import read
from alphapivot.research.screen import engine
from bench import _peers
from bench import core as bench
from tests.brokers import test_fills as fills

SHARED = Path(__file__).parents[3] / "shared" / "data"


def planned(bars, rng, reward=2):
    """A Case of bars with gaps, and its plans: bar -> side, stop and target as Decimal."""
    ticks = [np.rint(bars[c].to_numpy() * 100).astype(np.int64)[:, None] for c in ("Open", "High", "Low", "Close")]
    n = len(bars)
    score = np.where(rng.random((n, 1)) < 0.7, rng.choice([-80.0, 80.0], (n, 1)), 0.0)
    score[0] = 0  # backtesting takes its first decision on the second bar
    case = bench.Case(*ticks, score, rng.integers(20, 200, (n, 1)), np.ones((n, 1)))
    plans = {}
    for i in np.flatnonzero(score[:, 0]):
        way, close, wide = int(np.sign(score[i, 0])), int(ticks[3][i, 0]), int(case.distance[i, 0])
        stop, target = (fills.D(close - way * wide) / 100, fills.D(close + way * reward * wide) / 100)
        plans[int(i)] = ("BUY" if way > 0 else "SELL", stop, target)
    return case, plans


def trades_of(case):
    """(entry bar, exit bar, entry, exit) of each closed trade; for an open beyond the stop only that bar."""
    market, scores, rules = bench.ours(case, reward=2.0)
    found = engine.simulate(market, scores, rules._replace(on_reversal=False, fee=rules.fee * 0)).trades()
    found = found[found["reason"] != ""]
    bar = {ts: i for i, ts in enumerate(market.as_of)}
    rows = []
    for t in found.itertuples():
        if t.reason == "open_beyond_stop":
            i = bar[t.decided_at] + 1
            rows.append((i, i, *[round(float(case.open[i, 0]) / 100, 2)] * 2))
        else:
            rows.append((bar[t.entry_at], bar[t.exit_at], round(t.entry, 2), round(t.exit, 2)))
    return rows


@pytest.mark.filterwarnings("ignore:Some trades remain open:UserWarning")  # the last one, by chance
@pytest.mark.parametrize("seed", range(4))
def test_every_trade_is_that_of_the_fill_rules_and_of_backtesting(seed):
    rng = np.random.default_rng(100 + seed)
    bars = fills.gappy_bars(rng, 2_000)
    case, plans = planned(bars, rng)
    found = trades_of(case)
    assert len(found) >= 300
    assert found == fills.our_trades(bars, plans)
    assert found == fills.their_trades(bars, plans)


def vectorbt(case):
    """vectorbt's equity after each bar, and its number of orders."""
    try:
        found = _peers.ask("vectorbt", **bench.vectorbt_inputs(case), times=0)
    except _peers.Missing as missing:
        pytest.skip(str(missing))
    return found["value"], int(found["orders"])


def compare(case, least):
    result = engine.simulate(*bench.ours(case))
    value, orders = vectorbt(case)
    closed = int(result.trades()["exit"].notna().sum())
    assert orders == result.entered + closed
    assert closed >= least
    assert result.equity == pytest.approx(value, rel=1e-9)
    assert np.abs(np.diff(value)).max() > 0


@pytest.mark.slow
@pytest.mark.timeout(900)  # the peers' environment is made once
class TestVectorbt:
    def test_a_portfolio_of_random_markets_is_worth_the_same_after_every_bar(self):
        compare(bench.random_case(500, 20, seed=1), 300)

    def test_the_daily_index_of_twenty_years_is_worth_the_same_after_every_bar(self):
        path = SHARED / "sp500_index_1999_2018" / "spot_1d.csv"
        if not path.exists():
            pytest.skip(f"{path} is not there")
        compare(bench.of_bars(pd.read_csv(path).rename(columns=str.lower), 2, 0.005), 200)

    def test_two_months_of_minutes_are_worth_the_same_after_every_bar(self):
        path = SHARED / "eurostoxx50_2006" / "futures_1m.csv"
        if not path.exists():
            pytest.skip(f"{path} is not there")
        names = ["date", "time", "open", "high", "low", "close", "volume", "open_interest"]
        compare(bench.of_bars(pd.read_csv(path, names=names, skiprows=1), 3, 0.5), 1_000)

    def test_the_simulated_market_is_worth_the_same_after_every_bar(self):
        compare(bench.of_bars(simulated("SP500"), 4, 0.005), 100)


def simulated(symbol):
    from alphapivot.feeds.base import Request
    from alphapivot.feeds.registry import open_feed

    chosen = read.load(Path(__file__).parents[2] / "demo.ini")
    until = pd.Timestamp("2025-06-01", tz="UTC").to_pydatetime()
    asked = Request(chosen.instruments[symbol], "spot", "1d", None, until)
    return open_feed("simulated", chosen.feeds["simulated"]).fetch([asked]).bars
