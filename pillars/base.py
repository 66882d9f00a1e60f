"""
The base class of pillars: frozen parameters, the history they need, and one pure function from bars to signals.

A ``Panel`` holds one timeframe's bars of many symbols as long columns sorted by (symbol, ts), split into slices;
``each`` runs a function over every slice, so a pillar is plain column arithmetic and cannot mix symbols.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict

from alphapivot.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

Column = npt.NDArray[np.float64]
VALUES = ("open", "high", "low", "close", "volume", "open_interest")
# values of both markets of a symbol at exactly the instant of its bar, whichever of them is the signal market
BESIDE = {
    "spot_close": "close of the spot market",
    "futures_close": "traded close of the front contract",
    "futures_volume": "total volume of all futures contracts",
    "total_interest": "total open interest of all futures contracts",
    "front_interest": "open interest of the front contract",
    "rolled": "time of the last roll, days since 1970; missing for a vendor's continuous series",
    "other_close": "traded close of the contract nearest to the front one in delivery that traded at that instant",
    "other_months": "months from the front contract's delivery to that one's; negative for an earlier one",
    "front_months": "months from the bar to the middle of the front contract's delivery month",
}
SIGNAL = ["pillar", "symbol", "interval", "ts", "score", "gate", "veto"]  # frame Signals without scope and batch_id


@dataclass(frozen=True, eq=False)
class Panel:
    """
    Bars of one timeframe, sorted by (symbol, ts). Missing values are NaN.

    Prices are adjusted: raw + offset, anchored at the first futures contract (offset is 0 for spot). They may be
    negative: never divide by them or take their logarithm; ``raw_close`` is the traded price. Spot prices, including
    ``raw_close``, are adjusted for splits and dividends by a factor that is 1 at the first bar, so that change /
    raw_close is a true return; levels are in adjusted, not traded prices.
    """

    interval: str
    symbols: tuple[str, ...]  # one per slice; a symbol split into blocks has several slices
    bounds: npt.NDArray[np.int64]  # slice i is rows bounds[i]:bounds[i + 1]
    ts: npt.NDArray[np.datetime64]  # UTC, microseconds, when the bar was complete
    open: Column
    high: Column
    low: Column
    close: Column
    volume: Column
    open_interest: Column
    offset: Column
    beside: dict[str, Column] = field(default_factory=dict)  # the columns of BESIDE in the pillar's ``inputs``
    asked: npt.NDArray[np.bool_] | None = None  # rows whose signals are needed; None: all

    def __post_init__(self) -> None:
        # no pillar can change the input of the next one
        for column in (self.bounds, *self._columns().values(), *self.beside.values()):
            column.setflags(write=False)

    def _columns(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)[3:-2]}

    @classmethod
    def of(cls, df: pd.DataFrame, values: Sequence[str] = VALUES) -> Panel:
        """
        The panel of ``Bars`` of one interval and one market per symbol, in any order; prices are not adjusted here.

        Adjusted futures prices come with their ``offset`` (``alphapivot.data.rolls.adjust``); 0 without that column.
        Columns of BESIDE go into ``beside``. Columns that are not in ``values`` are all NaN.

        Raises DataError on several intervals, two bars of one (symbol, ts), naive instants and infinite values.
        """
        intervals = df["interval"].unique()
        if len(intervals) > 1:
            raise DataError(f"panel: got intervals {', '.join(sorted(intervals))}; expected one")
        if not isinstance(df["ts"].dtype, pd.DatetimeTZDtype):
            raise DataError(f"panel: ts must be aware (UTC), got {df['ts'].dtype}; localise it in the feed")
        ts = df["ts"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
        codes, symbols = pd.factorize(df["symbol"], sort=True)
        if not _ascends(codes, ts):
            order = np.lexsort((ts, codes))
            df, codes, ts = df.iloc[order], codes[order], ts[order]
        columns = {name: np.broadcast_to(np.nan, len(df)) for name in VALUES}
        columns |= {name: np.ascontiguousarray(df[name].to_numpy(np.float64, na_value=np.nan)) for name in values}
        columns["offset"] = df["offset"].to_numpy(np.float64) if "offset" in df else np.zeros(len(df))
        beside = {name: df[name].to_numpy(np.float64, na_value=np.nan, copy=True) for name in BESIDE if name in df}
        panel = cls(
            interval=str(intervals[0]) if len(df) else "",
            symbols=tuple(map(str, symbols)),
            bounds=np.searchsorted(codes, np.arange(len(symbols) + 1)),
            ts=ts,
            **columns,
            beside=beside,
        )
        repeated = np.flatnonzero((codes[1:] == codes[:-1]) & (ts[1:] == ts[:-1]))
        if repeated.size:
            row = panel.where(repeated[0])
            raise DataError(f"panel: two bars of {row}; expected one market and contract per symbol")
        for name, column in {**columns, **beside}.items():
            bad = np.flatnonzero(np.isinf(column) | (np.isnan(column) & (name == "offset")))
            if bad.size:
                raise DataError(f"panel: {name} of {panel.where(bad[0])} is {column[bad[0]]}; expected a finite number")
        return panel

    @property
    def raw_close(self) -> Column:
        """The traded close, the base of returns; for spot on the scale of the first bar."""
        return self.close - self.offset

    def other(self, name: str) -> Column:
        """A column of BESIDE; all NaN if the caller has none."""
        if name not in BESIDE:
            raise KeyError(f"{name!r} is not a column of BESIDE; expected one of {', '.join(BESIDE)}")
        return self.beside[name] if name in self.beside else np.full(len(self.ts), np.nan)

    @property
    def wanted(self) -> Column:
        """1 where a signal is needed, 0 for warm-up bars, where expensive values may be left out (NaN)."""
        return np.ones(len(self.ts)) if self.asked is None else self.asked.astype(np.float64)

    @property
    def slices(self) -> npt.NDArray[np.int64]:
        """The index of each row's slice."""
        return np.repeat(np.arange(len(self.symbols)), np.diff(self.bounds))

    @cached_property
    def place(self) -> npt.NDArray[np.int64]:
        """The number of bars before each row in its slice."""
        place = np.arange(len(self.ts)) - self.bounds[:-1][self.slices]
        place.setflags(write=False)
        return place

    def where(self, row: int) -> str:
        """A row for messages: symbol, interval and instant."""
        symbol = self.symbols[np.searchsorted(self.bounds, row, side="right") - 1]
        return f"{symbol} {self.interval} {np.datetime_as_string(self.ts[row], 's')}Z"

    def until(self, instant: np.datetime64) -> Panel:
        """The bars up to ``instant`` (UTC, naive), of the symbols that have any."""
        rows = np.flatnonzero(self.ts <= instant)
        slices, firsts = np.unique(self.slices[rows], return_index=True)
        return self.take(rows, np.append(firsts, len(rows)), tuple(self.symbols[i] for i in slices))

    def take(self, rows: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64], symbols: tuple[str, ...]) -> Panel:
        """A panel of these rows in this order, split at ``bounds``."""
        columns = {name: column[rows] for name, column in self._columns().items()}
        beside = {name: column[rows] for name, column in self.beside.items()}
        return Panel(self.interval, symbols, bounds, **columns, beside=beside)

    def each(self, function: Callable[..., Any], *columns: Column, **parameters: Any) -> Any:
        """
        ``function`` over each slice of ``columns``; returns one long column, or a tuple of them if it returns several.

        A gap splits a slice: ``function`` is called for each stretch in which all its columns are finite, and the
        result elsewhere is NaN. So no value depends on bars from before a gap, and an indicator warms up again after
        one (TA-Lib alone would propagate a NaN for ever). ``function`` must look only backwards, return as many values
        as it gets, and accept empty columns.
        """
        starts, ends = self._stretches(columns)
        if not starts.size:  # one call on empty columns tells how many columns it returns
            starts = ends = np.zeros(1, np.int64)
        out: list[Column] = []
        several, gaps = False, (ends - starts).sum() < len(self.ts)
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
            result = function(*(column[a:b] for column in columns), **parameters)
            if not out:
                several = isinstance(result, tuple)
                out = [np.empty(len(self.ts)) for _ in (result if several else (result,))]
                if gaps:
                    for long in out:
                        long.fill(np.nan)
            for long, piece in zip(out, result if several else (result,), strict=True):
                if piece.shape != (b - a,):
                    raise ValueError(f"each: {function} returned shape {piece.shape} for {b - a} bars")
                long[a:b] = piece
        return tuple(out) if several else out[0]

    def _stretches(self, columns: tuple[Column, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        finite = np.isfinite(columns[0])
        for column in columns[1:]:
            finite &= np.isfinite(column)
        if finite.all():
            return self.bounds[:-1], self.bounds[1:]
        first = np.zeros(len(finite) + 1, np.bool_)
        first[self.bounds] = True
        starts = np.flatnonzero(finite & (first[:-1] | ~np.append(False, finite[:-1])))
        ends = np.flatnonzero(finite & (first[1:] | ~np.append(finite[1:], False))) + 1
        return starts, ends


class Features(Mapping[str, Column]):
    """
    Columns by name, computed when first asked for: most runs have no rule that needs them. A function may give one
    column, or several under a tuple of names.
    """

    def __init__(self, columns: Mapping[str | tuple[str, ...], Column | Callable[[], Any]]) -> None:
        self._owner = {name: key for key in columns for name in (key if isinstance(key, tuple) else (key,))}
        self._columns = dict(columns)
        self._known: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        if name not in self._known:
            key = self._owner[name]
            made = self._columns[key]
            made = made() if callable(made) else made
            self._known |= dict(zip(key, made, strict=True)) if isinstance(key, tuple) else {key: made}
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._owner)

    def __len__(self) -> int:
        return len(self._owner)


@dataclass(frozen=True)
class Parts:
    """
    A pillar's result for a panel: ``parts``, whose sum is its score; ``gate``, a factor; ``veto``, reason codes.

    NaN means unknown: one unknown part makes the score unknown. A pillar without parts has no direction. ``features``
    are the columns that rules in config.ini may use.
    """

    parts: dict[str, Column] = field(default_factory=dict)
    gate: Column | None = None
    veto: npt.NDArray[np.object_] | None = None
    features: Mapping[str, Column] = field(default_factory=dict)

    def score(self) -> Column | None:
        """The sum of the parts, clipped to +-100 and not rounded; None without parts."""
        return np.clip(sum(self.parts.values()), -100.0, 100.0) if self.parts else None


class Pillar(BaseModel, ABC):
    """
    A pillar; its fields are the parameters of its section in config.ini. Subclasses define ``name``, ``history`` and
    ``parts``.

    Pure: no clock, no I/O, no state, only the bars up to each row. Only +, -, *, / and square roots give the same bits
    everywhere; other functions (exp, log, tanh) may differ by a bit with a row's position in memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
    name: ClassVar[str]
    directional: ClassVar[bool] = True  # has a score: allowed in [composite] weights
    gating: ClassVar[bool] = False  # has a gate: allowed in [composite] gates
    inputs: ClassVar[tuple[str, ...]] = ()  # columns of BESIDE that it needs besides its own market's bars
    cross_sectional: ClassVar[bool] = False  # a symbol's result depends on other symbols, see ``common``
    looks_back: ClassVar[bool] = False  # it needs ``wanted`` and ``common`` values on earlier bars too

    @property
    @abstractmethod
    def history(self) -> int:
        """Number of earlier bars that matter: older ones change a score by less than 1e-6 before rounding."""

    @abstractmethod
    def parts(self, bars: Panel) -> Parts:
        """The pillar's result for every bar of the panel, each only from that bar and earlier ones of its slice."""

    @property
    def common_history(self) -> int:
        """Number of earlier bars that ``common`` uses; 0 for a pillar without it."""
        return 0

    @property
    def together(self) -> bool:
        """True if it needs the bars of all symbols at once: a cross-sectional pillar without ``common``."""
        return self.cross_sectional and not self.common_history

    def common(self, closes: Panel) -> dict[str, Column]:
        """
        What a cross-sectional pillar needs from all symbols, computed only from their closes: columns with the same
        value for all bars of an instant. ``parts`` finds them in the panel's ``beside``, however few symbols it has; if
        they are missing, the panel holds all symbols.
        """
        raise NotImplementedError

    def score(self, bars: Panel, rows: npt.NDArray[np.bool_] | None = None) -> pd.DataFrame:
        """
        Signals of all bars of the panel, or of the marked ``rows``, in its order: columns SIGNAL.

        score is in [-100, 100], rounded to 0.01, gate in [0, 1], rounded to 0.0001; float32, null where unknown.
        Raises DataError if ``parts`` returns invalid values.
        """
        result = self.parts(bars)
        kept = np.arange(len(bars.ts)) if rows is None else np.flatnonzero(rows)
        for part, column in {**result.parts, "gate": result.gate}.items():
            if column is None:
                continue
            if column.shape != bars.ts.shape:
                raise DataError(f"pillar {self.name}: {part} has shape {column.shape}; expected {bars.ts.shape}")
            bad = np.flatnonzero(np.isinf(column) | ((part == "gate") & ((column < 0) | (column > 1))))
            if bad.size:
                allowed = "a number from 0 to 1 or NaN" if part == "gate" else "a finite number or NaN"
                raise DataError(
                    f"pillar {self.name}: {part} of {bars.where(bad[0])} is {column[bad[0]]}; expected {allowed}"
                )
        score = result.score()
        unknown = np.full(len(kept), np.nan, np.float32)
        symbols = pd.array(list(bars.symbols), dtype="str")
        return pd.DataFrame(
            {
                "pillar": _constant(self.name, len(kept)),
                "symbol": symbols.take(bars.slices[kept]),
                "interval": _constant(bars.interval, len(kept)),
                "ts": pd.DatetimeIndex(bars.ts[kept]).tz_localize("UTC"),
                # + 0.0 makes a negative zero positive
                "score": unknown if score is None else (np.round(score[kept], 2) + 0.0).astype(np.float32),
                "gate": unknown if result.gate is None else np.round(result.gate[kept], 4).astype(np.float32),
                "veto": _constant(None, len(kept)) if result.veto is None else pd.array(result.veto[kept], dtype="str"),
            }
        )


def _constant(text: str | None, count: int) -> Any:
    return pd.array([text], dtype="str").take(np.zeros(count, np.int64))


def _ascends(codes: npt.NDArray[np.int64], ts: npt.NDArray[np.datetime64]) -> bool:
    same = codes[1:] == codes[:-1]
    return bool(np.all((codes[1:] > codes[:-1]) | (same & (ts[1:] >= ts[:-1]))))
