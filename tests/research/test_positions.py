"""Positions that follow scores, in `alphapivot backtest`: worked by hand, and equal to runs one by one."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from alphapivot import cli
from alphapivot import hub as hubs
from alphapivot.cli import demo
from alphapivot.config import plugins
from tasks.local import replay
from tests.research.test_backtest import IDLE, did, made, reasons, small

__all__ = ["small"]  # a fixture
D = Decimal
CONFIG = """
[runtime]
feed = files
shards = 1

[feed.files]
kind = files
root = prices
zone = UTC
stamp = date

[instrument.X]
futures = X_*.csv
signal_market = futures
trade_market = futures
currency = USD
quote_unit = 1
multiplier = 1
tick = 0.01
lot = 1
margin = 0.1
tradable = yes
calendar = 24/7
roll = calendar
roll_calendar = rolls.csv: DATE + next

[timeframes]
base = 1d
weights = 1d: 1

[plugins]
folder = mine

[pillar.told]

[composite]
weights = told: 1

[execution]
book = hand
broker = paper
form = positions
atr = 5
stop_atr = 2
reward_to_risk = off

[exit]
roll = yes

[sizing]
target_volatility = 0.02
volatility_bars = 10

[risk]
risk_per_trade = 0.01
max_open_trades = 8
max_notional = 0.5
max_gross_exposure = 3
daily_loss_limit = 0.05

[broker.paper]
kind = paper
cash = 100000
currency = USD
fee_per_contract = 1
"""
TOLD = '''
from typing import ClassVar
from pillars.base import Panel, Parts, Pillar


class Told(Pillar):
    """Says what a bar's high says: a thousandth of a point above close + 1 for each point of score."""

    name: ClassVar[str] = "told"

    @property
    def history(self) -> int:
        return 1

    def parts(self, bars: Panel) -> Parts:
        return Parts(parts={"told": 1000 * (bars.high - bars.close - 1)}, features={})
