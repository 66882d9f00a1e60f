"""
Targets 5, 6 and 7, their compute parts: indicators against TA-Lib's own time, pillars against the plain pandas loop.

The yardsticks compute the same numbers, and are checked against ours once warmed up; only trend and momentum exist yet.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import talib

from pillars import blocks
from pillars.base import Panel
from pillars.momentum import Momentum
from pillars.trend import Trend

SYMBOLS, DAYS = 500, 2500
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
    for row in (*_indicators(bars), *_pillars(bars)):
        yield {**row, "scale": scale}


def _indicators(bars: pd.DataFrame) -> Iterator[dict[str, Any]]:
    slices, some = _slices(Panel.of(bars))
    # in pieces of the size that blocks.score works in
    panels = [panel for panel, _ in blocks.expand(bars, 10 * DAYS, "1d")]

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
            _pandas_indicators(bars.iloc[a:b])

    spent, talibs, loop = _in_turn(ours, bare, looped)
    loop *= len(slices) / len(some)
    yield _row("5", "11 indicators / TA-Lib's calls alone", spent, talibs, "<= 1.3")
    yield _row("5b", "11 indicators, against the pandas loop", spent, loop, ">= 25")


def _pillars(bars: pd.DataFrame) -> Iterator[dict[str, Any]]:
    slices, some = _slices(Panel.of(bars))
    pillars, scored = (Trend(), Momentum()), bars["ts"].max() - timedelta(hours=1)
    new = [bars[bars["ts"] > blocks.window_start(scored, p.history, "1d")] for p in pillars]

    def full() -> list[pd.DataFrame]:
        return [blocks.score(p, bars, "1d", after=None) for p in pillars]

    def newest() -> list[pd.DataFrame]:
        return [blocks.score(p, b, "1d", after=scored) for p, b in zip(pillars, new, strict=True)]

    def plain() -> list[pd.DataFrame]:
        frames = [_pandas_scores(bars.iloc[a:b]) for a, b in some]
        return [pd.concat(column) for column in zip(*frames, strict=True)]

    for mine, theirs in zip(full(), plain(), strict=True):
        # pandas seeds its means with the first value: alike once that is forgotten
        warm = slice(1000, some[0][1])
        np.testing.assert_allclose(mine["score"].to_numpy()[warm], theirs["score"].to_numpy()[warm], atol=0.011)
    whole, one, loop = _in_turn(full, newest, plain)
    loop *= len(slices) / len(some)
    yield _row("6c", "trend and momentum, full history, compute only", whole, loop, ">= 12")
    yield _row("7c", "trend and momentum, one new bar, compute only", one, loop, ">= 25")
    yield _row("7d", "one new bar / full history, compute only", one, whole, "<= 0.10")


def _slices(panel: Panel) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """All symbols' rows; and a twentieth of them, for pandas is slow: its time is scaled up."""
    slices = list(itertools.pairwise(panel.bounds.tolist()))
    return slices, slices[: max(1, len(slices) // 20)]


def _row(target: str, name: str, ours: float, yardstick: float, goal: str) -> dict[str, Any]:
    sign, limit = goal.split()
    ratio = yardstick / ours if sign == ">=" else ours / yardstick
    met = ratio >= float(limit) if sign == ">=" else ratio <= float(limit)
    numbers = {"ours_s": ours, "yardstick_s": yardstick, "ratio": ratio}
    return {"target": target, "name": name, **numbers, "goal": goal, "met": met}


def _in_turn(*works: Callable[[], Any]) -> list[float]:
    """The best time of each, run in turn so that what the machine does besides hits all alike."""
    best = [np.inf] * len(works)
    for _ in range(3):
        for i, work in enumerate(works):
            started = time.perf_counter()
            work()
            best[i] = min(best[i], time.perf_counter() - started)
    return best


def _market(symbols: int) -> pd.DataFrame:
    rng, shape = np.random.default_rng(5), (symbols, DAYS)
    close = 100 * np.exp(np.cumsum(rng.normal(0.0002, 0.012, shape), axis=1))
    open_ = np.concatenate([close[:, :1], close[:, :-1]], axis=1) * np.exp(rng.normal(0, 0.003, shape))
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 0.004, shape)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 0.004, shape)))
    ts = (pd.bdate_range("2012-01-02", periods=DAYS, tz="UTC") + pd.Timedelta(hours=21)).as_unit("us")
    names = pd.array([f"S{i:04}" for i in range(symbols)], dtype="str").take(np.repeat(np.arange(symbols), DAYS))
    prices = {"open": open_.ravel(), "high": high.ravel(), "low": low.ravel(), "close": close.ravel()}
    fixed = {"market": "spot", "contract": "", "interval": "1d", "source": "bench"}
    when = pd.DatetimeIndex(np.tile(ts.tz_convert(None).to_numpy(), symbols)).tz_localize("UTC")
    bars = pd.DataFrame({"symbol": names, "ts": when, **prices, "volume": 1e6, "open_interest": np.nan}, copy=False)
    return bars.assign(**fixed).astype(dict.fromkeys(fixed, "str"))


