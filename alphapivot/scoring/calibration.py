"""
Scalars and correlations of the pillars, fitted at fixed calendar dates from the past only; pure.

- A pillar's *scalar* brings the mean absolute value of its blended scores, over all symbols and all bars so far, to
  ``typical_score`` (forecast scalars: Carver, Systematic Trading, 2015, appendix B; pysystemtrade).
- The *correlation* of two pillars is that of their blended scores about zero, for zero is what neutral means: so
  w'Cw says how large the weighted mean is beside its members. It is shrunk towards the mean of all pairs.
- The *diversification multiplier* 1 / sqrt(w' C w), correlations floored at 0, brings the weighted mean back to the
  size of its members; capped (Carver's limit is 2.5).

What is fitted for a date stands on signals earlier than the date, whenever it is fitted and whatever came later: sums
are made by period between dates and added up in their order, so that it is the same to the last bit. Where the longest
known symbol has fewer than ``min_bars`` bars, 1.0 stands for what cannot be fitted yet.
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
LARGEST = 10.0  # scalar: a pillar that says next to nothing is not to be made loud
DIGITS = 6  # of what is stored


@dataclass(frozen=True)
class Calibration:
    """What is in force from each of ``dates`` on; before the first, and for what is not there, 1.0."""

    dates: Instants = field(default_factory=lambda: np.empty(0, "datetime64[us]"))
    scalars: Mapping[str, Column] = field(default_factory=dict)  # pillar -> 1.0, then one value a date
    correlations: Mapping[tuple[str, str], Column] = field(default_factory=dict)  # sorted pair -> the same

    def place(self, ts: Instants) -> npt.NDArray[np.int64]:
        """Which of the values holds at each instant."""
        return np.searchsorted(self.dates, ts, side="right").astype(np.int64)

    def scalar(self, pillar: str, ts: Instants) -> Column:
        values = self.scalars.get(pillar)
        return np.ones(len(ts)) if values is None else values[self.place(ts)]

    def multiplier(self, weights: Mapping[str, Column], ts: Instants, most: float) -> Column:
        """For each instant that of its own weights (0 for a pillar that is missing), between 1 and ``most``."""
        names, place = sorted(weights), self.place(ts)
        rows = np.column_stack([place, *(weights[name] for name in names)]) if names else np.zeros((len(ts), 1))
        distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
        made = [
            self._multiplier(int(row[0]), dict(zip(names, row[1:].tolist(), strict=True)), most) for row in distinct
        ]
        return np.array(made)[inverse.ravel()] if made else np.ones(len(ts))

    def _multiplier(self, place: int, weights: Mapping[str, float], most: float) -> float:
        variance = 0.0
        for a, b in itertools.product(weights, repeat=2):
            values = self.correlations.get((min(a, b), max(a, b)))
            correlation = 1.0 if a == b or values is None else max(float(values[place]), 0.0)
            variance += weights[a] * weights[b] * correlation
        return min(max(1.0, variance**-0.5), most) if variance > 0 else 1.0


def due(frequency: str, first: np.datetime64, last: np.datetime64) -> Instants:
    """The dates of a frequency in (first, last]: midnight UTC at the beginning of months, quarters or years."""
    step = MONTHS[frequency]
    begin, end = (int(t.astype("datetime64[M]").astype(int)) for t in (first, last))
    months = np.arange(begin - begin % step, end + 1, step).astype("datetime64[M]").astype("datetime64[us]")
    return months[(months > first) & (months <= last)]


def fit(scores: pd.DataFrame, dates: Instants, settings: CompositeSettings) -> pd.DataFrame:
    """
    What is in force from each of ``dates`` on, fitted from what is earlier: kind, subject, effective_from, value,
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
    """The Calibration of stored rows, without those of another frequency or of pillars that have no weight."""
    if settings.calibrate == "never" or rows.empty:
        return Calibration()
    at = pd.DatetimeIndex(rows["effective_from"]).tz_convert("UTC").tz_localize(None).to_numpy("datetime64[us]")
    dates = due(settings.calibrate, at.min() - np.timedelta64(1, "us"), at.max())
    scalars: dict[str, Column] = {}
    correlations: dict[tuple[str, str], Column] = {}
    known = np.isin(at, dates)
    place = np.searchsorted(dates, at)
    for kind, subject in sorted({*zip(rows["kind"][known], rows["subject"][known], strict=True)}):
        own = known & (rows["kind"] == kind).to_numpy() & (rows["subject"] == subject).to_numpy()
        column = np.ones(len(dates) + 1)
        column[place[own] + 1] = rows["value"].to_numpy(np.float64)[own]
        if kind == "scalar":
            scalars[subject] = column
        else:
            a, b = subject.split("|")
            correlations[a, b] = column
    return Calibration(dates, scalars, correlations)


@dataclass(frozen=True)
class _Sums:
    """Columns with 0 for unknown, and sums of what is made of them up to each date."""

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
        # bincount adds row by row: no period's sum depends on the others, or on what comes after it
        return np.cumsum(np.bincount(self.period, weights=values, minlength=self.dates)[: self.dates])

    def enough(self, a: str, b: str, bars: int) -> npt.NDArray[np.bool_]:
        """Has the longest symbol as many bars on which both are known?"""
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
        product, own, other = (sums.total(both * values) for values in (x * y, x * x, y * y))
        known = sums.enough(a, b, settings.min_bars) & (own > 0) & (other > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            fitted[f"{a}|{b}"] = np.where(known, product / np.sqrt(own * other), np.nan)
    if not fitted:
        return {}
    table = np.column_stack(list(fitted.values()))
    counted = ~np.isnan(table)
    mean = np.nan_to_num(table).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    shrunk: Any = (1 - settings.shrinkage) * table + settings.shrinkage * mean[:, None]
    return {("correlation", pair): np.where(counted[:, i], shrunk[:, i], 1.0) for i, pair in enumerate(fitted)}
