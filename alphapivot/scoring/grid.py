"""Signals aligned with the instants to compose: for each pillar and timeframe the signal that is due; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.errors import DataError
from alphapivot.frames import firsts

Column = npt.NDArray[np.float64]
Instants = npt.NDArray[np.datetime64]  # naive UTC, microseconds


@dataclass(frozen=True)
class Grid:
    """The rows to compose, sorted by (symbol, ts), and for each timeframe the latest bar due then."""

    symbols: pd.Index[Any]
    codes: npt.NDArray[np.int64]
    ts: Instants
    due: dict[str, Instants]

    @classmethod
    def of(cls, due: pd.DataFrame, intervals: list[str], base: str) -> Grid:
        codes, symbols = pd.factorize(due["symbol"], sort=True)
        instants, newest = _naive(due["ts"]), _naive(due["due"])
        rows = {}
        for interval in intervals:
            here = np.flatnonzero(due["interval"] == interval)
            rows[interval] = here[np.lexsort((instants[here], codes[here]))]
        grid = cls(pd.Index(symbols), codes[rows[base]], instants[rows[base]], {i: newest[r] for i, r in rows.items()})
        repeated = np.flatnonzero((np.diff(grid.codes) == 0) & (grid.ts[1:] == grid.ts[:-1]))
        if repeated.size:
            raise DataError(f"due: duplicate row {grid.where(repeated[0])}; expected one per symbol, interval and ts")
        for interval, r in rows.items():
            if not np.array_equal(codes[r], grid.codes) or not np.array_equal(instants[r], grid.ts):
                raise DataError(f"due: {interval} has other instants than {base}; expected the same")
        return grid

    def where(self, row: int) -> str:
        return f"{self.symbols[self.codes[row]]} {self.ts[row]}Z"

    def frame(self, **columns: Any) -> pd.DataFrame:
        names = pd.array(list(self.symbols), dtype="str").take(self.codes)
        return pd.DataFrame({"symbol": names, "ts": pd.DatetimeIndex(self.ts).tz_localize("UTC"), **columns})


@dataclass(frozen=True)
class Aligned:
    """One pillar's signals, by row of the grid (axis 0) and timeframe (axis 1); NaN or None where unknown."""

    score: Column
    gate: Column
    veto: npt.NDArray[np.object_]
    fresh: npt.NDArray[np.bool_]  # there is a signal, known or not


def align(signals: pd.DataFrame, grid: Grid, pillars: list[str]) -> dict[str, Aligned]:
    """
    Each pillar's signals aligned with the grid: for each timeframe the one at the due instant, if any. ``signals`` may
    lack gate and veto, if only scores are wanted.
    """
    shape = (len(grid.ts), len(grid.due))
    aligned = {
        p: Aligned(np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, None), np.zeros(shape, np.bool_))
        for p in pillars
    }
    for column, (interval, due) in enumerate(grid.due.items()):
        instants, number = np.unique(due, return_inverse=True)
        if not instants.size:
            continue  # nothing to compose
        wanted = pd.Index(grid.codes * len(instants) + number)
        here = signals[signals["interval"] == interval]
        for pillar, stored in here.groupby("pillar"):
            if pillar not in aligned:
                continue
            codes, ts = _codes(stored, grid.symbols), _naive(stored["ts"])
            place = np.minimum(np.searchsorted(instants, ts), len(instants) - 1)
            rows = np.flatnonzero((codes >= 0) & (instants[place] == ts))
            key = pd.Index(codes[rows] * len(instants) + place[rows])
            if not key.is_unique:
                row = rows[np.flatnonzero(key.duplicated())[0]]
                raise DataError(f"signals: {pillar!s} {stored['symbol'].iloc[row]} {interval} {ts[row]}Z is duplicated")
            at = key.get_indexer(wanted)
            fresh = at >= 0
            source, target = rows[at[fresh]], aligned[str(pillar)]
            target.fresh[fresh, column] = True
            # stored as float32: restore the decimals of the pillar
            target.score[fresh, column] = np.round(stored["score"].to_numpy(np.float64)[source], 2)
            if "gate" in stored:
                target.gate[fresh, column] = np.round(stored["gate"].to_numpy(np.float64)[source], 4)
            if "veto" in stored and stored["veto"].notna().any():
                target.veto[fresh, column] = stored["veto"].astype(object).to_numpy()[source]
    return aligned


def _codes(stored: pd.DataFrame, symbols: pd.Index[Any]) -> npt.NDArray[np.int64]:
    """The place of each row's symbol in ``symbols``, -1 without one."""
    starts = np.flatnonzero(firsts(stored, "symbol"))
    places = symbols.get_indexer(pd.Index(stored["symbol"].iloc[starts]))
    return np.repeat(places.astype(np.int64), np.diff(starts, append=len(stored)))


def _naive(instants: pd.Series[Any]) -> Instants:
    if not len(instants):
        return np.empty(0, "datetime64[us]")
    if not isinstance(instants.dtype, pd.DatetimeTZDtype):
        raise DataError(f"composite: {instants.name} must be aware (UTC), got {instants.dtype}")
    naive: Instants = instants.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
    return naive
