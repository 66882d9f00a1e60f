"""
Ex-ante volatility of a whole book, from the covariance of past price changes. Pure.

Holdings are in book currency per quoted unit of price: signed quantity x multiplier x quote unit x fx. Volatilities are
standard deviations of a year, in book currency. Correlations are of changes over APART bars, because exchanges close at
different hours, and shrunk towards their mean (Ledoit and Wolf 2004, "Honey, I Shrunk the Sample Covariance Matrix",
Journal of Portfolio Management 30(4)): 250 days say little about many pairs. Standard deviations are of single bars.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.execution.decide.facts import CapName, Direction, Gate, Quote

Floats = npt.NDArray[np.float64]
APART = 5  # bars: a week of daily ones
LEAST = 60  # bars that all have in common
SIGN: Mapping[Direction, int] = {"LONG": 1, "SHORT": -1}
ROUNDING = 1e-9  # of floats
YEAR = np.timedelta64(365_2425 * 86_400 // 10_000, "s")


@dataclass(frozen=True)
class Covariance:
    """Of the price changes of a year, in quoted units squared; ``missing``: symbols with too short a history."""

    symbols: tuple[str, ...]
    annual: Floats
    missing: tuple[str, ...] = ()

    def volatility(self, held: Mapping[str, float]) -> float:
        """Of a book that holds these."""
        vector = self._vector(held)
        return float(max(float(vector @ self.annual @ vector), 0.0) ** 0.5)

    def contributions(self, held: Mapping[str, float]) -> dict[str, float]:
        """symbol -> its part of the book's volatility, negative where it hedges; they add up to it."""
        vector = self._vector(held)
        total = np.sqrt(vector @ self.annual @ vector)
        parts = vector * (self.annual @ vector) / total if total > 0 else np.zeros_like(vector)
        return {s: float(part) for s, part in zip(self.symbols, parts, strict=True) if s in held}

    def room(self, held: Mapping[str, float], symbol: str, sign: int, limit: float) -> float:
        """
        How much of ``symbol`` (absolute) a book may add on this side: until its volatility is at ``limit``; above it,
        as long as it is not higher than before. Infinite for a price that does not move.
        """
        vector, at = self._vector(held), self.symbols.index(symbol)
        own, shared = self.annual[at, at], sign * (self.annual @ vector)[at]
        spare = max(limit**2 - vector @ self.annual @ vector, 0.0)  # of variance
        if own <= 0:
            return np.inf
        return float(max((-shared + np.sqrt(shared**2 + own * spare)) / own, 0.0))

    def _vector(self, held: Mapping[str, float]) -> Floats:
        return np.array([held.get(symbol, 0.0) for symbol in self.symbols])


def covariance(
    closes: Mapping[str, tuple[npt.NDArray[np.datetime64], Floats]], bars: int, *, daily: bool
) -> Covariance:
    """
    From the last ``bars`` changes of each symbol's closes (end of bar, price), without the jumps of rolls and splits.

    ``daily``: bars of one UTC date belong together, wherever they end on it. A market that is closed while others trade
    has no change.
    """
    missing = tuple(sorted(symbol for symbol, (ts, _) in closes.items() if len(ts) <= LEAST))
    table = _together({s: series for s, series in closes.items() if s not in missing}, daily=daily).tail(bars + 1)
    if len(table) <= LEAST:
        return Covariance((), np.empty((0, 0)), tuple(sorted(closes)))
    prices = table.to_numpy(np.float64)
    a_year = (len(prices) - 1) * float(YEAR / (table.index[-1] - table.index[0]).to_timedelta64())
    deviations = np.diff(prices, axis=0).std(axis=0, ddof=1) * np.sqrt(a_year)
    correlations = shrunk(np.diff(prices[::-APART][::-1], axis=0))
    return Covariance(tuple(table.columns), correlations * np.outer(deviations, deviations), missing)


