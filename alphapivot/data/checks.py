"""
Implausible bars: well formed, but not credible next to their series. Pure; the thresholds are those of [quality].

An implausible bar (wrong scale, split, spike) is quarantined; no entries while the newest bars of a series are, nor for
a window of bars after a spike that following bars confirmed, unless an operator explains it. A series in a bad state (a
gap, stale prices, no volume, spot and futures a day apart) is halted: no entries in that instrument until it recovers
or an operator accepts it. Each bar is judged by the earlier bars that passed, so the result is the same bar by bar and
all at once, except that bars to come release or confirm what was held.
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
from alphapivot.config.sections.instrument import hours_by_market
from alphapivot.data.outliers import Floats, Ints, Mask, Pardons, outliers
from alphapivot.frames import PRICES, Bars, Issues, firsts, kept, latest, looked_up, spans
from alphapivot.money import price_text

if TYPE_CHECKING:
    from alphapivot.calendar.schedule import Calendar
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.sections.screen import Quality

HALTING = ("gap", "stale prices", "zero volume", "time-zone shift")


def lookback(checks: Iterable[Quality]) -> int:
    """Number of bars before the first judged one that the checks need."""
    return max(2 * thresholds.window + 2 for thresholds in checks)


@dataclass(frozen=True)
class Judged:
    """
    ``issues``: Issues. ``passing``: (symbol, market, check) of the halting checks that pass now. ``stops``: (key
    columns, check_name, stops_until) of confirmed spikes, which stop entries until then.
    """

    bars: pd.DataFrame  # the new Bars that may be stored
    issues: pd.DataFrame
    passing: list[tuple[str, str, str]]
    stops: pd.DataFrame


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
    Split ``new`` Bars into bars to store and bars to quarantine, and find the series to halt.

    ``before``: stored Bars of the same series, ``lookback`` of them before the first new one, and those in between.
    ``fronts``: symbol -> the traded contract; other contracts of a futures market may be illiquid. ``accepted``: (key
    columns, check_name) of bars that an operator has accepted: they no longer fail that check. ``past``: (symbol,
    market) of series whose newest bars are stored and not in ``new``: an old gap neither halts nor reopens them today.
    """
    bars, rows, passing, stops = [new.iloc[:0]], [], [], []
    both = pd.concat([before.assign(fresh=False), new.assign(fresh=True)], ignore_index=True)
    both = latest(both, *SERIES)
    for thresholds in dict.fromkeys(checks[s] for s in new["symbol"].unique()):  # usually a single one
        same = both["symbol"].isin([s for s, c in checks.items() if c == thresholds])
        part = both if same.all() else both[same].reset_index(drop=True)
        pardons = _pardons(part, accepted)
        odd = list(outliers(part, instruments, thresholds, pardons))
        out = [row for row, _, outcome, _ in odd if outcome != "halted"]
        good = part.drop(index=out).reset_index(drop=True) if out else part
        states = [
            replace(state, lasting=None) if (state.symbol, state.market) in past else state
            for state in _states(good, instruments, thresholds, fronts, _pardons(good, accepted))
        ]
        passed = kept(good, good["fresh"])
        bars.append(passed[Bars.columns()])
        for row, name, outcome, detail in odd:
            bar: Any = part.loc[row]
            traded = bar["contract"] in ("", fronts.get(bar["symbol"]))
            rows.append(_issue(bar, name, outcome if traded or outcome != "held" else "quarantined", detail))
            if outcome == "halted":
                until = _after(
                    instruments[bar["symbol"]].hours_of(bar["market"]), bar["interval"], bar["ts"], thresholds.window
                )
                until = until if traded else bar["ts"]
                stops.append({**rows[-1], "stops_until": until})
        for state in states:
            details = {r: d for r, d in state.rows.items() if good.loc[r, "fresh"] or r == state.lasting}
            rows += [
                _issue(good.loc[r], state.check, "halted" if r == state.lasting else "flagged", d)
                for r, d in details.items()
            ]
        halted = {(s.symbol, s.market, s.check) for s in states if s.lasting is not None}
        series = spans(passed, "symbol", "market").index
        passing += [(*s, c) for s in series if s not in past for c in HALTING if (*s, c) not in halted]
    issues = pd.DataFrame(rows, columns=Issues.columns())
    types = {c: "datetime64[us, UTC]" if c == "ts" else "str" for c in issues}
    ends = pd.DataFrame(stops, columns=[*Bars.keys(), "check_name", "stops_until"])
    return Judged(pd.concat(bars, ignore_index=True), issues.astype(types), sorted(passing), ends)


def _after(calendar: Calendar, interval: str, ts: pd.Timestamp, count: int) -> pd.Timestamp:
    """The end of the ``count``-th bar after ``ts``; the calendar's last bar if it ends before."""
    width = bar_ends.width(interval)
    ends = bar_ends.ends_between(calendar, interval, bar_ends.naive(ts), bar_ends.naive(ts + 20 * count * width))
    return bar_ends.aware(ends[:count][-1:])[0] if len(ends) else ts


