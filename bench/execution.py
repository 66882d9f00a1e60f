"""
The executor: decisions for thousands of symbols, and whole runs on the paper broker over many and few symbols.

The number of SQL statements must not grow with the universe, only with the orders sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import event, text

from alphapivot.brokers.base import Account
from alphapivot.clock import SimulatedClock
from alphapivot.config.settings import Settings
from alphapivot.execution.decide.decide import decide
from alphapivot.execution.decide.facts import Facts, Quote, Rules, Score, Standing
from alphapivot.execution.run.engine import trade
from alphapivot.hub import Hub
from alphapivot.runs import RunRef
from bench.hub import fresh_hub

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 40


def rows(scale: float) -> Iterator[dict[str, Any]]:
    """Decisions for 5,000 symbols; a run with 500 open trades and 100 entries against one with 2 open trades."""
    many = max(int(5_000 * scale), 20)
    seconds = decided(many)
    yield row(
        "E1", f"decide for {many:,} symbols, half of them enter", seconds, None, seconds, "<= 1 s", seconds <= 1, scale
    )

    trades, entries = max(int(500 * scale), 4), max(int(100 * scale), 2)
    large, small = executed(trades, entries, many), executed(2, entries, entries + 2)
    name = f"a run: {trades} open trades, {entries} entries, {many:,} symbols / 2 trades, as many entries"
    yield row(
        "E2",
        name,
        large.seconds,
        small.seconds,
        large.seconds / small.seconds,
        "<= 4",
        large.seconds <= 4 * small.seconds,
        scale,
    )
    more = large.statements - small.statements
    yield row(
        "E3",
        f"SQL statements of these two runs ({large.statements} / {small.statements})",
        None,
        None,
        more,
        "<= 2 more",
        more <= 2,
        scale,
    )


def row(
    target: str,
    name: str,
    ours: float | None,
    yardstick: float | None,
    ratio: float,
    goal: str,
    met: bool,
    scale: float,
) -> dict[str, Any]:
    return {
        "target": target,
        "name": name,
        "ours_s": ours,
        "yardstick_s": yardstick,
        "ratio": ratio,
        "goal": goal,
        "met": met,
        "scale": scale,
    }


def settings(symbols: int) -> Settings:
    terms = {
        "spot": "s",
        "signal_market": "spot",
        "trade_market": "spot",
        "currency": "EUR",
        "quote_unit": "1",
        "multiplier": "1",
        "tick": "0.01",
        "lot": "1",
        "margin": "1",
        "tradable": True,
        "calendar": "24/7",
    }
    names = [f"S{i:05}" for i in range(symbols)]
    return Settings(
        runtime={"feed": "none"},
        timeframes={"base": "1d", "weights": {"1d": 1.0}},
        composite={"weights": {"trend": 1.0}},
        execution={
            "book": "paper",
            "strategy": "bench",
            "broker": "paper",
            "entry_threshold": 30,
            "exit_threshold": 10,
            "atr": 5,
            "stop_atr": "2",
            "reward_to_risk": "2",
        },
        risk={
            "risk_per_trade": "0.00001",
            "max_open_trades": 10_000,
            "max_notional": "1",
            "max_gross_exposure": "1000",
            "daily_loss_limit": "0.5",
        },
        feeds={},
        instruments={s: terms | {"symbol": s} for s in names},
        brokers={"paper": {"kind": "paper", "cash": "100000000", "currency": "EUR"}},
        pillars={},
    )


def decided(symbols: int) -> float:
    """Seconds for one as_of."""
    config = settings(symbols)
    account = Account("EUR", *[Decimal(100_000_000)] * 3)
    scores = {
        s: Score(FIRST, 80.0 * (i % 2), 80.0 * (i % 2), 1.0, None, 1, 0) for i, s in enumerate(config.instruments)
    }
    quotes = {s: Quote("", FIRST, Decimal(100), Decimal(2), 0) for s in config.instruments}
    facts = Facts(
        instruments=config.instruments,
        scores=scores,
        quotes=quotes,
        trades={},
        standing=Standing(account, account.equity, "ACTIVE"),
        rules=Rules(config.execution, config.risk),
        fronts=dict.fromkeys(config.instruments, ""),
        fx={"EUR": Decimal(1)},
        now=FIRST,
    )
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        decisions = decide(facts)
        best = min(best, time.perf_counter() - started)
        assert sum(d.action == "ENTER_LONG" for d in decisions) == symbols // 2
    return best


@dataclass
class Executed:
    seconds: float
    statements: int


def executed(trades: int, entries: int, symbols: int) -> Executed:
    """One run that holds ``trades`` open trades and sends ``entries`` new ones, over ``symbols`` instruments."""
    config = settings(symbols)
    names = sorted(config.instruments)
    with fresh_hub() as hub:
        with hub.engine.begin() as conn:
            conn.execute(
                text(
                    "INSERT INTO market.bar SELECT s, 'spot', '', '1d', CAST(:first AS timestamptz) + d *"
                    " interval '1 day',"
                    " 100, 101, 99, 100, 5, NULL, 'bench', clock_timestamp()"
                    " FROM unnest(CAST(:names AS text[])) s, generate_series(1, :days) d"
                ),
                {"first": FIRST, "names": names, "days": DAYS},
            )
        if trades:
            scored(hub, names[:trades], DAYS - 2)
        run(hub, config, DAYS - 2)  # without trades too, so that both are equally warm
        run(hub, config, DAYS - 1)
        scored(hub, names[:trades], DAYS)
        scored(hub, names[trades : trades + entries], DAYS)
        seen: list[str] = []
        event.listen(hub.engine, "before_cursor_execute", lambda *a: seen.append(a[2]))
        started = time.perf_counter()
        report = run(hub, config, DAYS)
        seconds = time.perf_counter() - started
        assert len(report.sent) == entries
        assert sum(d.trade is not None for d in report.decisions) == trades
        return Executed(seconds, len(seen))


def scored(hub: Hub, names: list[str], day: int) -> None:
    with hub.engine.begin() as conn:
        conn.execute(
            text(
                "WITH s AS (INSERT INTO signals.composite_series (scope, symbol)"
                " SELECT 'live', unnest(CAST(:names AS text[])) ON CONFLICT (scope, symbol)"
                " DO UPDATE SET symbol = excluded.symbol RETURNING series_id)"
                " INSERT INTO signals.composite_row SELECT series_id, :ts, 50, 50, 1, NULL, 'trend', 1 FROM s"
            ),
            {"names": names, "ts": FIRST + timedelta(days=day)},
        )


def run(hub: Hub, config: Settings, day: int) -> Any:
    as_of = FIRST + timedelta(days=day)
    return trade(hub, RunRef(f"bench-{day}", "live", as_of, None, ""), config, SimulatedClock(as_of))
