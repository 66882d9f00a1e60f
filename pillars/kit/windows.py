"""
The window of bars behind a score, fixed by the calendar alone: incremental, full and replayed runs agree to the bit.

Time is split into blocks of equal length from a fixed origin. A bar is always scored from the bars between a lead
before its block's start and itself: the lead holds the pillar's ``history``, and a block is at least as long.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.errors import ConfigError, DataError
from pillars.base import Panel, Pillar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Instants = npt.NDArray[np.datetime64]
ORIGIN = datetime(1970, 1, 5, tzinfo=UTC)  # a Monday
MINUTES = {"m": 1, "h": 60}
SESSIONS_A_YEAR = 240  # the shortest of the large exchanges; New York has 252
SESSION = 360  # minutes of trading a session
BARS = 400  # minimum of a block: with many short blocks the leads would be most of the work
COMMON = 100  # minimum of a block for ``common``, which holds the closes of all symbols at once
ROWS = 80_000  # of a panel: small enough for the CPU cache, large enough to amortise each call


def length(history: int, interval: str) -> timedelta:
    """
    The length of a lead: whole weeks in which an exchange has ``history`` bars of ``interval``.

    Assumes 240 sessions of 6 hours a year; one extra week covers a run of holidays. Markets that trade less have fewer
    bars in a lead, and so slightly less accuracy just after a block's start, but the same agreement between runs.
    """
    match = re.fullmatch(r"([1-9]\d*)([mhdw])", interval)
    if match is None:
        raise ConfigError(f"interval {interval!r} is unknown; expected a number and m, h, d or w, such as 5m or 1d")
    count, unit = int(match[1]), match[2]
    if unit == "w":
        return timedelta(weeks=history * count + 1)
    sessions = history * count if unit == "d" else math.ceil(history / max(1, SESSION // (count * MINUTES[unit])))
    return timedelta(weeks=math.ceil(sessions * 365 / SESSIONS_A_YEAR / 7) + 1)


def block(history: int, interval: str, bars: int = BARS) -> timedelta:
    """The length of a block: that of its lead, and at least ``bars``."""
    return length(max(history, bars), interval)


def start(ts: Instants, length: timedelta | np.timedelta64) -> Instants:
    """The start of the block of each instant (UTC, naive): start < ts <= start + length."""
    origin, step = np.datetime64(ORIGIN.replace(tzinfo=None), "us"), np.timedelta64(length)
    starts: Instants = origin + (-((origin - ts) // step) - 1) * step
    return starts


def periods(ts: Instants, interval: str) -> Instants:
    """The start of the period, of the width of a bar, in which each instant lies; one that ends at it is its own."""
    unit = {"m": "m", "h": "h", "d": "D", "w": "W"}[interval[-1]]
    return start(ts, np.timedelta64(int(interval[:-1]), unit))  # type: ignore[call-overload]


def window_start(ts: datetime | None, history: int, interval: str, bars: int = BARS) -> datetime | None:
    """The instant after which bars must be read to score every bar later than ``ts``; None (all) for None."""
    if ts is None:
        return None
    begin = start(np.array([_naive(ts)]), block(history, interval, bars))[0] - np.timedelta64(length(history, interval))
    return _aware(begin)


def begin(pillar: Pillar, after: datetime | None, interval: str) -> datetime | None:
    """The instant after which bars of all symbols are needed to score every bar later than ``after``; None: all."""
    own = window_start(after, pillar.history, interval)
    if after is None or own is None or not pillar.common_history:
        return own
    common = window_start(common_after(pillar, after, interval), pillar.common_history, interval, COMMON)
    return min(own, common or own)


def common_after(pillar: Pillar, after: datetime | None, interval: str) -> datetime | None:
    """The instant (None: all) after which ``common`` is needed to score every bar later than ``after``."""
    return window_start(after, pillar.history, interval) if pillar.looks_back else after


def common_windows(
    pillar: Pillar, interval: str, after: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime, datetime]]:
    """
    (begin, since, end) of each block for which ``common`` is needed for instants in (after, until]: computed from the
    closes in (begin, end], for instants in (since, end].
    """
    step, lead = block(pillar.common_history, interval, COMMON), length(pillar.common_history, interval)
    since = _aware(start(np.array([_naive(after + timedelta(microseconds=1))]), step)[0])
    while since < until:
        yield since - lead, since, min(since + step, until)
        since += step


def common(pillar: Pillar, closes: Panel, interval: str, since: datetime) -> pd.DataFrame:
    """
    ``pillar.common`` for each instant later than ``since`` of one of those windows, sorted by ``ts``.

    Raises DataError if it differs between symbols.
    """
    keep = closes.ts > _naive(since)
    result = pillar.common(replace(closes, interval=interval, asked=keep))
    instants, first, inverse = np.unique(closes.ts[keep], return_index=True, return_inverse=True)
    columns = {}
    for name, column in result.items():
        values = column[keep][first]
        if not np.array_equal(values[inverse], column[keep], equal_nan=True):
            raise DataError(f"pillar {pillar.name}: common {name} differs between symbols at one instant")
        columns[name] = values
    return pd.DataFrame({"ts": pd.DatetimeIndex(instants).tz_localize("UTC"), **columns})


def common_of(pillar: Pillar, windows: Iterable[tuple[pd.DataFrame, datetime]], interval: str) -> pd.DataFrame:
    """``common`` of several consecutive ``windows``: (closes of all symbols, since) each."""
    empty = pd.DataFrame(
        {"symbol": [], "interval": [], "ts": pd.DatetimeIndex([], tz="UTC").as_unit("us"), "close": []}
    )
    results = [common(pillar, Panel.of(closes, ("close",)), interval, since) for closes, since in windows]
    return pd.concat([common(pillar, Panel.of(empty, ("close",)), interval, ORIGIN), *results], ignore_index=True)


def expand(
    df: pd.DataFrame,
    history: int,
    interval: str,
    *,
    after: datetime | None = None,
    together: bool = False,
    common: pd.DataFrame | None = None,
) -> Iterator[tuple[Panel, npt.NDArray[np.bool_]]]:
    """
    Bars as panels whose slices are (symbol, block), each with its lead as warm-up; and a mask of the rows to keep.

    Kept are the bars later than ``after`` (all for None), each once, sorted by (symbol, ts). ``df`` must hold all bars
    after ``window_start(after, history, interval)``. Panels fit the CPU cache; there is always at least one, possibly
    empty.

    ``together``, for cross-sectional pillars: a panel is one block of all symbols, including those with bars only in
    the lead; rows are sorted within each panel. ``common``: ts, and columns that go into ``Panel.beside``.
    """
    panel = Panel.of(df)
    if panel.interval not in ("", interval):
        raise DataError(f"got bars of {panel.interval}; expected {interval}")
    panel, step = replace(panel, interval=interval), np.timedelta64(block(history, interval))
    if common is not None:
        panel = replace(panel, beside=panel.beside | _beside(panel.ts, common))
    blocks, slices = start(panel.ts, block(history, interval)), panel.slices
    leads = panel.ts > blocks + step - np.timedelta64(length(history, interval))  # into the next block
    instant = np.datetime64("0001-01-01") if after is None else _naive(after)
    if together:
        wanted_blocks = np.unique(blocks[panel.ts > instant])
        for begin in wanted_blocks if len(wanted_blocks) else [np.datetime64("NaT")]:
            rows = np.flatnonzero((blocks == begin) | ((blocks == begin - step) & leads))
            codes, firsts = np.unique(slices[rows], return_index=True)
            keep = (blocks[rows] == begin) & (panel.ts[rows] > instant)
            made = panel.take(rows, np.append(firsts, len(rows)), tuple(panel.symbols[i] for i in codes))
            yield replace(made, asked=keep), keep
        return
    new = (slices[1:] != slices[:-1]) | (blocks[1:] != blocks[:-1])
    first = np.append(0, np.flatnonzero(new) + 1)[: len(slices)]  # the first row of each (symbol, block)
    end = np.append(first[1:], len(slices))[: len(first)]
    # a symbol may have no bars in the block before
    led = (slices[first[1:]] == slices[first[:-1]]) & (np.diff(blocks[first]) == step)
    lead = np.add.reduceat(leads, first, dtype=np.int64) if len(first) else first
    warm = first - np.where(np.append(False, led)[: len(first)], np.roll(lead, 1), 0)
    wanted = panel.ts[end - 1] > instant
    first, end, warm = first[wanted], end[wanted], warm[wanted]

    pieces = np.cumsum(end - warm) // ROWS
    for piece in np.unique(pieces) if len(pieces) else [0]:
        f, e, w = (rows[pieces == piece] for rows in (first, end, warm))
        bounds = np.append(0, np.cumsum(e - w))
        rows = np.arange(bounds[-1]) - np.repeat(bounds[:-1] - w, e - w)
        keep = (rows >= np.repeat(f, e - w)) & (panel.ts[rows] > instant)
        yield replace(panel.take(rows, bounds, tuple(panel.symbols[i] for i in slices[f])), asked=keep), keep


def score(
    pillar: Pillar, bars: pd.DataFrame, interval: str, *, after: datetime | None, common: pd.DataFrame | None = None
) -> pd.DataFrame:
    """
    The signals of every bar later than ``after`` (all for None), sorted by (symbol, ts): columns SIGNAL.

    All scores are computed here: live, in a backtest and for ``explain``. ``bars`` must hold all bars after
    ``window_start(after, pillar.history, interval)``; other bars, earlier, later or of other symbols, change no bit. A
    cross-sectional pillar needs the bars of all symbols after ``begin(pillar, after, interval)``; or, if it has a
    ``common``, its result from ``common_after`` on.
    """
    pieces = _pieces(pillar, bars, interval, after, common)
    signals = pd.concat([pillar.score(panel, keep) for panel, keep in pieces], ignore_index=True)
    return signals.sort_values(["symbol", "ts"], ignore_index=True) if pillar.together else signals


def parts(
    pillar: Pillar, bars: pd.DataFrame, interval: str, *, after: datetime | None, common: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The parts of those signals, not rounded, from the same windows: symbol, ts, then a column for each part."""
    frames = []
    for panel, keep in _pieces(pillar, bars, interval, after, common):
        made = {name: column[keep] for name, column in pillar.parts(panel).parts.items()}
        symbols = pd.array(list(panel.symbols), dtype="str").take(panel.slices[keep])
        frames.append(
            pd.DataFrame({"symbol": symbols, "ts": pd.DatetimeIndex(panel.ts[keep]).tz_localize("UTC"), **made})
        )
    return pd.concat(frames, ignore_index=True).sort_values(["symbol", "ts"], ignore_index=True)


