"""
A book in a random market, day after day: what must hold at rest holds every day, and a second run changes nothing.
"""

import re
from decimal import Decimal

import numpy as np
import pytest

from alphapivot.config.sections.trading import ExitSettings, SizingSettings

MARKETS = {
    "A": {},
    "B": {"futures": "b", "signal_market": "futures", "trade_market": "futures", "multiplier": "10", "margin": "0.2"},
    "C": {"quote_unit": "0.01", "tick": "0.25", "lot": "10"},
}


def lived(world, rng, days=40, each_day=lambda _: None):
    """Random days, each with a run that is repeated; ``each_day``: called with the report of each run."""
    close = dict.fromkeys(MARKETS, 100.0)
    contract = "H"
    world.roll(None, "H", symbol="B")
    for day in range(1, days):
        if day == 28:
            contract = "M"
            world.roll(day, "M", "H", symbol="B")
        for symbol in MARKETS:
            if rng.random() < 0.05 and day > 20:
                continue  # a day without a bar
            o = round(close[symbol] + rng.normal(0, 1.5), 2)
            c = round(o + rng.normal(0, 1.5), 2)
            high, low = round(max(o, c) + rng.random(), 2), round(min(o, c) - rng.random(), 2)
            close[symbol] = c
            futures = symbol == "B"
            for name in {"H", contract} if futures else {""}:
                world.bar(day, o, high, low, c, symbol=symbol, market="futures" if futures else "spot", contract=name)
        if day < 15:
            continue
        for symbol in MARKETS:
            world.score(day, round(float(rng.uniform(-70, 70)), 2), symbol=symbol)
        report = world.trade(day)
        world.holds()
        before = world.state()
        world.trade(day)
        assert world.state() == before
        each_day(report)
    exits = world.sql("SELECT FROM trading.trade WHERE exit_qty > entry_qty")
    assert exits == []


@pytest.mark.parametrize("seed", [1, 2])
def test_fills_positions_cash_and_protection_agree_on_every_day(new_world, seed):
    world = new_world(
        MARKETS,
        broker={"fee_bps": "2", "slippage_bps": "3"},
        execution={"stop_atr": "1", "reward_to_risk": "1", "max_score_age": 0},
        risk={"daily_loss_limit": "0.5", "max_gross_exposure": "1.2"},
    )
    lived(world, np.random.default_rng(seed))
    closed = world.sql("SELECT close_reason, count(*) AS n FROM trading.trade WHERE state = 'CLOSED' GROUP BY 1")
    reasons = {row["close_reason"] for row in closed}
    assert {"stop", "target", "reversal"} <= reasons


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_position_is_within_its_band_after_its_orders_and_its_stop_is_of_all_of_it(new_world, seed):
    world = new_world(
        MARKETS,
        broker={"fee_bps": "2", "slippage_bps": "3"},
        execution={"form": "positions", "reward_to_risk": "off", "stop_atr": "3", "max_score_age": 0},
        risk={"daily_loss_limit": "0.9", "max_gross_exposure": "4", "risk_per_trade": "0.1", "max_notional": "2"},
    )
    sizing = SizingSettings(target_volatility="0.6", volatility_bars=10, buffer="0.1")
    exits = ExitSettings(roll=True, trail_atr="3" if seed == 2 else None)
    world.settings = world.settings.model_copy(update={"sizing": sizing, "exit": exits})
    expected, actions = {}, set()

    def each_day(report):
        """What was decided the day before has been done, unless a stop, a roll or a day without a bar came between."""
        theirs = world.sql(
            "SELECT symbol, sum(p.qty) AS held, sum(abs(p.qty)) AS size FROM paper.position p GROUP BY symbol"
        )
        held = {row["symbol"]: row["held"] for row in theirs}
        stops = world.sql(
            "SELECT symbol, sum(qty) AS qty FROM paper.orders WHERE leg = 'STOP' AND state = 'WORKING' GROUP BY 1"
        )
        assert {row["symbol"]: row["qty"] for row in stops} == {r["symbol"]: r["size"] for r in theirs if r["held"]}
        traded = {row["symbol"] for row in world.sql("SELECT symbol FROM trading.fill WHERE ts = :t", t=report.as_of)}
        stopped = {
            row["symbol"]
            for row in world.sql(
                "SELECT symbol FROM trading.orders WHERE leg = 'STOP' AND cum_qty > 0 AND updated_at = :t",
                t=report.as_of,
            )
        }
        for symbol, (before, qty) in expected.items():
            if symbol not in stopped and (symbol in traded or before == qty):
                assert held.get(symbol, 0) == qty, (symbol, report.as_of)
        expected.clear()
        for d in report.decisions:
            actions.add(d.action)
            now = held.get(d.symbol, Decimal(0))
            sign = 0 if d.plan is None else 1 if d.plan.side == "LONG" else -1
            if d.action in ("ENTER_LONG", "ENTER_SHORT", "ADD"):
                expected[d.symbol] = now, now + sign * d.plan.qty
            elif d.action == "REDUCE":
                expected[d.symbol] = now, now - (1 if now > 0 else -1) * d.qty
            elif d.action == "EXIT":
                expected[d.symbol] = now, Decimal(0)
            elif d.trade is None or not (d.trade.exiting or d.trade.coming or d.trade.state == "PENDING"):
                expected[d.symbol] = now, now
            if "target" in d.gates and d.action in ("ENTER_LONG", "ENTER_SHORT", "ADD", "REDUCE"):
                low, high = map(Decimal, re.findall(r"-?[\d.]+", d.gates["target"].limit.replace("0 is not", ""))[:2])
                after = expected[d.symbol][1]
                assert low <= after <= high or (d.plan is not None and d.plan.capped_by != "target"), d

    lived(world, np.random.default_rng(seed), each_day=each_day)
    assert {"ENTER_LONG", "ENTER_SHORT", "ADD", "REDUCE", "EXIT"} <= actions
