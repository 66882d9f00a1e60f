"""The yardstick: the seven pillars written plainly in pandas, symbol by symbol, with default parameters."""

import itertools
from typing import Any

import numpy as np
import pandas as pd


def cut(value: Any, full: Any) -> Any:
    return (value / full).clip(-1, 1)


def grade(value: pd.Series, bad: float, good: float) -> pd.Series:
    return ((value - bad) / (good - bad)).clip(0, 1)


def ema(values: pd.Series, n: int) -> pd.Series:
    return values.ewm(span=n, adjust=False, min_periods=n).mean()


def wilder(values: pd.Series, n: int) -> pd.Series:
    return values.ewm(alpha=1 / n, adjust=False, min_periods=n).mean()


def atr(bars: pd.DataFrame, n: int) -> pd.Series:
    high, low, before = bars["high"], bars["low"], bars["close"].shift()
    ranges = pd.concat([high - low, (high - before).abs(), (low - before).abs()], axis=1)
    return wilder(ranges.max(axis=1), n)


def di(bars: pd.DataFrame, n: int, *, plus: bool) -> pd.Series:
    moves = bars["high"].diff(), -bars["low"].diff()
    move, other = moves if plus else moves[::-1]
    return 100 * wilder(move.where((move > other) & (move > 0), 0.0), n) / atr(bars, n)


def adx(bars: pd.DataFrame, n: int) -> pd.Series:
    plus, minus = di(bars, n, plus=True), di(bars, n, plus=False)
    return wilder(100 * (plus - minus).abs() / (plus + minus), n)


def rsi(bars: pd.DataFrame, n: int) -> pd.Series:
    change = bars["close"].diff()
    gain, loss = wilder(change.clip(lower=0), n), wilder(-change.clip(upper=0), n)
    return 100 * gain / (gain + loss)


def macd(bars: pd.DataFrame) -> pd.Series:
    line = ema(bars["close"], 12) - ema(bars["close"], 26)
    return line - ema(line, 9)


def indicators(bars: pd.DataFrame) -> list[pd.Series]:
    """The eleven indicators that TA-Lib has too."""
    return [
        *(ema(bars["close"], n) for n in (10, 20, 50)),
        adx(bars, 14),
        di(bars, 14, plus=True),
        di(bars, 14, plus=False),
        atr(bars, 14),
        rsi(bars, 14),
        macd(bars),
        bars["close"].rolling(20).std(ddof=0),
        bars["high"].rolling(20).max(),
    ]


def rms(values: pd.Series, n: int) -> pd.Series:
    return (values**2).rolling(n).mean() ** 0.5


def crossover(close: pd.Series, fast: int) -> pd.Series:
    return (close.rolling(fast).mean() - close.rolling(4 * fast).mean()) / fast**0.5


def trend(bars: pd.DataFrame) -> pd.Series:
    close = bars["close"]
    usual = rms(close.diff(), 40)
    score = pd.Series(0.0, bars.index)
    for k in (1, 2, 4):
        score += 20 * cut(crossover(close, 16 * k), 1.4 * usual)
        top, bottom = close.rolling(80 * k).max(), close.rolling(80 * k).min()
        score += 40 / 3 * (2 * (close - bottom) / (top - bottom) - 1).rolling(20 * k).mean()
    return score


def momentum(bars: pd.DataFrame) -> pd.Series:
    usual = rms(bars["close"].diff(), 40)
    return sum(50 * cut(crossover(bars["close"], n).diff(n), 1.1 * usual) for n in (32, 64))


def carry(bars: pd.DataFrame) -> pd.Series:
    """The carry of a market without futures: none."""
    return pd.Series(np.nan, bars.index)


def flow(bars: pd.DataFrame) -> pd.Series:
    """The flow score of a market without futures."""
    step, volume = bars["close"].diff(), bars["volume"]
    excess = (volume / volume.rolling(60).mean() - 1).clip(-1, 1)
    moved = (cut(step, atr(bars, 14)) * excess).rolling(20).mean()
    way = np.sign(step)
    net = (way * volume).rolling(40).sum() / volume.rolling(40).sum() - way.rolling(40).mean()
    return (35 * cut(moved, 0.15) + 30 * cut(net, 0.15)) / 0.65


def structure(bars: pd.DataFrame) -> pd.Series:
    step = bars["close"].diff()
    moved = (step / rms(step, 40).shift()).clip(-6, 6)
    score = pd.Series(0.0, bars.index)
    for n in (180, 360):
        middle = moved.rolling(n).mean()
        variance = (moved**2).rolling(n).mean() - middle**2
        third = (moved**3).rolling(n).mean() - 3 * middle * (variance + middle**2) + 2 * middle**3
        score -= 50 * cut(third / variance**1.5, 1)
    return score


def quality(bars: pd.DataFrame) -> pd.Series:
    step, range_ = bars["close"].diff(), bars["high"] - bars["low"]
    idle = (step == 0).where(step.notna()).astype(float).rolling(40).mean()
    wicks = (range_ - (bars["close"] - bars["open"]).abs()).rolling(40).sum() / range_.rolling(40).sum()
    gaps = rms(bars["open"] - bars["close"].shift(), 40) / rms(step, 40)
    variation = bars["volume"].rolling(40).std(ddof=0) / bars["volume"].rolling(40).mean()
    gate = grade(idle, 0.5, 0.1)
    for value, bad, good in ((wicks, 0.9, 0.6), (gaps, 1.4, 0.7), (variation, 3, 1)):
        gate *= 1 - 0.4 * (1 - grade(value, bad, good).fillna(1))
    return gate


def risk(bars: pd.DataFrame, crowding: pd.Series) -> pd.Series:
    step = bars["close"].diff()
    usual = rms(step, 250)
    shock = (bars["close"].diff(3).abs() / (usual.shift(3) * 3**0.5)).rolling(5).max()
    gate = 1 - 0.6 * (1 - grade(rms(step, 20) / usual, 2.5, 1.2))
    gate *= 1 - 0.6 * (1 - grade(shock, 4, 2.5))
    # as of the day before, when all exchanges had closed
    seen = bars["ts"].map(crowding.shift())
    return gate * (1 - 0.5 * (1 - grade(seen, 0.9, 0.4)))


def crowding(bars: pd.DataFrame) -> pd.Series:
    """The mean correlation about zero of 5-day changes over 60 days between all pairs, by day."""
    changes = bars.pivot(index="ts", columns="symbol", values="close").diff(5)  # noqa: PD010 - two bars are an error
    pairs = list(itertools.combinations(changes.columns, 2))
    squares = (changes**2).rolling(60).sum() ** 0.5
    return sum((changes[a] * changes[b]).rolling(60).sum() / squares[a] / squares[b] for a, b in pairs) / len(pairs)
