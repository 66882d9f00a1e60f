"""
Target 8: the screening engine against vectorbt on the same signals and rules, with equal equity, and against
`backtesting` symbol by symbol. vectorbt has its own environment under build/, created on first use.

`backtesting` is timed over a few symbols and scaled up.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alphapivot.research.screen import engine
from alphapivot.research.screen import kernel as k
from bench import _peers

SYMBOLS, DAYS, MINUTES = 500, 2500, 100_000
CASH, FEES, ENTRY, EXIT, REWARD = 1e9, 0.0002, 60.0, 60.0, 3.0
DAY = 86_400_000_000


@dataclass(frozen=True)
class Case:
    """A market (bars by symbols, in ticks) with a score, a stop distance and a size after each bar."""

    open: Any
    high: Any
    low: Any
    close: Any
    score: Any
    distance: Any  # of the stop, in ticks
    size: Any
    tick: float = 0.01


def rows(scale: float) -> Iterator[dict[str, Any]]:
    symbols = max(2, round(SYMBOLS * scale))
    case = random_case(DAYS, symbols)
    market, scores, rules = ours(case)
    spent, result = timed(lambda: engine.simulate(market, scores, rules))
    name = f"backtest core, {symbols} x {DAYS:,}, {result.entered:,} trades"
    try:
        theirs = _peers.ask("vectorbt", **vectorbt_inputs(case), times=3)
    except _peers.Missing as missing:
        yield row("8", f"{name} / vectorbt: {missing}", spent, None, None, ">= 20", scale)
    else:
        again, _ = timed(lambda: engine.simulate(market, scores, rules))  # again, in case the machine was busier before
        spent = min(spent, again)
        agree(result.equity, theirs["value"])
        yield row("8", f"{name} / vectorbt, same equity", spent, float(theirs["seconds"]), None, ">= 20", scale)
    few = 2
    seconds = sum(backtesting(case, s) for s in range(few)) / few * symbols
    yield row("8b", f"{name} / backtesting, symbol by symbol", spent, seconds, None, ">= 20", scale)
    wide = random_case(max(1000, round(MINUTES * scale)), 50)
    inputs = ours(wide)
    spent, result = timed(lambda: engine.simulate(*inputs))
    per = spent / wide.close.size * 1e9
    text = f"backtest core, 50 x {len(wide.close):,} minute bars, {result.entered:,} trades; ns per bar"
    yield row("8c", text, spent, None, per, "<= 200", scale)


def row(
    target: str, name: str, spent: float, yardstick: float | None, ratio: float | None, goal: str, scale: float
) -> dict[str, Any]:
    sign, limit = goal.split()
    value = ratio if ratio is not None else (yardstick / spent if yardstick is not None else None)
    met = value is not None and (value >= float(limit) if sign == ">=" else value <= float(limit))
    numbers = {"ours_s": spent, "yardstick_s": yardstick, "ratio": value}
    return {"target": target, "name": name, **numbers, "goal": goal, "met": met, "scale": scale}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    best, result = np.inf, work()  # the first call loads the compiled code
    for _ in range(3):
        begun = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - begun)
    return best, result


def agree(mine: Any, theirs: Any) -> None:
    """Raises AssertionError unless the equity agrees after every bar, within 1e-9 of it."""
    apart = np.abs(mine / theirs - 1).max()
    if not apart <= 1e-9:
        raise AssertionError(
            f"equity differs from vectorbt's by {apart:.3g} at bar {np.abs(mine / theirs - 1).argmax()}"
        )


def random_case(bars: int, symbols: int, seed: int = 8) -> Case:
    """Random walks with gaps. Bars are on even ticks, stops and targets on odd ones, so that rounding never decides."""
    rng, shape = np.random.default_rng(seed), (bars, symbols)
    close = 20_000 + np.cumsum(rng.integers(-60, 61, shape), axis=0)
    opened = np.vstack([close[:1], close[:-1]]) + np.where(rng.random(shape) < 0.3, rng.integers(-60, 61, shape), 0)
    high = np.maximum(opened, close) + rng.integers(0, 50, shape)
    low = np.minimum(opened, close) - rng.integers(0, 50, shape)
    floor = min(0, int(low.min()) - 10_000)
    prices = [2 * (p - floor) for p in (opened, high, low, close)]
    score = np.where(rng.random(shape) < 0.1, rng.choice([-80.0, 80.0], shape), 0.0)
    distance = 2 * rng.integers(40, 400, shape) + 1
    return Case(*prices, score, distance, rng.integers(1, 20, shape).astype(float))


def of_bars(bars: pd.DataFrame, seed: int, tick: float) -> Case:
    """A Case of one symbol's real bars (open, high, low, close) with random scores; ``tick``: half of the symbol's."""
    rng, n = np.random.default_rng(seed), len(bars)
    prices = [
        np.rint(bars[c].to_numpy() / (2 * tick)).astype(np.int64)[:, None] * 2 for c in ("open", "high", "low", "close")
    ]
    typical = int(np.median(prices[1] - prices[2]))
    score = np.where(rng.random((n, 1)) < 0.2, rng.choice([-80.0, 80.0], (n, 1)), 0.0)
    distance = 2 * rng.integers(typical // 4 + 1, 2 * typical + 2, (n, 1)) + 1
    return Case(*prices, score, distance, rng.integers(1, 9, (n, 1)).astype(float), tick)


def ours(case: Case, reward: float = REWARD) -> tuple[engine.Market, k.Scores, k.Rules]:
    """The screening engine's inputs: quantities from the volume column, stops and targets from the distances."""
    bars, symbols = case.close.shape
    n, code = bars * symbols, np.tile(np.arange(symbols), bars)
    number, ts = np.repeat(np.arange(bars), symbols), np.repeat(np.arange(1, bars + 1) * DAY, symbols)
    flat = [np.ascontiguousarray(p).ravel().astype(np.int64) for p in (case.open, case.high, case.low, case.close)]
    atr = case.distance.ravel() * case.tick
    table = k.Bars(
        code, code, ts - DAY, ts, number, number, np.zeros(n, bool), np.ones(n, bool),
        *flat, atr, np.full(n, np.nan), case.size.ravel(),
        np.zeros(n, np.int64), np.zeros(n, np.int64),
    )  # fmt: skip
    none = np.zeros(0, np.int64)
    events = k.Events(none, none, np.zeros(0, bool), np.zeros(0, bool), np.zeros(0))
    cells = np.arange(n, dtype=np.int32).reshape(bars, symbols)
    fresh = np.zeros((bars, symbols), np.int32)
    line = np.tile(np.arange(symbols, dtype=np.int32), (bars, 1))
    days = np.arange(1, bars + 1)
    seen = k.Seen(
        days * DAY, np.arange(bars + 1) * symbols, days, days[:, None], days[:, None], np.ones((bars, 1)),
        np.full((bars, symbols), -k.NEVER), np.zeros((bars, symbols), np.int8), line, cells, fresh, cells,
        fresh,
    )  # fmt: skip
    zero, one = np.zeros(symbols, np.int64), np.ones(symbols)
    never = np.zeros((symbols, 0), np.int64)
    specs = k.Specs(
        np.full(symbols, case.tick), one, one, one, np.ones(symbols, bool), np.ones(symbols, bool), zero - 1, zero,
        zero, np.full(symbols, np.inf), never, never, np.ones(symbols, bool), np.zeros(symbols, bool),
        zero - 1,
    )  # fmt: skip
    score = case.score.ravel()
    scores = k.Scores(score, score, np.ones(n), np.zeros(n, bool), np.ones(n, np.int64))
    off, nothing = np.inf, np.empty(0)
    rules = k.Rules(
        cash=CASH, entry_threshold=ENTRY, exit_threshold=EXIT, min_gate=0.0, max_score_age=1, stop_atr=1.0,
        reward_to_risk=reward, allow_shorts=True, limit_atr=-1.0, patience=1, confirm=1, on_reversal=True,
        on_veto=False, break_even=0.0, trail=0, trail_atr=0.0, trail_bars=1, parabolic_step=0.02, parabolic_cap=0.2,
        scale_gain=nothing, scale_share=nothing, max_bars=0, target_volatility=0.0, max_volume=1.0,
        size_by_score=False,
        risk_per_trade=1e9, max_open_trades=symbols, max_notional=off, max_gross=off, max_net=off, max_symbol=off,
        max_group=off, max_order_notional=off, price_collar=off, daily_loss=off, max_drawdown=off, stays_halted=False,
        cooldown=0, stops_in_a_row=0, pause=1, slippage=0, fee=np.full((len(one), 1, 2), FEES),
        fee_each=np.zeros((len(one), 1, 2)),
        fee_since=np.full((len(one), 1), -k.NEVER), strict=False,
        settle_after=bars, delist_after=bars, haircut=0,
    )  # fmt: skip
    names = tuple(f"S{s:04}" for s in range(symbols))
    lines = tuple((name, "") for name in names)
    return engine.Market(names, lines, nothing, nothing, table, events, seen, specs), scores, rules


