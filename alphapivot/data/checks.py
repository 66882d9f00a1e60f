"""
Quality gates: bars that are well formed, and yet too odd to be believed. Pure; thresholds are those of [quality].

A bar far from what its series led to expect (wrong scale, split, spike) is quarantined. A series that has gone wrong
(a gap, stale prices, no volume, spot and futures a day apart) halts: no entries in that instrument until it mends or a
person accepts. Each bar is judged by those before it that passed, so that bars one by one fare as bars all at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.calendar.bar_ends import SERIES
from alphapivot.data.outliers import Floats, Ints, Mask, Pardons, outliers
from alphapivot.frames import PRICES, Bars, Issues

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.sections.screen import Quality

HALTING = ("gap", "stale prices", "zero volume", "time-zone shift")


def lookback(checks: Iterable[Quality]) -> int:
    """How many bars before the first that is judged decide about it."""
    return max(2 * own.window + 2 for own in checks)


@dataclass(frozen=True)
class Judged:
    """``issues``: a frame of Issues. ``passing``: (symbol, market, check) of the halting checks that now pass."""

    bars: pd.DataFrame  # the new Bars that may be stored
    issues: pd.DataFrame
    passing: list[tuple[str, str, str]]


def judge(
    before: pd.DataFrame,
    new: pd.DataFrame,
    instruments: Mapping[str, Instrument],
    checks: Mapping[str, Quality],
    fronts: Mapping[str, str],
    accepted: pd.DataFrame,
    past: frozenset[tuple[str, str]] = frozenset(),
) -> Judged:
    """
    Divides ``new`` Bars into what may be stored and what is quarantined, and says which series should halt.

    ``before``: stored Bars of the same series, ``lookback`` of them before the first new one, and those in between.
    ``fronts``: symbol -> the contract that is traded: others of a futures market may be as thin as they like.
    ``accepted``: (key columns, check_name) of what a person has accepted: it fails no more. ``past``: (symbol, market)
    of series whose newest bars are stored and not among these: a gap of long ago halts nothing today, nor does its end.
    """
    kept, found, passing = [new.iloc[:0]], [], []
    both = pd.concat([before.assign(fresh=False), new.assign(fresh=True)], ignore_index=True)
    both = both.drop_duplicates(Bars.keys(), keep="last").sort_values(Bars.keys())
    for own in dict.fromkeys(
        checks[s] for s in new["symbol"].unique()
    ):  # mostly one: thresholds are numbers, not columns
        part = both[both["symbol"].map({s: c == own for s, c in checks.items()})].reset_index(drop=True)
        pardons = _pardons(part, accepted)
        odd = list(outliers(part, instruments, own, pardons))
        good = part.drop(index=[row for row, _, _ in odd]).reset_index(drop=True)
        states = [
            replace(state, lasting=None) if (state.symbol, state.market) in past else state
            for state in _states(good, instruments, own, fronts, _pardons(good, accepted))
        ]
        kept.append(good.loc[good["fresh"], Bars.columns()])
        found += [_issue(part.loc[row], name, "quarantined", detail) for row, name, detail in odd]
        for state in states:
            told = {r: d for r, d in state.rows.items() if good.loc[r, "fresh"] or r == state.lasting}
            found += [
                _issue(good.loc[r], state.check, "halted" if r == state.lasting else "flagged", d)
                for r, d in told.items()
            ]
        halted = {(s.symbol, s.market, s.check) for s in states if s.lasting is not None}
        series = good.loc[good["fresh"], ["symbol", "market"]].drop_duplicates().itertuples(index=False, name=None)
        passing += [(*s, c) for s in series if s not in past for c in HALTING if (*s, c) not in halted]
    issues = pd.DataFrame(found, columns=Issues.columns())
    types = {c: "datetime64[us, UTC]" if c == "ts" else "str" for c in issues}
    return Judged(pd.concat(kept, ignore_index=True), issues.astype(types), sorted(passing))


def _pardons(part: pd.DataFrame, accepted: pd.DataFrame) -> Pardons:
    """What a person has accepted, by its row in ``part``."""
    found: dict[int, set[str]] = {}
    if len(accepted):
        at = part[Bars.keys()].reset_index().merge(accepted, on=Bars.keys())
        for row, name in zip(at["index"], at["check_name"], strict=True):
            found.setdefault(int(row), set()).add(name)
    return found


def as_text(bar: Any) -> str:
    """A bar as JSON, for people and for ``tasks.verdict``."""
    return json.dumps({c: None if pd.isna(bar[c]) else bar[c] for c in Bars.columns()}, default=str)


def _issue(row: Any, check: str, outcome: str, detail: str) -> dict[str, Any]:
    told = {"check_name": check, "outcome": outcome, "detail": detail, "bar": as_text(row), "source": row["source"]}
    return {c: row[c] for c in Bars.keys()} | told  # noqa: SIM118 - a frame's keys


@dataclass(frozen=True)
class _State:
    """Where a series has gone wrong (row -> detail), and the row of it that still stands, if one does."""

    check: str
    symbol: str
    market: str
    rows: dict[int, str]
    lasting: int | None


@dataclass(frozen=True)
class _Traded:
    """The bars of traded series, one series after the other, and what a person accepted of them."""

    bars: pd.DataFrame
    first: Mask  # of its series
    factor: Ints  # thresholds in bars are so many times larger within the day
    pardons: Pardons

    def states(self, check: str, at: Mask, lasts: Mask, tell: Callable[[int], str]) -> Iterator[_State]:
        """``at``: where it went wrong. ``lasts``: where, having gone wrong there, it still is at the series' end."""
        series = np.cumsum(self.first)
        rows = self.bars.index.to_numpy()
        where = [int(i) for i in np.flatnonzero(at) if check not in self.pardons.get(int(rows[i]), ())]
        for number in dict.fromkeys(int(series[i]) for i in where):
            own = [i for i in where if series[i] == number]
            bar = self.bars.iloc[own[-1]]
            lasting = int(rows[own[-1]]) if lasts[own[-1]] else None
            yield _State(check, bar["symbol"], bar["market"], {int(rows[i]): tell(i) for i in own}, lasting)


