"""
The window that a score is made from, fixed by the calendar alone: incremental, full and replayed runs agree to the bit.

Time is cut into blocks of one length from a fixed origin. A bar is scored from the bars after a lead before its block's
start, up to itself, whoever asks and whenever: the lead holds the pillar's ``history``, and a block is no shorter.
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
BARS = 400  # at least, of a block: a short lead before each of many short blocks would be most of the work
COMMON = 100  # at least, of a block of what all symbols have in common: it holds their closes all at once
ROWS = 80_000  # of a panel: small enough for the cache, large enough to make each call worth its while


def length(history: int, interval: str) -> timedelta:
    """
    How long a lead is: whole weeks in which an exchange makes ``history`` bars of ``interval``.

    An exchange has 240 sessions of 6 hours a year; one more week covers a run of holidays. Markets that trade less have
    fewer bars in a lead, and then a little less accuracy just after a block's start, never less agreement.
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
    """How long a block is: as long as the lead before it, and ``bars`` at least."""
    return length(max(history, bars), interval)


def start(ts: Instants, length: timedelta) -> Instants:
    """The start of the block that each instant (UTC, naive) lies in: start < ts <= start + length."""
    origin, step = np.datetime64(ORIGIN.replace(tzinfo=None), "us"), np.timedelta64(length)
    found: Instants = origin + (-((origin - ts) // step) - 1) * step
    return found


def window_start(ts: datetime | None, history: int, interval: str, bars: int = BARS) -> datetime | None:
    """After which instant bars must be read to score every bar later than ``ts``; None (all) for None."""
    if ts is None:
        return None
    begin = start(np.array([_naive(ts)]), block(history, interval, bars))[0] - np.timedelta64(length(history, interval))
    return _aware(begin)


def begin(pillar: Pillar, after: datetime | None, interval: str) -> datetime | None:
    """After which instant the bars of all symbols must be there to score every bar later than ``after``; None: all."""
    own = window_start(after, pillar.history, interval)
    if after is None or own is None or not pillar.common_history:
        return own
    common = window_start(common_after(pillar, after, interval), pillar.common_history, interval, COMMON)
    return min(own, common or own)


def common_after(pillar: Pillar, after: datetime | None, interval: str) -> datetime | None:
    """Later than which instant (None: all) a pillar's ``common`` is needed to score every bar later than ``after``."""
    return window_start(after, pillar.history, interval) if pillar.looks_back else after


def common_windows(
    pillar: Pillar, interval: str, after: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime, datetime]]:
    """
    (begin, since, end) of each block of which ``common`` is wanted for instants in (after, until]: made from the closes
    in (begin, end], it speaks of those in (since, end].
    """
    step, lead = block(pillar.common_history, interval, COMMON), length(pillar.common_history, interval)
    since = _aware(start(np.array([_naive(after + timedelta(microseconds=1))]), step)[0])
    while since < until:
        yield since - lead, since, min(since + step, until)
        since += step


def common(pillar: Pillar, closes: Panel, interval: str, since: datetime) -> pd.DataFrame:
    """
    What ``pillar.common`` says of each instant later than ``since`` of one of those windows: sorted by ``ts``.

    Raises DataError where it does not say the same of all symbols.
    """
    keep = closes.ts > _naive(since)
    made = pillar.common(replace(closes, interval=interval, asked=keep))
    instants, first, inverse = np.unique(closes.ts[keep], return_index=True, return_inverse=True)
    found = {}
    for name, column in made.items():
        values = column[keep][first]
        if not np.array_equal(values[inverse], column[keep], equal_nan=True):
            raise DataError(f"pillar {pillar.name}: common {name} differs between symbols at one instant")
        found[name] = values
    return pd.DataFrame({"ts": pd.DatetimeIndex(instants).tz_localize("UTC"), **found})


def common_of(pillar: Pillar, windows: Iterable[tuple[pd.DataFrame, datetime]], interval: str) -> pd.DataFrame:
    """``common`` of several windows one after the other: each the closes of all symbols, and its ``since``."""
    none = pd.DataFrame({"symbol": [], "interval": [], "ts": pd.DatetimeIndex([], tz="UTC").as_unit("us"), "close": []})
    found = [common(pillar, Panel.of(closes, ("close",)), interval, since) for closes, since in windows]
    return pd.concat([common(pillar, Panel.of(none, ("close",)), interval, ORIGIN), *found], ignore_index=True)


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
    Bars as panels whose slices are (symbol, block), each with the lead before it as warm-up; and their rows to keep.

    Kept are the bars later than ``after`` (all for None), each once, sorted by (symbol, ts). ``df`` must hold all
    bars after ``window_start(after, history, interval)``. The panels are of a size that the processor's cache holds;
    there is always one, if an empty one.

    ``together``, for cross-sectional pillars: a panel is one block of all symbols, those that have bars only in the
    lead before it included; the rows are sorted within each panel. ``common``: ts, and columns to lay beside the bars.
    """
    panel = Panel.of(df)
    if panel.interval not in ("", interval):
        raise DataError(f"bars of {panel.interval} were given where {interval} was expected")
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

    The one way in which scores are made: live, in a backtest and for ``explain``. ``bars`` must hold all bars after
    ``window_start(after, pillar.history, interval)``; what else it holds, earlier, later or of others, changes no bit.
    A cross-sectional pillar must be given those of all symbols after ``begin(pillar, after, interval)``; or, if it has
    a ``common``, what that makes of them, from ``common_after`` on.
    """
    pieces = _pieces(pillar, bars, interval, after, common)
    signals = pd.concat([pillar.score(panel, keep) for panel, keep in pieces], ignore_index=True)
    return signals.sort_values(["symbol", "ts"], ignore_index=True) if pillar.together else signals


def parts(
    pillar: Pillar, bars: pd.DataFrame, interval: str, *, after: datetime | None, common: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What stands behind those signals, not rounded, from the same windows: symbol, ts, then a column for each part."""
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
    if pillar.common_history and common is None:  # the bars are those of all symbols
        windows: Iterable[tuple[datetime, datetime, datetime]] = ()
        if len(bars):
            oldest, newest = (ts.to_pydatetime() for ts in (bars["ts"].min(), bars["ts"].max()))
            first = common_after(pillar, after, interval) or oldest - timedelta(microseconds=1)
            windows = common_windows(pillar, interval, first, newest)
        closes = ((bars[(bars["ts"] > begin) & (bars["ts"] <= end)], since) for begin, since, end in windows)
        common = common_of(pillar, closes, interval)
    return expand(bars, pillar.history, interval, after=after, together=pillar.together, common=common)


def _beside(ts: Instants, common: pd.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
    """Each column's value at each instant; NaN at those that it does not have."""
    instants = common["ts"].dt.tz_localize(None).to_numpy("datetime64[us]")
    place = np.minimum(np.searchsorted(instants, ts), max(len(instants) - 1, 0))
    there = instants[place] == ts if len(instants) else np.zeros(len(ts), np.bool_)
    columns = {str(name): common[name].to_numpy(np.float64) for name in common.columns.drop("ts")}
    return {name: np.where(there, values[place] if len(values) else np.nan, np.nan) for name, values in columns.items()}


def _aware(instant: np.datetime64) -> datetime:
    return pd.Timestamp(instant, tz="UTC").to_pydatetime()


def _naive(instant: datetime) -> np.datetime64:
    return np.datetime64(pd.Timestamp(instant).tz_convert("UTC").tz_localize(None), "us")
