"""The yardstick: the six pillars written plainly in pandas, symbol by symbol, with default parameters."""

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


def trend(bars: pd.DataFrame) -> pd.Series:
    close, range_ = bars["close"], atr(bars, 14)
    top, bottom = bars["high"].rolling(20).max(), bars["low"].rolling(20).min()
    fast, mid, slow = (ema(close, n) for n in (10, 20, 50))
    stack = 15 * (cut(fast - mid, 0.5 * range_) + cut(mid - slow, 0.5 * range_))
    strength = 25 * cut(di(bars, 14, plus=True) - di(bars, 14, plus=False), 20) * cut(adx(bars, 14), 30)
    breakout = 25 * (2 * (close - bottom) / (top - bottom) - 1)
    return stack + strength + breakout + 20 * cut(close - slow, 4 * range_)


def momentum(bars: pd.DataFrame) -> pd.Series:
    close, range_ = bars["close"], atr(bars, 14)
    top, bottom = bars["high"].rolling(20).max(), bars["low"].rolling(20).min()
    squeezed = 2 * close.rolling(20).std(ddof=0) < 1.5 * atr(bars, 20)
    place = pd.Series(np.arange(len(bars)), bars.index)
    age = place - place.where(squeezed).ffill()
    fresh = ((9 - age) / 8).clip(0, 1).where(~squeezed, 0.0).fillna(0.0)
    middle = ((top + bottom) / 2 + close.rolling(20).mean()) / 2
    deviation = (close.diff() ** 2).rolling(60).mean().mul(20) ** 0.5
    score = 30 * cut(rsi(bars, 14) - 50, 20) + 25 * cut(macd(bars), 0.4 * range_)
    return score + 30 * cut(close.diff(20), 2 * deviation) + 15 * fresh * cut(close - middle, 1.5 * range_)


def flow(bars: pd.DataFrame) -> pd.Series:
    """The flow score of a market without futures."""
    close, volume = bars["close"], bars["volume"]
    obv = (np.sign(close.diff()) * volume).rolling(20).sum() / volume.rolling(20).sum()
    typical = (bars["high"] + bars["low"] + close) / 3
    money, rise = typical * volume, typical.diff()
    gained, lost = money.where(rise > 0, 0.0).rolling(14).sum(), money.where(rise < 0, 0.0).rolling(14).sum()
    excess = (volume / volume.rolling(50).mean() - 1).clip(0, 1.5) / 1.5
    surge = (cut(close.diff(), atr(bars, 14)) * excess).rolling(5).mean()
    return (25 * cut(obv, 0.4) + 15 * cut(100 * gained / (gained + lost) - 50, 25) + 20 * surge) / 0.6


def swings(bars: pd.DataFrame) -> pd.DataFrame:
    """Swing points of 3 bars a side, confirmed 3 bars later and kept for 120 bars, and the levels next to the close."""
    highs, lows, closes = (bars[c].tolist() for c in ("high", "low", "close"))
    tops: list[tuple[int, float]] = []
    bottoms: list[tuple[int, float]] = []
    rows = []
    for i, close in enumerate(closes):
        j = i - 3
        if j >= 3:
            if highs[j] > max(highs[j - 3 : j]) and highs[j] >= max(highs[j + 1 : i + 1]):
                tops.append((j, highs[j]))
            if lows[j] < min(lows[j - 3 : j]) and lows[j] <= min(lows[j + 1 : i + 1]):
                bottoms.append((j, lows[j]))
        tops = [t for t in tops if t[0] >= i - 120]
        bottoms = [b for b in bottoms if b[0] >= i - 120]
        above = min((v for _, v in tops + bottoms if v > close), default=np.nan)
        below = max((v for _, v in tops + bottoms if v < close), default=np.nan)
        recent = [[np.nan, np.nan, *(v for _, v in found)][-2:] for found in (tops, bottoms)]
        rows.append((*recent[0][::-1], *recent[1][::-1], above, below))
    columns = ["top", "top_before", "bottom", "bottom_before", "above", "below"]
    return pd.DataFrame(rows, bars.index, columns)


def profile(bars: pd.DataFrame) -> pd.DataFrame:
    """Point of control and value area of the volume of 60 bars in 30 price bins."""
    highs, lows, volumes = (bars[c].to_numpy() for c in ("high", "low", "volume"))
    rows = [(np.nan, np.nan, np.nan)] * 59
    for i in range(59, len(bars)):
        high, low, volume = highs[i - 59 : i + 1], lows[i - 59 : i + 1], volumes[i - 59 : i + 1]
        edges = np.linspace(low.min(), high.max(), 31)
        overlap = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        held = (np.clip(overlap, 0, None) * (volume / (high - low))[:, None]).sum(axis=0)
        best = first = last = int(held.argmax())
        inside = held[best]
        while inside < 0.7 * volume.sum():
            below, above = (held[first - 1] if first else -1.0), (held[last + 1] if last < 29 else -1.0)
            if below >= above:
                first, inside = first - 1, inside + below
            else:
                last, inside = last + 1, inside + above
        rows.append(((edges[best] + edges[best + 1]) / 2, edges[first], edges[last + 1]))
    return pd.DataFrame(rows, bars.index, ["poc", "lower", "upper"])