def _pieces(
    pillar: Pillar, bars: pd.DataFrame, interval: str, after: datetime | None, common: pd.DataFrame | None
) -> Iterator[tuple[Panel, npt.NDArray[np.bool_]]]:
    if pillar.common_history and common is None:  # the bars hold all symbols
        windows: Iterable[tuple[datetime, datetime, datetime]] = ()
        if len(bars):
            oldest, newest = (ts.to_pydatetime() for ts in (bars["ts"].min(), bars["ts"].max()))
            first = common_after(pillar, after, interval) or oldest - timedelta(microseconds=1)
            windows = common_windows(pillar, interval, first, newest)
        closes = ((bars[(bars["ts"] > begin) & (bars["ts"] <= end)], since) for begin, since, end in windows)
        common = common_of(pillar, closes, interval)
    return expand(bars, pillar.history, interval, after=after, together=pillar.together, common=common)


def _beside(ts: Instants, common: pd.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
    """Each column's value at each instant; NaN at instants that ``common`` lacks."""
    instants = common["ts"].dt.tz_localize(None).to_numpy("datetime64[us]")
    place = np.minimum(np.searchsorted(instants, ts), max(len(instants) - 1, 0))
    there = instants[place] == ts if len(instants) else np.zeros(len(ts), np.bool_)
    columns = {str(name): common[name].to_numpy(np.float64) for name in common.columns.drop("ts")}
    return {name: np.where(there, values[place] if len(values) else np.nan, np.nan) for name, values in columns.items()}


def _aware(instant: np.datetime64) -> datetime:
    return pd.Timestamp(instant, tz="UTC").to_pydatetime()


def _naive(instant: datetime) -> np.datetime64:
    return np.datetime64(pd.Timestamp(instant).tz_convert("UTC").tz_localize(None), "us")
