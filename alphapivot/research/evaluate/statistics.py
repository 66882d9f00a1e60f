"""
Predictive power of scores: information coefficients, hit rates, deciles, turnover, correlations. Pure.

- *Following return*: change of the adjusted close over the next ``horizon`` bars, over the traded close of the bar; of
  a spread the change over 100 of its deviations.
- *ic*: the information coefficient, here the rank correlation of score and following return within each symbol
  (Spearman; Grinold and Kahn, Active Portfolio Management, 1999), averaged over all bars.
- *t*: the bars of one instant are summed first, as symbols move together, and the variance of that series includes its
  autocovariances (Newey and West 1987, Bartlett weights), as following returns overlap: lags of twice the horizon in
  bars of each symbol, so that a universe with three closing times a day has three times as many in instants.
- *hit rate*: how often score and following return have the same sign, neither being 0.
- A gate has no direction: it is measured against the size of the following return (*move*), and the largest move
  against the composite's side within the horizon, in ATR (*against*). A useful gate closes before large moves and
  before adverse ones: its ic is negative. It has no hit rate.
- *turnover*: mean absolute change of the score from bar to bar, over its mean absolute value.

Everything here looks into the future of each bar, by design. No score may use it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pillars.base import Panel
from pillars.indicators import atr, extremes

Column = npt.NDArray[np.float64]
MEASURES = ["observations", "ic", "t", "hit_rate", "turnover", "autocorrelation"]
LEAST = 30  # fewer observations give NaN


def following(bars: pd.DataFrame, horizon: int, spreads: Collection[str] = ()) -> pd.Series:
    """
    The return over the ``horizon`` bars after each of ``bars`` (without ``offset``: 0); same index. Of ``spreads``,
    whose price may be nothing or less, the change, as if the deviation of a bar's change were 1 %.
    """
    ordered = bars.sort_values(["symbol", "ts"])
    traded = (ordered["close"] - ordered.get("offset", 0.0)).where(lambda price: price > 0)
    if spreads:
        usual = ordered.groupby("symbol")["close"].transform(lambda close: close.diff().std())
        traded = traded.where(~ordered["symbol"].isin(list(spreads)), 100 * usual.where(usual > 0))
    later = ordered.groupby("symbol")["close"].shift(-horizon)
    return ((later - ordered["close"]) / traded).reindex(bars.index)


def against(bars: pd.DataFrame, side: pd.Series, horizon: int) -> pd.Series:
    """
    The largest move in ATR (of 14 bars) against ``side`` (1 long, -1 short, else NaN) within the ``horizon`` bars after
    each of ``bars``: for long from the close down to the lowest low, at least 0. Same index.
    """
    ordered = bars.sort_values(["symbol", "ts"])
    panel = Panel.of(ordered)
    high, low = (pd.Series(column, ordered.index) for column in extremes(panel))
    # extremes of the next bars: a rolling window over the reversed bars, shifted by one
    lowest = low.groupby(ordered["symbol"]).transform(lambda s: s[::-1].rolling(horizon).min()[::-1].shift(-1))
    highest = high.groupby(ordered["symbol"]).transform(lambda s: s[::-1].rolling(horizon).max()[::-1].shift(-1))
    range_ = pd.Series(atr(panel, 14), ordered.index).where(lambda r: r > 0)
    side = side.reindex(ordered.index)
    adverse = (ordered["close"] - lowest).where(side > 0, highest - ordered["close"]).where(side.abs() > 0)
    return (adverse.clip(lower=0) / range_).reindex(bars.index)


def measure(scores: pd.DataFrame, horizon: int, *, sliced: bool = True) -> pd.DataFrame:
    """
    MEASURES by ``slice``: all, and if ``sliced`` each symbol and each year. ``scores``: symbol, ts, score, following;
    one row a bar.

    NaN with fewer than 30 observations, or where score or return never changes. Ranks are taken over all bars of the
    symbol, also for a year's slice: ranked within a year, a score that follows the market would be high where the
    year's returns are already past, and noise would look like reversal.
    """
    frame = scores.sort_values(["symbol", "ts"], ignore_index=True)
    valid = frame["score"].notna() & frame["following"].notna()
    before = frame.groupby("symbol")["score"].shift()
    ranks = {f"{name}_rank": _ranks(frame[valid], name) for name in ("score", "following")}
    code = pd.factorize(frame["symbol"])[0]
    numbers = frame[["score", "following"]].assign(before=before, code=code, **ranks)
    columns = {str(name): column.to_numpy(np.float64) for name, column in numbers.items()}
    instants = pd.factorize(frame["ts"], sort=True)[0]
    slices: list[tuple[str, Any]] = [("all", np.arange(len(frame)))]
    if sliced:
        for key in (frame["symbol"], frame["ts"].dt.year):
            slices += [(str(name), rows) for name, rows in sorted(frame.groupby(key).indices.items())]
    rows = [
        {"slice": name, **_measures({n: c[at] for n, c in columns.items()}, instants[at], horizon)}
        for name, at in slices
    ]
    return pd.DataFrame(rows)


def deciles(scores: pd.DataFrame) -> pd.DataFrame:
    """By tenth of the score: decile (1: lowest), observations, mean_score, mean_outcome, hit_rate."""
    valid = scores.dropna(subset=["score", "following"])
    rank = valid["score"].rank(method="average", pct=True).to_numpy(np.float64)
    decile = pd.Series(np.minimum((rank * 10).astype(int) + 1, 10), valid.index, name="decile")
    hits = _hits(valid)
    grouped = valid.assign(hit=hits).groupby(decile)
    return grouped.agg(
        observations=("score", "size"),
        mean_score=("score", "mean"),
        mean_outcome=("following", "mean"),
        hit_rate=("hit", "mean"),
    ).reset_index()


def correlations(scores: pd.DataFrame) -> pd.DataFrame:
    """subject, other, correlation over common bars of each pair. ``scores``: symbol, ts, subject, score."""
    wide = scores.pivot_table(index=["symbol", "ts"], columns="subject", values="score", observed=True)
    matrix = wide.corr(min_periods=LEAST)
    return matrix.rename_axis(columns="other").reset_index().melt("subject", value_name="correlation")


def newey_west(series: Column, lags: int) -> float:
    """The t of a series' mean, its variance with Bartlett-weighted autocovariances; NaN if it does not vary."""
    count = len(series)
    centred: Column = series - series.mean()
    variance = float(centred @ centred)
    for lag in range(1, min(lags, count - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag])
    return float(series.mean() * count / np.sqrt(variance)) if variance > 1e-12 else float("nan")


