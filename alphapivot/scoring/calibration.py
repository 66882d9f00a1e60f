"""
Scalars and correlations of the pillars, fitted at fixed calendar dates from the past only; pure.

- A pillar's *scalar* brings the mean absolute value of its blended scores, over all symbols and all bars so far, to
  ``typical_score`` (forecast scalars: Carver, Systematic Trading, 2015, appendix B; pysystemtrade).
- The *correlation* of two pillars is that of their blended scores about zero, since zero means neutral: so w'Cw
  measures the size of the weighted mean relative to its members. It is shrunk towards the mean of all pairs.
- The *diversification multiplier* 1 / sqrt(w' C w), correlations floored at 0, scales the weighted mean back to the
  size of its members; capped (Carver's limit is 2.5).

A fit for a date uses only signals before the date, whenever it is computed: sums are computed per period between dates
and added in order, so that the result is the same to the last bit. While the symbol with the longest history has fewer
than ``min_bars`` bars, the value is 1.0.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alphapivot.config.sections.scoring import CompositeSettings

Column = npt.NDArray[np.float64]
Instants = npt.NDArray[np.datetime64]  # naive UTC, microseconds
MONTHS = {"monthly": 1, "quarterly": 3, "yearly": 12}
LARGEST = 10.0  # scalar: a pillar whose scores are always near zero is not blown up
DIGITS = 6  # decimals of stored values


@dataclass(frozen=True)
class Calibration:
    """The values in force from each of ``dates`` on; before the first date, and for a missing pillar or pair, 1.0."""

    dates: Instants = field(default_factory=lambda: np.empty(0, "datetime64[us]"))
    scalars: Mapping[str, Column] = field(default_factory=dict)  # pillar -> 1.0, then one value per date
    correlations: Mapping[tuple[str, str], Column] = field(default_factory=dict)  # sorted pair -> the same

    def place(self, ts: Instants) -> npt.NDArray[np.int64]:
        """The index of the value in force at each instant."""
        return np.searchsorted(self.dates, ts, side="right").astype(np.int64)

    def scalar(self, pillar: str, ts: Instants) -> Column:
        values = self.scalars.get(pillar)
        return np.ones(len(ts)) if values is None else values[self.place(ts)]

    def multiplier(self, weights: Mapping[str, Column], ts: Instants, most: float) -> Column:
        """The multiplier for the weights at each instant (0 for a missing pillar), between 1 and ``most``."""
        place = self.place(ts)
        group = pd.factorize(place)[0]
        for column in weights.values():  # there are few different rows of weights
            value, values = pd.factorize(column, use_na_sentinel=False)
            group = pd.factorize(group * len(values) + value)[0]
        first = np.zeros(int(group.max(initial=-1)) + 1, np.int64)
        first[group[::-1]] = np.arange(len(group))[::-1]
        multipliers = [
            self._multiplier(int(place[row]), {name: float(weights[name][row]) for name in sorted(weights)}, most)
            for row in first
        ]
        return np.array(multipliers)[group] if multipliers else np.ones(len(ts))

    def _multiplier(self, place: int, weights: Mapping[str, float], most: float) -> float:
        variance = 0.0
        for a, b in itertools.product(weights, repeat=2):
            values = self.correlations.get((min(a, b), max(a, b)))
            correlation = 1.0 if a == b or values is None else max(float(values[place]), 0.0)
            variance += weights[a] * weights[b] * correlation
        return min(max(1.0, variance**-0.5), most) if variance > 0 else 1.0


def due(frequency: str, first: np.datetime64, last: np.datetime64) -> Instants:
    """The dates of a frequency in (first, last]: midnight UTC at the start of months, quarters or years."""
    step = MONTHS[frequency]
    begin, end = (int(t.astype("datetime64[M]").astype(int)) for t in (first, last))
    months = np.arange(begin - begin % step, end + 1, step).astype("datetime64[M]").astype("datetime64[us]")
    return months[(months > first) & (months <= last)]


def fit(scores: pd.DataFrame, dates: Instants, settings: CompositeSettings) -> pd.DataFrame:
    """
    The values in force from each of ``dates`` on, fitted from earlier scores: kind, subject, effective_from, value,
    fitted_from, fitted_until.

    ``scores``: symbol, ts and a column of blended scores for each directional pillar, NaN where unknown, sorted by
    (symbol, ts). ``dates`` must be all dates of the frequency from the first score on.
    """
    names = sorted(settings.weights)
    ts = scores["ts"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
    used = ts < dates[-1] if len(dates) else np.zeros(len(ts), np.bool_)
    sums = _Sums.of(scores[used], np.searchsorted(dates, ts[used], side="right"), len(dates))
    values: dict[tuple[str, str], Column] = {}
    for name in names:
        absolute, count = sums.total(np.abs(sums.columns[name])), sums.total(sums.known[name])
        with np.errstate(divide="ignore", invalid="ignore"):
            scalar = np.minimum(settings.typical_score * count / absolute, LARGEST)
        values["scalar", name] = np.where(sums.enough(name, name, settings.min_bars) & (absolute > 0), scalar, 1.0)
    values |= _correlations(names, sums, settings)
    first = ts.min() if len(ts) else np.datetime64("1970-01-01", "us")
    frames = [
        pd.DataFrame(
            {
                "kind": kind,
                "subject": subject,
                "effective_from": pd.DatetimeIndex(dates).tz_localize("UTC"),
                "value": np.round(column, DIGITS),
                "fitted_from": pd.Timestamp(first, tz="UTC"),
                "fitted_until": pd.DatetimeIndex(dates).tz_localize("UTC"),
            }
        )
        for (kind, subject), column in values.items()
    ]
    return pd.concat(frames, ignore_index=True)


def of(rows: pd.DataFrame, settings: CompositeSettings) -> Calibration:
    """The Calibration in stored rows, without rows of another frequency."""
    if settings.calibrate == "never" or rows.empty:
        return Calibration()
    at = pd.DatetimeIndex(rows["effective_from"]).tz_convert("UTC").tz_localize(None).to_numpy("datetime64[us]")
    dates = due(settings.calibrate, at.min() - np.timedelta64(1, "us"), at.max())
    scalars: dict[str, Column] = {}
    correlations: dict[tuple[str, str], Column] = {}
    current = np.isin(at, dates)
    place = np.searchsorted(dates, at)
    for kind, subject in sorted({*zip(rows["kind"][current], rows["subject"][current], strict=True)}):
        selected = current & (rows["kind"] == kind).to_numpy() & (rows["subject"] == subject).to_numpy()
        column = np.ones(len(dates) + 1)
        column[place[selected] + 1] = rows["value"].to_numpy(np.float64)[selected]
        if kind == "scalar":
            scalars[subject] = column
        else:
            a, b = subject.split("|")
            correlations[a, b] = column
    return Calibration(dates=dates, scalars=scalars, correlations=correlations)


@dataclass(frozen=True)
class _Sums:
    """Columns with 0 for unknown values, and sums over them up to each date."""

    columns: dict[str, Column]
    known: dict[str, Column]
    period: npt.NDArray[np.int64]
    symbol: npt.NDArray[np.int64]
    dates: int

    @classmethod
    def of(cls, scores: pd.DataFrame, period: npt.NDArray[np.int64], dates: int) -> _Sums:
        columns = {name: scores[name].to_numpy(np.float64) for name in scores.columns if name not in ("symbol", "ts")}
        known = {name: (~np.isnan(column)).astype(np.float64) for name, column in columns.items()}
        filled = {name: np.nan_to_num(column) for name, column in columns.items()}
        return cls(filled, known, period, pd.factorize(scores["symbol"])[0].astype(np.int64), dates)

    def total(self, values: Column) -> Column:
        # bincount adds row by row: no period's sum depends on other periods
        return np.cumsum(np.bincount(self.period, weights=values, minlength=self.dates)[: self.dates])

    def enough(self, a: str, b: str, bars: int) -> npt.NDArray[np.bool_]:
        """True for the dates by which one symbol has at least ``bars`` bars with both pillars known."""
        symbols = int(self.symbol.max(initial=-1)) + 1
        cells = np.bincount(
            self.symbol * self.dates + self.period,
            weights=self.known[a] * self.known[b],
            minlength=symbols * self.dates,
        )
        counts = np.cumsum(cells.reshape(symbols, self.dates), axis=1)
        return np.asarray(counts.max(axis=0, initial=0) >= bars)


def _correlations(names: Sequence[str], sums: _Sums, settings: CompositeSettings) -> dict[tuple[str, str], Column]:
    fitted: dict[str, Column] = {}
    for a, b in itertools.combinations(names, 2):
        x, y, both = sums.columns[a], sums.columns[b], sums.known[a] * sums.known[b]
        product, square_a, square_b = (sums.total(both * values) for values in (x * y, x * x, y * y))
        fits = sums.enough(a, b, settings.min_bars) & (square_a > 0) & (square_b > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            fitted[f"{a}|{b}"] = np.where(fits, product / np.sqrt(square_a * square_b), np.nan)
    if not fitted:
        return {}
    table = np.column_stack(list(fitted.values()))
    counted = ~np.isnan(table)
    mean = np.nan_to_num(table).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    shrunk: Any = (1 - settings.shrinkage) * table + settings.shrinkage * mean[:, None]
    return {("correlation", pair): np.where(counted[:, i], shrunk[:, i], 1.0) for i, pair in enumerate(fitted)}