def breakouts(close: pd.Series, top: pd.Series, bottom: pd.Series) -> pd.Series:
    """1 or -1 on the bar of a breakout, or of its failure within 5 bars; decays by a tenth with each later bar."""
    closes, tops, bottoms = close.tolist(), top.tolist(), bottom.tolist()
    out, way, age, level, failed = [0.0], 0, 0, 0.0, False
    for i in range(1, len(closes)):
        age += 1
        up = closes[i] > tops[i - 1] >= closes[i - 1]
        down = closes[i] < bottoms[i - 1] <= closes[i - 1]
        if up != down:
            way, age, failed, level = (1 if up else -1), 0, False, tops[i - 1] if up else bottoms[i - 1]
        elif way and not failed and way * (closes[i] - level) < 0:
            way, age, failed = (-way if age <= 5 else 0), 0, True
        if age >= 10:
            way = 0
        out.append(way * (1 - age / 10))
    return pd.Series(out, close.index)


def structure(bars: pd.DataFrame) -> pd.Series:
    close, range_, s, p = bars["close"], atr(bars, 14), swings(bars), profile(bars)
    rise = cut(s["top"] - s["top_before"], 2 * range_).fillna(0) + cut(
        s["bottom"] - s["bottom_before"], 2 * range_
    ).fillna(0)
    off = close - p["poc"]
    value = cut(off, (p["upper"] - p["poc"]).where(off > 0, p["poc"] - p["lower"]))
    up, down = (way.fillna(np.inf).clip(upper=5 * range_) for way in (s["above"] - close, close - s["below"]))
    return 15 * rise + 25 * value + 25 * breakouts(close, s["top"], s["bottom"]) + 20 * (up - down) / (up + down)


def quality(bars: pd.DataFrame) -> pd.Series:
    close, step = bars["close"], bars["close"].diff()
    efficiency = close.diff(20).abs() / step.abs().rolling(20).sum()
    range_ = bars["high"] - bars["low"]
    wicks = (range_ - (close - bars["open"]).abs()).rolling(40).sum() / range_.rolling(40).sum()
    gap = bars["open"] - close.shift()
    gaps = ((gap**2).rolling(40).mean() / (step**2).rolling(40).mean()) ** 0.5
    variation = bars["volume"].rolling(40).std(ddof=0) / bars["volume"].rolling(40).mean()
    gate = 1 - 0.6 * (1 - grade(efficiency, 0.05, 0.35))
    for value, bad, good in ((wicks, 0.85, 0.5), (gaps, 1.2, 0.4), (variation, 2, 0.6)):
        gate *= 1 - 0.4 * (1 - grade(value, bad, good).fillna(1))
    return gate


def risk(bars: pd.DataFrame, crowding: pd.Series) -> pd.Series:
    close, range_, s = bars["close"], atr(bars, 14), swings(bars)
    step = close.diff()
    fast, slow = ((step**2).rolling(n).mean() ** 0.5 for n in (20, 250))
    scale = slow * 20**0.5
    drawdown = (close.rolling(250).max() - close) / scale
    long = (1 + cut(close.diff(20), scale)) / 2
    up, down = (way.fillna(np.inf).clip(upper=5 * range_) / range_ for way in (s["above"] - close, close - s["below"]))
    reward = long * up / down.clip(lower=0.5) + (1 - long) * down / up.clip(lower=0.5)
    gate = 1 - 0.6 * (1 - grade(fast / slow, 2.5, 1.2))
    gate *= 1 - 0.5 * (1 - grade(drawdown, 6, 2))
    gate *= 1 - 0.3 * (1 - grade(long * down + (1 - long) * up, 0.5, 1.5))
    gate *= 1 - 0.3 * (1 - grade(reward, 0.5, 1.5))
    # as of the day before, when all exchanges had closed
    seen = bars["ts"].map(crowding.shift())
    return gate * (1 - 0.5 * (1 - grade(seen, 0.9, 0.4)))


def crowding(bars: pd.DataFrame) -> pd.Series:
    """The mean correlation about zero of 5-day changes over 60 days between all pairs, by day."""
    changes = bars.pivot(index="ts", columns="symbol", values="close").diff(5)  # noqa: PD010 - two bars are an error
    pairs = list(itertools.combinations(changes.columns, 2))
    squares = (changes**2).rolling(60).sum() ** 0.5
    return sum((changes[a] * changes[b]).rolling(60).sum() / squares[a] / squares[b] for a, b in pairs) / len(pairs)