def instants_a_bar(symbols: npt.NDArray[np.int64], instants: npt.NDArray[np.int64]) -> float:
    """How many of these instants pass from one bar of a symbol to its next: the most of all symbols, at least 1."""
    count = np.bincount(symbols)
    first, last = np.full(len(count), np.iinfo(np.int64).max), np.zeros(len(count), np.int64)
    place = np.unique(instants, return_inverse=True)[1]
    np.minimum.at(first, symbols, place)
    np.maximum.at(last, symbols, place)
    several = count > 1
    return float(max(1.0, ((last - first)[several] / (count[several] - 1)).max(initial=1.0)))


def _measures(columns: dict[str, Column], instants: npt.NDArray[np.int64], horizon: int) -> dict[str, float]:
    score, following, before = columns["score"], columns["following"], columns["before"]
    valid = ~np.isnan(score) & ~np.isnan(following)
    result: dict[str, float] = dict.fromkeys(MEASURES, float("nan")) | {"observations": int(valid.sum())}
    if result["observations"] < LEAST:
        return result
    x, y = (columns[f"{name}_rank"][valid] for name in ("score", "following"))
    size = np.sqrt(float(x @ x) * float(y @ y))
    if size > 1e-9:  # not a constant
        product = np.bincount(instants[valid], weights=x * y).astype(np.float64)[np.unique(instants[valid])]
        result["ic"] = float(np.clip(product.sum() / size, -1.0, 1.0))
        bar = instants_a_bar(columns["code"][valid].astype(np.int64), instants[valid])
        result["t"] = newey_west(product, math.ceil(2 * horizon * bar))
    size = np.abs(score[valid]).mean()
    pair = ~np.isnan(score) & ~np.isnan(before)
    now, then = score[pair], before[pair]
    moving = len(now) >= LEAST and now.std() > 0 and then.std() > 0
    return result | {
        "hit_rate": _hit_rate(score[valid], following[valid]),
        "turnover": float(np.abs(now - then).mean() / size) if size > 0 and len(now) else float("nan"),
        "autocorrelation": float(np.corrcoef(now, then)[0, 1]) if moving else float("nan"),
    }


def _hit_rate(score: Column, following: Column) -> float:
    signs = np.sign(score) * np.sign(following)
    return float((signs > 0).sum() / (signs != 0).sum()) if (signs != 0).any() else float("nan")


def _ranks(valid: pd.DataFrame, name: str) -> pd.Series:
    """Ranks within each symbol, from -0.5 to 0.5, with mean 0."""
    ranks = valid.groupby("symbol")[name].rank(pct=True)
    return ranks - ranks.groupby(valid["symbol"]).transform("mean")


def _hits(valid: pd.DataFrame) -> pd.Series:
    signs = np.sign(valid["score"].to_numpy()) * np.sign(valid["following"].to_numpy())
    return pd.Series(np.where(signs != 0, signs > 0, np.nan), valid.index)