def _ema(values: pd.Series, n: int) -> pd.Series:
    return values.ewm(span=n, adjust=False, min_periods=n).mean()


def _wilder(values: pd.Series, n: int) -> pd.Series:
    return values.ewm(alpha=1 / n, adjust=False, min_periods=n).mean()


def _atr(bars: pd.DataFrame, n: int) -> pd.Series:
    high, low, before = bars["high"], bars["low"], bars["close"].shift()
    ranges = pd.concat([high - low, (high - before).abs(), (low - before).abs()], axis=1)
    return _wilder(ranges.max(axis=1), n)


def _di(bars: pd.DataFrame, n: int, *, plus: bool) -> pd.Series:
    moves = bars["high"].diff(), -bars["low"].diff()
    move, other = moves if plus else moves[::-1]
    return 100 * _wilder(move.where((move > other) & (move > 0), 0.0), n) / _atr(bars, n)


def _adx(bars: pd.DataFrame, n: int) -> pd.Series:
    plus, minus = _di(bars, n, plus=True), _di(bars, n, plus=False)
    return _wilder(100 * (plus - minus).abs() / (plus + minus), n)


def _rsi(bars: pd.DataFrame, n: int) -> pd.Series:
    change = bars["close"].diff()
    gain, loss = _wilder(change.clip(lower=0), n), _wilder(-change.clip(upper=0), n)
    return 100 * gain / (gain + loss)


def _macd(bars: pd.DataFrame) -> pd.Series:
    line = _ema(bars["close"], 12) - _ema(bars["close"], 26)
    return line - _ema(line, 9)


def _pandas_indicators(bars: pd.DataFrame) -> list[pd.Series]:
    """The eleven of SHARED, each by itself, as TA-Lib computes them too."""
    return [
        *(_ema(bars["close"], n) for n in (10, 20, 50)),
        _adx(bars, 14),
        _di(bars, 14, plus=True),
        _di(bars, 14, plus=False),
        _atr(bars, 14),
        _rsi(bars, 14),
        _macd(bars),
        bars["close"].rolling(20).std(ddof=0),
        bars["high"].rolling(20).max(),
    ]


def _pandas_scores(bars: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trend and Momentum with their default parameters, as one would write them with pandas for one symbol."""
    close, atr = bars["close"], _atr(bars, 14)
    top, bottom = bars["high"].rolling(20).max(), bars["low"].rolling(20).min()

    def cut(value: pd.Series, full: Any) -> pd.Series:
        return (value / full).clip(-1, 1)

    fast, mid, slow = (_ema(close, n) for n in (10, 20, 50))
    stack = 15 * (cut(fast - mid, 0.5 * atr) + cut(mid - slow, 0.5 * atr))
    strength = 25 * cut(_di(bars, 14, plus=True) - _di(bars, 14, plus=False), 20) * cut(_adx(bars, 14), 30)
    breakout = 25 * (2 * (close - bottom) / (top - bottom) - 1)
    trend = stack + strength + breakout + 20 * cut(close - slow, 4 * atr)

    squeezed = 2 * close.rolling(20).std(ddof=0) < 1.5 * _atr(bars, 20)
    place = pd.Series(np.arange(len(bars)), bars.index)
    age = place - place.where(squeezed).ffill()
    fresh = ((9 - age) / 8).clip(0, 1).where(~squeezed, 0.0).fillna(0.0)
    middle = ((top + bottom) / 2 + close.rolling(20).mean()) / 2
    deviation = (close.diff() ** 2).rolling(60).mean().mul(20) ** 0.5
    momentum = 30 * cut(_rsi(bars, 14) - 50, 20) + 25 * cut(_macd(bars), 0.4 * atr)
    momentum += 30 * cut(close.diff(20), 2 * deviation) + 15 * fresh * cut(close - middle, 1.5 * atr)
    made = []
    for name, score in (("trend", trend), ("momentum", momentum)):
        frame = bars[["symbol", "interval", "ts"]].assign(pillar=name, gate=np.nan, veto=None)
        made.append(frame.assign(score=score.clip(-100, 100).round(2)))
    return made[0], made[1]