def _states(
    good: pd.DataFrame, instruments: Mapping[str, Instrument], own: Quality, fronts: Mapping[str, str], pardons: Pardons
) -> Iterator[_State]:
    """Of each traded series what has gone wrong with it; what a person accepted is left out."""
    bars = good[(good["contract"] == "") | (good["contract"] == good["symbol"].map(fronts))]
    if bars.empty:
        return
    factor = np.where(bars["interval"].isin(["1d", "1w"]), 1, own.intraday)
    traded = _Traded(bars, ~bars.duplicated(SERIES).to_numpy(), factor, pardons)
    if own.gap_bars:
        yield from _gaps(traded, instruments, own)
    prices = bars[list(PRICES)].to_numpy()
    same = ((prices == np.roll(prices, 1, axis=0)) | np.isnan(prices)).all(axis=1) & ~traded.first
    told = "unchanged for {} bars, close {:g}; is the feed alive?"
    yield from _runs(traded, "stale prices", same, own.stale_bars, told)
    told = "no volume for {} bars, close {:g}; is it still traded?"
    yield from _runs(traded, "zero volume", (bars["volume"] == 0).to_numpy(), own.zero_volume_bars, told)
    if own.shift:
        yield from _shifts(bars[bars["interval"] == "1d"], own, pardons)


def _gaps(traded: _Traded, instruments: Mapping[str, Instrument], own: Quality) -> Iterator[_State]:
    """A gap lasts as long as the window on which scores stand holds it."""
    missing = _missing_bars(traded, instruments)

    def tell(i: int) -> str:
        since, until, interval = (
            traded.bars["ts"].iloc[i - 1],
            traded.bars["ts"].iloc[i],
            traded.bars["interval"].iloc[i],
        )
        days = f"--from {since:%Y-%m-%d} --to {until + pd.Timedelta(days=1):%Y-%m-%d}"
        what = f"{missing[i]} bars of {interval} are missing after {since:%Y-%m-%d %H:%M}"
        return f"{what}; `alphapivot ingest {days}` asks again"

    yield from traded.states(
        "gap", missing >= own.gap_bars * traded.factor, _bars_to_come(traded.first) < own.window, tell
    )


def _runs(traded: _Traded, check: str, true: Mask, count: int, told: str) -> Iterator[_State]:
    """Runs of ``count`` bars and more are told at their ``count``-th, and last while the newest bar belongs to them."""
    if not count:
        return
    length, to_come = _run_lengths(true, traded.first), _bars_to_come(traded.first)
    at_end, counts = length[np.arange(len(length)) + to_come], count * traded.factor
    close = traded.bars["close"].to_numpy()
    lasts = at_end - length == to_come
    yield from traded.states(check, length == counts, lasts, lambda i: told.format(counts[i], close[i]))