def vectorbt_inputs(case: Case, reward: float = REWARD) -> dict[str, Any]:
    """The same for vectorbt: signals at the bar where they fill, levels as shares of the entry's open."""
    opened = case.open * case.tick
    score, distance, close = (np.vstack([a[:1] * 0, a[:-1]]) for a in (case.score, case.distance, case.close))
    way = np.sign(score)
    stop = (close - way * distance) * case.tick
    target = (close + way * np.floor(distance * reward)) * case.tick
    entered = (np.abs(score) >= ENTRY) & ((opened - stop) * way > 0)  # an open beyond the stop cancels the entry
    size = np.vstack([case.size[:1], case.size[:-1]])
    return {
        **{name: getattr(case, name) * case.tick for name in ("open", "high", "low", "close")},
        "long": entered & (score > 0), "short": entered & (score < 0),
        "long_exit": score < -EXIT, "short_exit": score > EXIT,
        "size": size, "stop": np.where(entered, np.abs(1 - stop / opened), np.nan),
        "target": np.where(entered, np.maximum((target / opened - 1) * way, 0.0), np.nan),
        "fees": FEES, "cash": CASH,
    }  # fmt: skip


def backtesting(case: Case, s: int) -> float:
    """Seconds for one symbol; tests/research/test_screen_peers.py lists the rules that differ."""
    from backtesting import Backtest, Strategy  # noqa: PLC0415 - AGPL, never imported by the product

    score, distance, size = case.score[:, s], case.distance[:, s] * case.tick, case.size[:, s]

    class Signals(Strategy):  # type: ignore[misc]
        def init(self) -> None: ...

        def next(self) -> None:
            i = len(self.data) - 1
            if self.position:
                if (score[i] < -EXIT) if self.position.is_long else (score[i] > EXIT):
                    self.position.close()
            elif abs(score[i]) >= ENTRY:
                way, close = np.sign(score[i]), self.data.Close[-1]
                send = self.buy if way > 0 else self.sell
                send(size=int(size[i]), sl=close - way * distance[i], tp=close + way * REWARD * distance[i])

    prices = {name: getattr(case, name.lower())[:, s] * case.tick for name in ("Open", "High", "Low", "Close")}
    bars = pd.DataFrame(prices, index=pd.date_range("2000-01-01", periods=len(score)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begun = time.perf_counter()
        Backtest(bars, Signals, cash=CASH, commission=FEES).run()
        return time.perf_counter() - begun
