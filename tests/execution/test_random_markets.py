"""
A book in a random market, day after day: what must hold at rest holds every day, and a second run changes nothing.
"""

import numpy as np
import pytest

MARKETS = {
    "A": {},
    "B": {"futures": "b", "signal_market": "futures", "trade_market": "futures", "multiplier": "10", "margin": "0.2"},
    "C": {"quote_unit": "0.01", "tick": "0.25", "lot": "10"},
}


@pytest.mark.parametrize("seed", [1, 2])
def test_fills_positions_cash_and_protection_agree_on_every_day(new_world, seed):
    rng = np.random.default_rng(seed)
    world = new_world(
        MARKETS,
        broker={"fee_bps": "2", "slippage_bps": "3"},
        execution={"stop_atr": "1", "reward_to_risk": "1", "max_score_age": 0},
        risk={"daily_loss_limit": "0.5", "max_gross_exposure": "1.2"},
    )
    close = dict.fromkeys(MARKETS, 100.0)
    contract = "H"
    world.roll(None, "H", symbol="B")
    for day in range(1, 40):
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
        world.trade(day)
        world.holds()
        before = world.state()
        world.trade(day)
        assert world.state() == before
    closed = world.sql("SELECT close_reason, count(*) AS n FROM trading.trade WHERE state = 'CLOSED' GROUP BY 1")
    reasons = {row["close_reason"] for row in closed}
    assert {"stop", "target", "reversal"} <= reasons
    exits = world.sql("SELECT FROM trading.trade WHERE exit_qty > entry_qty")
    assert exits == []