def _run_lengths(true: Mask, first: Mask) -> Ints:
    """How many in a row up to each are true, begun anew in each series."""
    at = np.arange(len(true))
    broken = np.maximum.accumulate(np.where(~true, at, np.where(first, at - 1, -1)))
    return at - broken


def _bars_to_come(first: Mask) -> Ints:
    """How many bars its series has after each."""
    ends = np.append(np.flatnonzero(first)[1:], len(first))
    to_come: Ints = ends[np.cumsum(first) - 1] - 1 - np.arange(len(first))
    return to_come


def _missing_bars(traded: _Traded, instruments: Mapping[str, Instrument]) -> Ints:
    """How many of the calendar's bars are missing between each bar and the one before it."""
    place = np.zeros(len(traded.bars), dtype=np.int64)
    of = {symbol: i.hours for symbol, i in instruments.items()}
    ts = pd.DatetimeIndex(traded.bars["ts"])
    for (calendar, interval), rows in bar_ends.rows_by_calendar(traded.bars, of).items():
        ends = bar_ends.bar_ends(calendar, interval, ts[rows].min() - pd.Timedelta("1us"), ts[rows].max())
        place[rows] = np.searchsorted(bar_ends.naive(ends), bar_ends.naive(ts[rows]), "right")
    return np.where(traded.first, 0, place - np.roll(place, 1) - 1)


def _shifts(daily: pd.DataFrame, own: Quality, pardons: Pardons) -> Iterator[_State]:
    """
    Are spot and futures a day apart? Joined by calendar day, their returns should agree best on the same day.

    Told where it begins: correlations over twice the window's days, on the same day against one day off.
    """
    day = daily["ts"].dt.floor("D")
    both = daily.assign(day=day, row=daily.index).drop_duplicates(["symbol", "market", "day"], keep="last")
    spot, futures = (both.loc[both["market"] == m, ["symbol", "day", "close", "row"]] for m in ("spot", "futures"))
    joined = spot.merge(futures, on=["symbol", "day"], suffixes=("", "_futures"))
    for symbol, pair in joined.groupby("symbol"):
        span = 2 * own.window
        if len(pair) <= span:
            continue
        a, b = (
            np.append(np.nan, np.diff(c) / np.abs(c[:-1]))
            for c in (pair["close"].to_numpy(), pair["close_futures"].to_numpy())
        )
        same, later, earlier = (_correlation(a, _moved(b, k), span) for k in (0, 1, -1))
        apart = np.fmax(later, earlier)
        wrong = apart > same + own.shift
        rows = pair["row"].to_numpy()
        begins = np.flatnonzero(wrong & ~np.append(False, wrong[:-1]))
        told = {
            int(rows[i]): f"over {span} days spot agrees with futures better a day apart (correlation {apart[i]:.2f}) "
            f"than on the same day ({same[i]:.2f}); the stamps of one may be in another time zone, or name the day "
            "before: see zone and stamp of its feed, daily_stamp of the instrument"
            for i in begins
            if "time-zone shift" not in pardons.get(int(rows[i]), ())
        }
        if told:
            begun = int(rows[begins[-1]])
            yield _State("time-zone shift", str(symbol), "spot", told, begun if wrong[-1] and begun in told else None)


def _moved(values: Floats, by: int) -> Floats:
    moved = np.roll(values, by)
    moved[:by] = np.nan
    if by < 0:
        moved[by:] = np.nan
    return moved


def _correlation(a: Floats, b: Floats, span: int) -> Floats:
    """Pearson's, over the ``span`` values up to each (NaN before them); pairs with a missing one are left out."""
    known = ~(np.isnan(a) | np.isnan(b))
    x, y = np.where(known, a, 0.0), np.where(known, b, 0.0)

    def rolling(values: Floats) -> Floats:
        total = np.append(0.0, np.cumsum(values))
        return np.append(np.full(span - 1, np.nan), total[span:] - total[:-span])

    n, sx, sy = rolling(known.astype(float)), rolling(x), rolling(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = rolling(x * y) - sx * sy / n
        found: Floats = covariance / np.sqrt((rolling(x * x) - sx**2 / n) * (rolling(y * y) - sy**2 / n))
    return found
