"""Random walks with random scores, written straight into the hub: a market without any edge."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from alphapivot.config.settings import Settings
from alphapivot.frames import Bars, Composites
from alphapivot.hub.tables import backtests, ops
from alphapivot.research.backtest import driver
from alphapivot.runs import RunRef
from tests.execution.conftest import make_settings

FIRST = datetime(2020, 1, 1, tzinfo=UTC)  # a 24/7 calendar: daily bars end at midnight


@dataclass
class Walks:
    """``symbols`` walks of ``days`` bars, and a score for each bar; begins backtests over them."""

    hub: object
    settings: Settings
    days: int
    batch: int = 0

    def instants(self, start: int = 30) -> list[datetime]:
        return [FIRST + timedelta(days=day) for day in range(start, self.days + 1)]

    def begin(self, book: str) -> tuple[RunRef, Settings]:
        """A run whose scope has the scores, and the settings to trade it with."""
        until = FIRST + timedelta(days=self.days)
        run = ops.begin_run(
            self.hub,
            str(uuid.uuid4()),
            kind="backtest",
            scope=book,
            as_of=until,
            config={},
            config_hash="walks",
            code_version="test",
        )
        run = ops.freeze_known_at(self.hub, run)
        backtests.open_(self.hub, run, book, FIRST)
        with ops.batch(self.hub, run, "scores", book, {}) as batch:
            batch.write(Composites, self.scores.assign(scope=book, batch_id=0)[Composites.columns()])
        return run, driver.booked(self.settings, book)

    def trade(self, book: str, instants=None) -> RunRef:
        run, settings = self.begin(book)
        self.go_on(run, settings, instants)
        return run

    def go_on(self, run: RunRef, settings: Settings, instants=None) -> None:
        timer = driver.Timer()
        chosen = self.instants() if instants is None else instants
        driver.trade(self.hub, run, settings, chosen, timer=timer, progress=lambda *_: None)


def configured(symbols: list[str], lag: float = 0, **broker: str) -> Settings:
    return make_settings(
        {s: {"lot": "0.01", "margin": "0.2"} for s in symbols},
        broker={"cash": "10000000", "maintenance_margin": None} | broker,
        execution={"entry_threshold": 60, "reward_to_risk": "1.5"},
        risk={
            "risk_per_trade": "0.0005",
            "max_open_trades": 500,
            "max_notional": "0.02",
            "max_gross_exposure": "100",
            "daily_loss_limit": "0.5",
        },
        feeds={"walk": {"kind": "simulated", "publication_lag": lag}},
    )


@pytest.fixture
def walks(hub):
    """A function (symbols, days, seed) -> Walks on the test's own hub."""

    def made(symbols: int = 5, days: int = 90, seed: int = 0, lag: float = 0, **broker: str) -> Walks:
        names = [f"W{k:03}" for k in range(symbols)]
        world = Walks(hub, configured(names, lag, **broker), days)
        bars = pd.concat([_walk(name, days, seed + k) for k, name in enumerate(names)], ignore_index=True)
        dice = np.random.default_rng(seed)
        score = np.round(dice.uniform(-100, 100, len(bars)), 2).astype(np.float32)
        world.scores = pd.DataFrame(
            {
                "symbol": bars["symbol"],
                "ts": bars["ts"],
                "score": score,
                "raw": score,
                "gate": np.float32(1),
                "veto": pd.array([None] * len(bars), dtype="str"),
                "pillars_used": pd.array(["trend"] * len(bars), dtype="str"),
            }
        )
        run = ops.begin_run(
            hub,
            str(uuid.uuid4()),
            kind="test",
            scope="live",
            as_of=FIRST,
            config={},
            config_hash="walks",
            code_version="test",
        )
        with ops.batch(hub, run, "bars", "bars", {}) as batch:
            batch.write(Bars, bars)
        return world

    return made


def _walk(symbol: str, days: int, seed: int) -> pd.DataFrame:
    """A driftless walk of 20 steps a day; the day's first price is the last one of the day before."""
    dice = np.random.default_rng(seed + 1000)
    steps = dice.normal(0, 0.005, (days, 20))
    path = 100 * np.exp(np.cumsum(steps - 0.5 * 0.005**2).reshape(days, 20))
    opened = np.append(100.0, path[:-1, -1])
    low, high = np.minimum(path.min(axis=1), opened), np.maximum(path.max(axis=1), opened)
    ts = pd.DatetimeIndex([FIRST + timedelta(days=k + 1) for k in range(days)]).as_unit("us")
    frame = pd.DataFrame({"ts": ts, "open": opened, "high": high, "low": low, "close": path[:, -1]})
    frame = frame.assign(
        symbol=symbol,
        market="spot",
        contract="",
        interval="1d",
        volume=1e9,
        open_interest=np.nan,
        source="walk",
    )
    return frame[Bars.columns()].astype({c: Bars.empty()[c].dtype for c in Bars.columns()})