'''
SCORES = {20: 30, 21: 45, 22: 45, 23: 45, 24: 45, 25: 30, 26: -30, 27: -30, 28: -30, 29: -30, 30: -30}


def day(n: int) -> date:
    return date(2024, 1, 1) + timedelta(days=n - 1)


@pytest.fixture
def backtested(tmp_path, hub_url, monkeypatch, capsys):
    """`alphapivot backtest` over 30 days of two contracts; returns what it printed and a query of its book."""
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    for folder in ("prices", "mine"):
        (tmp_path / folder).mkdir()
    (tmp_path / "config.ini").write_text(CONFIG)
    (tmp_path / "mine" / "told.py").write_text(TOLD)
    for contract, apart in (("H24", 0), ("M24", 3)):
        rows = ["ts,open,high,low,close,volume"]
        for n in range(1, 31):
            close = 100 + n % 2 + apart
            rows.append(f"{day(n)},{close},{close + 1 + SCORES.get(n, 0) / 1000:.3f},{close - 1},{close},1000")
        (tmp_path / "prices" / f"X_{contract}.csv").write_text("\n".join(rows))
    (tmp_path / "prices" / "rolls.csv").write_text(f"DATE,next\n{day(24)},X_M24\n")
    config = ["--config", str(tmp_path / "config.ini")]
    assert cli.main(["ingest", "--from", "2024-01-01", "--to", "2024-02-01", *config]) == 0
    period = ["--from", "2024-01-02", "--to", f"{day(31)}"]
    assert cli.main(["backtest", *period, "--book", "hand", *config]) == 0
    printed = " ".join(capsys.readouterr().out.split())

    def query(sql):
        with hubs.connect().engine.connect() as conn:
            return [tuple(row) for row in conn.execute(text(sql), {"b": "bt-hand"})]

    yield printed, query
    plugins.load(None, ())


def test_a_position_grows_shrinks_rolls_and_reverses_as_by_hand(backtested):
    printed, query = backtested
    assert "decided at every instant, as the kernel leaves out [execution] form = positions, [exit] roll" in printed
    acted = query(
        "SELECT extract(day FROM as_of - interval '1 day')::int, action, array_to_string(reasons, ', '),"
        " (plan ->> 'qty')::numeric FROM trading.decision WHERE book = :b AND action NOT IN ('HOLD', 'NONE', 'DENIED')"
        " ORDER BY as_of"
    )
    # 2 % of 100,000 over sqrt(10 / 9 x 365) is 99.31, give or take 9.93, at a score of 30; equity moves it little
    assert acted == [
        (20, "ENTER_LONG", "target_beyond_buffer", 89),
        (21, "ADD", "target_larger", 50),
        (23, "ROLL", "contract_rolled", 139),
        (25, "REDUCE", "target_smaller", None),
        (26, "EXIT", "target_gone", None),
        (27, "ENTER_SHORT", "target_beyond_buffer", 89),
    ]
    fills = query(
        "SELECT extract(day FROM f.ts - interval '1 day')::int, o.contract, o.leg, o.version, f.side, f.qty, f.price"
        " FROM trading.fill f JOIN trading.orders o USING (client_order_id) WHERE f.book = :b ORDER BY f.ts, o.contract"
    )
    assert fills == [
        (21, "X_H24", "ENTRY", 1, "BUY", 89, 101),
        (22, "X_H24", "ENTRY", 2, "BUY", 50, 100),
        (24, "X_H24", "EXIT", 1, "SELL", 139, 100),
        (24, "X_M24", "ENTRY", 1, "BUY", 139, 103),
        (26, "X_M24", "EXIT", 1, "SELL", 30, 103),
        (27, "X_M24", "EXIT", 2, "SELL", 109, 104),
        (28, "X_M24", "ENTRY", 1, "SELL", 89, 103),
    ]
    trades = query(
        "SELECT contract, side, state, entry_qty, exit_qty, round(entry_price, 6), realised, close_reason"
        " FROM trading.trade WHERE book = :b ORDER BY trade_id"
    )
    bought = D(89 * 101 + 50 * 100)
    assert trades == [
        # 1 for each contract and fill
        ("X_H24", "LONG", "CLOSED", 139, 139, round(bought / 139, 6), 139 * 100 - bought - 2 * 139, "roll"),
        ("X_M24", "LONG", "CLOSED", 139, 139, 103, 109 * 1 - 2 * 139, "target_gone"),
        ("X_M24", "SHORT", "OPEN", 89, 0, 103, None, None),
    ]
    ((cash,),) = query("SELECT cash FROM paper.account WHERE book = :b")
    assert cash == 100_000 + sum(t[6] for t in trades[:2]) - 89
    stops = query("SELECT contract, qty, price FROM trading.orders WHERE book = :b AND leg = 'STOP' AND state = 'NEW'")
    assert [(contract, qty) for contract, qty, _ in stops] == [("X_M24", 89)]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sessions", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_a_backtest_of_positions_does_what_runs_one_by_one_did(small, sessions):
    settings = small(
        execution__form="positions",
        execution__reward_to_risk="off",
        execution__entry_threshold="40",
        execution__exit_threshold="10",
        exit__roll="yes",
        sizing__target_volatility="0.2",
    )
    instants = demo.closes(settings, sessions)
    for instant in instants:
        replay.session(settings, instant)
    live, after = did(settings.execution.book), did(made(settings, instants).book)
    idle = [d for d in live["decision"] if reasons(d) <= IDLE | {"within_buffer"} and d not in after["decision"]]
    assert after["decision"] == [d for d in live["decision"] if d not in idle]
    assert {name: rows for name, rows in after.items() if name != "decision"} == {
        name: rows for name, rows in live.items() if name != "decision"
    }
    assert {d[3] for d in after["decision"]} >= {"ADD", "REDUCE"}
