"""
Targets 5, 6 and 7, compute only: indicators against bare TA-Lib calls, pillars against a plain pandas loop. Single
thread, in CPU seconds, so that other load on the machine does not count.

The yardsticks (bench/_plain.py) compute the same numbers, which are checked against ours after warm-up. The markets
have no futures. Pandas is slow: it is timed over a few symbols and scaled up.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import talib

from bench import _plain
from pillars import PILLARS
from pillars.base import Panel, Pillar
from pillars.kit import windows

SYMBOLS, DAYS = 500, 2500
SEVEN = [kind for name, kind in PILLARS.items() if name not in ("relative", "reversion")]  # without weight by default
HLC, C = ("high", "low", "close"), ("close",)
SHARED: tuple[tuple[Any, tuple[str, ...], dict[str, int]], ...] = (
    *((talib.EMA, C, {"timeperiod": n}) for n in (10, 20, 50)),
    *((f, HLC, {"timeperiod": 14}) for f in (talib.ADX, talib.PLUS_DI, talib.MINUS_DI, talib.ATR)),
    (talib.RSI, C, {"timeperiod": 14}),
    (talib.MACD, C, {}),
    (talib.STDDEV, C, {"timeperiod": 20}),
    (talib.MAX, ("high",), {"timeperiod": 20}),
)


def rows(scale: float) -> Iterator[dict[str, Any]]:
    bars = _market(max(2, round(SYMBOLS * scale)))
    for row in itertools.chain(_indicators(bars), _pillars(bars), _minutes(scale)):
        yield {**row, "scale": scale}


def _minutes(scale: float) -> Iterator[dict[str, Any]]:
    """50 symbols x 100,000 minute bars; pandas gets a few thousand bars of two of them."""
    symbols, count = max(2, round(50 * scale)), max(3_000, round(100_000 * min(1.0, 4 * scale)))
    bars = _market(symbols, count, minutes=True)
    few = bars[bars.groupby("symbol").cumcount() < 3_000].iloc[: 2 * 3_000]
    parts = [(0, 3_000), (3_000, 6_000)]
    for p in (kind() for kind in SEVEN):
        ours, loop = _in_turn(partial(windows.score, p, bars, "1m", after=None), _plain_work(p, few, parts), rounds=2)
        name = f"{p.name}, full history, {symbols} x {count:,} minute bars, compute only"
        yield _row(f"6m {p.name}", name, ours, loop * len(bars) / len(few), ">= 12")


def _indicators(bars: pd.DataFrame) -> Iterator[dict[str, Any]]:
    slices, some = _slices(Panel.of(bars))
    # in pieces of the size that windows.score uses
    panels = [panel for panel, _ in windows.expand(bars, 10 * DAYS, "1d")]

    def ours() -> None:
        for panel in panels:
            for f, names, parameters in SHARED:
                panel.each(f, *(getattr(panel, name) for name in names), **parameters)

    def bare() -> None:
        for panel in panels:
            for f, names, parameters in SHARED:
                columns = [getattr(panel, name) for name in names]
                for a, b in itertools.pairwise(panel.bounds.tolist()):
                    f(*(column[a:b] for column in columns), **parameters)

    def looped() -> None:
        for a, b in some:
            _plain.indicators(bars.iloc[a:b])

    spent, talibs, loop = _in_turn(ours, bare, looped)
    loop *= len(slices) / len(some)
    yield _row("5", "11 indicators / TA-Lib's calls alone", spent, talibs, "<= 1.3")
    yield _row("5b", "11 indicators, against the pandas loop", spent, loop, ">= 25")


def _pillars(bars: pd.DataFrame) -> Iterator[dict[str, Any]]:
    slices, some = _slices(Panel.of(bars))
    every = [kind() for kind in SEVEN]
    few = bars.iloc[: some[-1][1]]  # the symbols for pandas: crowding is computed over them alone
    spent = {}
    for p in every:
        score, plain = _work(p, bars), _plain_work(p, few, some)
        if p.directional or len(some) >= p.model_dump().get("crowd_least", 0):
            kind = "score" if p.directional else "gate"
            mine, theirs = _work(p, few)()[kind].to_numpy(float), pd.concat(plain()).to_numpy()
            # pandas seeds its means with the first value, and rounds sums that run on
            warm = np.arange(1000, some[0][1])
            near = 0.011 if p.directional else 0.00011
            alike = np.isclose(mine[warm], theirs[warm].clip(-100, 100), rtol=0, atol=near, equal_nan=True)
            assert alike.mean() > 0.99, (p.name, alike.mean())
        ours, loop = _in_turn(score, plain)
        loop *= len(slices) / len(some)
        spent[p.name] = ours, loop
        yield _row(f"6 {p.name}", f"{p.name}, full history, compute only", ours, loop, ">= 12")
    whole, loop = (sum(times[i] for times in spent.values()) for i in (0, 1))
    yield _row("6c", "seven pillars, full history, compute only", whole, loop, ">= 12")

    scored = bars["ts"].max() - timedelta(hours=1)
    new = [bars[bars["ts"] > windows.window_start(scored, p.history, "1d")] for p in every]

    def newest() -> list[pd.DataFrame]:
        return [windows.score(p, b, "1d", after=scored) for p, b in zip(every, new, strict=True)]

    (one,) = _in_turn(newest)
    yield _row("7c", "seven pillars, one new bar, compute only", one, loop, ">= 25")
    yield _row("7d", "one new bar / full history, compute only", one, whole, "<= 0.10")


def _work(pillar: Pillar, bars: pd.DataFrame) -> Callable[[], pd.DataFrame]:
    return lambda: windows.score(pillar, bars, "1d", after=None)


def _plain_work(pillar: Pillar, bars: pd.DataFrame, some: list[tuple[int, int]]) -> Callable[[], list[pd.Series]]:
    function = getattr(_plain, pillar.name)

    def plain() -> list[pd.Series]:
        together = (_plain.crowding(bars),) if pillar.cross_sectional and len(some) > 1 else ()
        together = together or ((pd.Series(dtype=float),) if pillar.cross_sectional else ())
        return [function(bars.iloc[a:b], *together).round(2 if pillar.directional else 4) for a, b in some]

    return plain


def _slices(panel: Panel) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The row ranges of all symbols, and of the few for pandas."""
    slices = list(itertools.pairwise(panel.bounds.tolist()))
    return slices, slices[: max(2, len(slices) // 100)]


def _row(target: str, name: str, ours: float, yardstick: float, goal: str) -> dict[str, Any]:
    sign, limit = goal.split()
    ratio = yardstick / ours if sign == ">=" else ours / yardstick
    met = ratio >= float(limit) if sign == ">=" else ratio <= float(limit)
    numbers = {"ours_s": ours, "yardstick_s": yardstick, "ratio": ratio}
    return {"target": target, "name": name, **numbers, "goal": goal, "met": met}


def _in_turn(*works: Callable[[], Any], rounds: int = 3) -> list[float]:
    """The best time of each, run in turn so that other load on the machine affects all alike."""
    best = [np.inf] * len(works)
    for _ in range(rounds):
        for i, work in enumerate(works):
            started = time.process_time()
            work()
            best[i] = min(best[i], time.process_time() - started)
    return best


def _market(symbols: int, days: int = DAYS, *, minutes: bool = False) -> pd.DataFrame:
    rng, shape = np.random.default_rng(5), (symbols, days)
    close = 100 * np.exp(np.cumsum(rng.normal(0.0002, 0.012, shape), axis=1))
    open_ = np.concatenate([close[:, :1], close[:, :-1]], axis=1) * np.exp(rng.normal(0, 0.003, shape))
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 0.004, shape)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 0.004, shape)))
    ts = (pd.bdate_range("2012-01-02", periods=days, tz="UTC") + pd.Timedelta(hours=21)).as_unit("us")
    if minutes:  # six hours a session
        ts = (
            ts.tz_convert(None).to_numpy()[: -(-days // 360), None] - np.arange(360)[::-1] * np.timedelta64(1, "m")
        ).ravel()[:days]
        ts = pd.DatetimeIndex(ts).tz_localize("UTC").as_unit("us")
    names = pd.array([f"S{i:04}" for i in range(symbols)], dtype="str").take(np.repeat(np.arange(symbols), days))
    prices = {"open": open_.ravel(), "high": high.ravel(), "low": low.ravel(), "close": close.ravel()}
    fixed = {"market": "spot", "contract": "", "interval": "1m" if minutes else "1d", "source": "bench"}
    when = pd.DatetimeIndex(np.tile(ts.tz_convert(None).to_numpy(), symbols)).tz_localize("UTC")
    bars = pd.DataFrame({"symbol": names, "ts": when, **prices, "open_interest": np.nan}, copy=False)
    bars["volume"] = np.round(1e6 * np.exp(rng.normal(0, 0.4, len(bars))))
    return bars.assign(**fixed).astype(dict.fromkeys(fixed, "str"))