def _pardons(part: pd.DataFrame, accepted: pd.DataFrame) -> Pardons:
    """Row in ``part`` -> the checks that an operator has accepted for it."""
    pardons: dict[int, set[str]] = {}
    if len(accepted):
        at = part[Bars.keys()].reset_index().merge(accepted, on=Bars.keys())
        for row, name in zip(at["index"], at["check_name"], strict=True):
            pardons.setdefault(int(row), set()).add(name)
    return pardons


def as_text(bar: Any) -> str:
    """A bar as JSON, for reports and for ``tasks.verdict``."""
    return json.dumps({c: None if pd.isna(bar[c]) else bar[c] for c in Bars.columns()}, default=str)


def _issue(row: Any, check: str, outcome: str, detail: str) -> dict[str, Any]:
    issue = {"check_name": check, "outcome": outcome, "detail": detail, "bar": as_text(row), "source": row["source"]}
    return {c: row[c] for c in Bars.keys()} | issue  # noqa: SIM118 - a frame's keys


@dataclass(frozen=True)
class _State:
    """Rows at which a series fails a check (row -> detail), and the row whose failure lasts to the end, or None."""

    check: str
    symbol: str
    market: str
    rows: dict[int, str]
    lasting: int | None


@dataclass(frozen=True)
class _Traded:
    """The bars of the traded series, one series after the other, and the accepted checks."""

    bars: pd.DataFrame
    first: Mask  # the first bar of its series
    factor: Ints  # multiplies thresholds that count bars: above 1 for intraday bars
    pardons: Pardons

    def states(self, check: str, at: Mask, lasts: Mask, detail: Callable[[int], str]) -> Iterator[_State]:
        """``at``: the bars that fail. ``lasts``: the bars from which a failure lasts to the end of the series."""
        series = np.cumsum(self.first)
        rows = self.bars.index.to_numpy()
        failures = [int(i) for i in np.flatnonzero(at) if check not in self.pardons.get(int(rows[i]), ())]
        for number in dict.fromkeys(int(series[i]) for i in failures):
            positions = [i for i in failures if series[i] == number]
            bar = self.bars.iloc[positions[-1]]
            lasting = int(rows[positions[-1]]) if lasts[positions[-1]] else None
            yield _State(check, bar["symbol"], bar["market"], {int(rows[i]): detail(i) for i in positions}, lasting)


def _states(
    good: pd.DataFrame,
    instruments: Mapping[str, Instrument],
    thresholds: Quality,
    fronts: Mapping[str, str],
    pardons: Pardons,
) -> Iterator[_State]:
    """The failed checks of each traded series, without the accepted ones."""
    spot = (good["contract"] == "").to_numpy()
    bars = good if spot.all() else kept(good, spot | (good["contract"] == looked_up(good["symbol"], fronts, "")))
    if bars.empty:
        return
    factor = looked_up(bars["interval"], {"1d": 1, "1w": 1}, thresholds.intraday)
    traded = _Traded(bars, firsts(bars, *SERIES), factor, pardons)
    if thresholds.gap_bars:
        yield from _gaps(traded, instruments, thresholds)
    prices = bars[list(PRICES)].to_numpy()
    same = ((prices == np.roll(prices, 1, axis=0)) | np.isnan(prices)).all(axis=1) & ~traded.first
    text = "unchanged for {} bars, close {}; is the feed alive?"
    yield from _runs(traded, "stale prices", same, thresholds.stale_bars, text)
    text = "no volume for {} bars, close {}; is it still traded?"
    yield from _runs(traded, "zero volume", (bars["volume"] == 0).to_numpy(), thresholds.zero_volume_bars, text)
    if thresholds.shift:
        yield from _shifts(kept(bars, bars["interval"] == "1d"), thresholds, pardons)


def _gaps(traded: _Traded, instruments: Mapping[str, Instrument], thresholds: Quality) -> Iterator[_State]:
    """A gap halts as long as it lies within the window of the checks."""
    missing = _missing_bars(traded, instruments)

    def detail(i: int) -> str:
        since, until, interval = (
            traded.bars["ts"].iloc[i - 1],
            traded.bars["ts"].iloc[i],
            traded.bars["interval"].iloc[i],
        )
        days = f"--from {since:%Y-%m-%d} --to {until + pd.Timedelta(days=1):%Y-%m-%d}"
        gap = f"{missing[i]} bars of {interval} are missing after {since:%Y-%m-%d %H:%M}"
        return f"{gap}; `alphapivot ingest {days}` requests them again"

    yield from traded.states(
        "gap", missing >= thresholds.gap_bars * traded.factor, _bars_to_come(traded.first) < thresholds.window, detail
    )