def shrunk(changes: Floats) -> Floats:
    """The correlations of ``changes`` (T x N), shrunk towards their mean by Ledoit and Wolf's intensity."""
    count, width = changes.shape
    scale = changes.std(axis=0)
    moving = scale > 0
    standard = (changes - changes.mean(axis=0)) / np.where(moving, scale, 1.0)
    sample = standard.T @ standard / count
    np.fill_diagonal(sample, 1.0)
    if width < 2 or not moving.all():
        return np.asarray(sample, dtype=np.float64)
    mean = (sample.sum() - width) / (width * (width - 1))
    target = np.full_like(sample, mean)
    np.fill_diagonal(target, 1.0)
    # appendix B of the paper, for variances of one
    squares = standard**2
    pi = squares.T @ squares / count - sample**2
    theta = (
        standard**3
    ).T @ standard / count - sample  # theta[i, j]: of the variance of i with the covariance of i and j
    np.fill_diagonal(theta, 0.0)
    rho = np.trace(pi) + mean * theta.sum()
    gamma = ((sample - target) ** 2).sum()
    intensity = 1.0 if gamma == 0 else float(np.clip((pi.sum() - rho) / gamma / count, 0.0, 1.0))
    mixed: Floats = intensity * target + (1 - intensity) * sample
    return mixed


def _together(closes: Mapping[str, tuple[npt.NDArray[np.datetime64], Floats]], *, daily: bool) -> pd.DataFrame:
    """Closes by end of bar (or date) and symbol, from the first that all have."""
    columns: dict[str, Any] = {}
    for symbol, (ts, close) in sorted(closes.items()):
        ends = pd.DatetimeIndex(ts)
        column = pd.Series(close, index=ends.normalize() if daily else ends)
        columns[symbol] = column[~column.index.duplicated(keep="last")]
    return pd.DataFrame(columns).ffill().dropna() if columns else pd.DataFrame()


@dataclass
class BookVolatility:
    """
    The volatility of a book while entries are decided, one after another: ``limit`` and results in book currency.

    ``quotes`` need ``closes`` of the last ``bars`` changes; ``held``: unfilled entries and pending exits are in it.
    """

    quotes: Mapping[str, Quote]
    bars: int
    limit: Decimal
    held: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _known: dict[frozenset[str], Covariance] = field(default_factory=dict)

    def covariance(self, symbol: str) -> Covariance:
        """
        Of what is held and of ``symbol``, and of nothing else: a backtest attends to fewer markets than a live run.
        """
        together = frozenset({symbol, *(s for s, value in self.held.items() if value)})
        if together not in self._known:
            closes = {s: q.closes for s, q in self.quotes.items() if s in together and q.closes is not None}
            intervals = {self.quotes[s].bars.get("interval") for s in closes}
            self._known[together] = covariance(closes, self.bars, daily=intervals <= {"1d", "1w"})
        return self._known[together]

    def add(self, symbol: str, side: Direction, qty: Decimal, unit: Decimal) -> None:
        """``unit``: book currency per quoted unit and unit of quantity."""
        self.held[symbol] += SIGN[side] * float(qty * unit)

    def unknown(self, symbol: str) -> list[str]:
        """Those of the held symbols and ``symbol`` whose history is too short: with them no entry can be judged."""
        return sorted({symbol, *(s for s, value in self.held.items() if value)} - set(self.covariance(symbol).symbols))

    def cap(self, symbol: str, side: Direction, unit: Decimal) -> dict[CapName, Decimal]:
        """The largest quantity that the limit leaves room for, as a cap of ``sizing.size``."""
        room = self.covariance(symbol).room(self.held, symbol, SIGN[side], float(self.limit))
        return {} if np.isinf(room) else {"book_volatility": Decimal(repr(room)) / unit}

    def gates(self, symbol: str, side: Direction, qty: Decimal, unit: Decimal) -> Iterator[tuple[str, str, Gate]]:
        """The book's volatility after an entry; above the limit one that lowers it passes."""
        if unknown := self.unknown(symbol):
            gate = Gate(passed=False, value=f"unknown: {', '.join(unknown)}", limit=f"<= {self.limit:.2f}")
            yield "book_volatility", "history_missing", gate
            return
        more = {**self.held, symbol: self.held.get(symbol, 0.0) + SIGN[side] * float(qty * unit)}
        known = self.covariance(symbol)
        before, after = known.volatility(self.held), known.volatility(more)
        passed = after <= max(float(self.limit), before) * (1 + ROUNDING)
        yield "book_volatility", "book_volatility", Gate(passed, f"{after:.2f}", f"<= {self.limit:.2f}")