def _runs(traded: _Traded, check: str, true: Mask, count: int, text: str) -> Iterator[_State]:
    """Runs of at least ``count`` bars, reported at bar ``count``; they last while the newest bar belongs to them."""
    if not count:
        return
    length, to_come = _run_lengths(true, traded.first), _bars_to_come(traded.first)
    at_end, counts = length[np.arange(len(length)) + to_come], count * traded.factor
    close = traded.bars["close"].to_numpy()
    lasts = at_end - length == to_come
    yield from traded.states(check, length == counts, lasts, lambda i: text.format(counts[i], price_text(close[i])))


def _run_lengths(true: Mask, first: Mask) -> Ints:
    """The number of true values in a row up to each bar, counted within each series."""
    at = np.arange(len(true))
    broken = np.maximum.accumulate(np.where(~true, at, np.where(first, at - 1, -1)))
    return at - broken


def _bars_to_come(first: Mask) -> Ints:
    """The number of bars after each bar in its series."""
    ends = np.append(np.flatnonzero(first)[1:], len(first))
    to_come: Ints = ends[np.cumsum(first) - 1] - 1 - np.arange(len(first))
    return to_come


def _missing_bars(traded: _Traded, instruments: Mapping[str, Instrument]) -> Ints:
    """The number of the calendar's bars missing between each bar and the one before it."""
    place = np.zeros(len(traded.bars), dtype=np.int64)
    of = hours_by_market(instruments.values())
    ts = pd.DatetimeIndex(traded.bars["ts"])
    for (calendar, interval), rows in bar_ends.rows_by_calendar(traded.bars, of).items():
        ends = bar_ends.bar_ends(calendar, interval, ts[rows].min() - pd.Timedelta("1us"), ts[rows].max())
        place[rows] = np.searchsorted(bar_ends.naive(ends), bar_ends.naive(ts[rows]), "right")
    return np.where(traded.first, 0, place - np.roll(place, 1) - 1)


def _shifts(daily: pd.DataFrame, thresholds: Quality, pardons: Pardons) -> Iterator[_State]:
    """
    Spot and futures stamped a day apart: joined by calendar day, their returns should correlate best on the same day.

    Reported where it begins; correlations are over twice the window's days, on the same day and one day off.
    """
    if daily["market"].nunique() < 2:
        return
    day = daily["ts"].dt.floor("D")
    both = daily.assign(day=day, row=daily.index).drop_duplicates(["symbol", "market", "day"], keep="last")
    spot, futures = (both.loc[both["market"] == m, ["symbol", "day", "close", "row"]] for m in ("spot", "futures"))
    joined = spot.merge(futures, on=["symbol", "day"], suffixes=("", "_futures"))
    for symbol, pair in joined.groupby("symbol"):
        span = 2 * thresholds.window
        if len(pair) <= span:
            continue
        a, b = (
            np.append(np.nan, np.diff(c) / np.abs(c[:-1]))
            for c in (pair["close"].to_numpy(), pair["close_futures"].to_numpy())
        )
        same, later, earlier = (_correlation(a, _moved(b, k), span) for k in (0, 1, -1))
        apart = np.fmax(later, earlier)
        wrong = apart > same + thresholds.shift
        rows = pair["row"].to_numpy()
        begins = np.flatnonzero(wrong & ~np.append(False, wrong[:-1]))
        details = {
            int(rows[i]): f"over {span} days spot correlates with futures better a day apart ({apart[i]:.2f}) "
            f"than on the same day ({same[i]:.2f}); one of them may have stamps in another time zone, or of the day "
            "before: check zone and stamp of its feed, and daily_stamp of the instrument"
            for i in begins
            if "time-zone shift" not in pardons.get(int(rows[i]), ())
        }
        if details:
            last = int(rows[begins[-1]])
            lasting = last if wrong[-1] and last in details else None
            yield _State("time-zone shift", str(symbol), "spot", details, lasting)


def _moved(values: Floats, by: int) -> Floats:
    moved = np.roll(values, by)
    moved[:by] = np.nan
    if by < 0:
        moved[by:] = np.nan
    return moved


def _correlation(a: Floats, b: Floats, span: int) -> Floats:
    """Pearson's, over the ``span`` values up to each (NaN before them); pairs with a missing value are skipped."""
    both = ~(np.isnan(a) | np.isnan(b))
    x, y = np.where(both, a, 0.0), np.where(both, b, 0.0)

    def rolling(values: Floats) -> Floats:
        total = np.append(0.0, np.cumsum(values))
        return np.append(np.full(span - 1, np.nan), total[span:] - total[:-span])

    n, sx, sy = rolling(both.astype(float)), rolling(x), rolling(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = rolling(x * y) - sx * sy / n
        correlation: Floats = covariance / np.sqrt((rolling(x * x) - sx**2 / n) * (rolling(y * y) - sy**2 / n))
    return correlation
