"""
Jumps: a wrong scale, an unadjusted split, a spike. Pure.

Each bar is judged by the earlier bars of its series that passed, and a jump by the bars that follow it as well. If they
return to the old level, the one bar was wrong. If they stay, a spike becomes a price once enough bars confirm it, while
a scale or a simple ratio stays out until a split event or an operator explains it: following bars cannot tell a split
from a crash. A series whose newest bars are out is held: its price is unknown.

Vectorised checks find the first suspects of all series at once; a series is then walked bar by bar only from a suspect
on, until its lookback holds no quarantined bar.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.calendar.bar_ends import SERIES
from alphapivot.frames import firsts, looked_up
from alphapivot.money import price_text

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.sections.screen import Quality

DAY = 86_400_000_000  # microseconds
BREAK = 4 * DAY  # no market closes for longer, and a longer gap makes no move more likely
NORMAL = 1.4826  # a normal distribution's standard deviation over its median absolute value
LEVEL, FEWEST_LEVELS = 20, 3  # bars whose median close is the usual price: at most, at least
FEWEST = 20  # changes needed to judge the next one
RATIOS = np.array([1.5, 2, 3, 4, 5, 7, 8, 10, 20])
SPLITS = np.concatenate([RATIOS, 1 / RATIOS])
WHOLE = np.concatenate([RATIOS[1:], 1 / RATIOS[1:]])
WIDE = 4  # times [quality] split: how far from a whole ratio a spike may be a split on a day on which prices moved too
CALM = 0.001  # share of a price: floor of the usual change, for markets that hardly move
SCALES = np.array([0.01, 0.1, 10, 100])
Outcome = Literal["quarantined", "held", "halted"]  # held: quarantined, and nothing passed since; halted: it is a price
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Pardons = Mapping[int, set[str]]  # row -> the checks that an operator has accepted for it
Odd = tuple[int, str, Outcome, str]  # row, check, outcome, detail


@dataclass(frozen=True)
class _Columns:
    """The bars of many series, one after the other."""

    ts: Ints  # microseconds
    width: Ints  # microseconds, of an intraday bar; BREAK for longer ones, which nights do not interrupt
    open: Floats
    close: Floats
    first: Mask  # the first bar of its series
    fresh: Mask
    partner: Floats  # return of the other market over the same time; NaN where unknown
    floor: Floats  # a tick: the smallest change that counts
    spot: Mask
    positive: Mask


def outliers(
    part: pd.DataFrame, instruments: Mapping[str, Instrument], thresholds: Quality, pardons: Pardons
) -> Iterator[Odd]:
    """The implausible fresh bars, and the jumps that the bars after them confirm."""
    widths = {i: int(bar_ends.width(i) / timedelta(microseconds=1)) for i in part["interval"].unique()}
    widths = {i: width if width < DAY else BREAK for i, width in widths.items()}
    bars = _Columns(
        ts=part["ts"].to_numpy("datetime64[us]").astype(np.int64),
        width=looked_up(part["interval"], widths),
        open=part["open"].to_numpy(),
        close=part["close"].to_numpy(),
        first=firsts(part, *SERIES),
        fresh=part["fresh"].to_numpy(),
        partner=_partner_changes(part),
        floor=looked_up(part["symbol"], {s: float(i.tick) for s, i in instruments.items()}),
        spot=(part["market"] == "spot").to_numpy(),
        positive=~part["symbol"].isin([s for s, i in instruments.items() if i.allow_nonpositive]).to_numpy(),
    )
    suspects = np.flatnonzero(_suspicious(bars, thresholds) & bars.fresh)
    ends = np.append(np.flatnonzero(bars.first), len(part))
    for begin, end in pairwise(ends):
        inside = suspects[np.searchsorted(suspects, begin) : np.searchsorted(suspects, end)]
        if len(inside):
            yield from _walk(bars, range(begin, end), inside, thresholds, pardons)


def _suspicious(bars: _Columns, thresholds: Quality) -> Mask:
    """The bars that fail if all earlier bars pass, without regard to the other market and to accepted bars."""
    before = np.where(bars.first, np.nan, np.roll(bars.close, 1))
    change = _change(before, bars.close, bars.ts - np.roll(bars.ts, 1), bars.width, bars.positive)
    with np.errstate(invalid="ignore", divide="ignore"):
        floor = np.where(bars.positive, np.maximum(bars.floor / before, CALM), bars.floor)
        # medians cost more than all else here: they are needed only where a bar may fail, whatever they are
        large = (change / (NORMAL * floor) > thresholds.spike_z) & (thresholds.spike_z > 0)
        usual = _median_before(change, bars.first, thresholds.window, FEWEST, large)
        level = _median_before(bars.close, bars.first, LEVEL, FEWEST_LEVELS, _moved(before, bars, thresholds.scale))
        bad = change / (NORMAL * np.maximum(usual, floor)) > thresholds.spike_z
        bad |= _near(bars.close / level, SCALES, thresholds.scale) & bars.positive
        jump = np.where(np.isnan(bars.open), bars.close, bars.open) / before
        bad |= _near(jump, SPLITS, thresholds.split) & bars.positive & bars.spot
    return np.asarray(bad, dtype=bool)


def _moved(before: Floats, bars: _Columns, scale: float) -> Mask:
    """
    True where a price may be a tenth or ten times its level: that is at most LEVEL bars away, so one of the steps since
    was at least that long.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        step = np.abs(np.log(bars.close / before))
    long = ~(step < 0.99 * (np.log(SCALES[2]) - scale) / LEVEL) & ~bars.first & bars.positive
    return _within(long, 0, LEVEL)


def _within(true: Mask, before: int, after: int) -> Mask:
    """True for each value that has a true one at most ``before`` places after it, or ``after`` places before it."""
    count, at = np.append(0, np.cumsum(true)), np.arange(len(true))
    return count[np.minimum(at + before + 1, len(true))] > count[np.maximum(at - after, 0)]


def _median_before(values: Floats, first: Mask, window: int, fewest: int, wanted: Mask) -> Floats:
    """The median of up to ``window`` values before each ``wanted`` one, within its series; else NaN."""
    rows = np.flatnonzero(_within(wanted, window, 0))
    # ``window`` missing values between two series, or two parts of one, keep them apart
    at = np.arange(len(rows)) + np.cumsum(first[rows] | (np.diff(rows, prepend=-1) > 1)) * window
    apart = np.full(int(at[-1]) + 1 if len(at) else 0, np.nan)
    apart[at] = values[rows]
    medians = np.full(len(values), np.nan)
    medians[rows] = pd.Series(apart).rolling(window, min_periods=fewest).median().shift().to_numpy()[at]
    return np.where(wanted, medians, np.nan)


def _near(ratio: Any, targets: Floats, tolerance: float) -> Mask:
    """True where a ratio is within the tolerance of a target, on a log scale. A tolerance of 0 turns the check off."""
    with np.errstate(invalid="ignore", divide="ignore"):
        place, targets = np.log(np.asarray(ratio, dtype=float)), np.log(targets)
        far = np.abs(place) > np.abs(targets).min() - 2 * tolerance  # the rest, nearly all, is near none
        near = np.zeros(place.shape, dtype=bool)
        near[far] = (np.abs(place[far][..., None] - targets) < tolerance).any(axis=-1)
    return near


def _walk(bars: _Columns, rows: range, suspects: Ints, thresholds: Quality, pardons: Pardons) -> Iterator[Odd]:
    """Walk one series from its first suspect on, each bar judged by the earlier ones that passed."""
    memory = max(thresholds.window, LEVEL) + 1
    last_bad, at = -1, int(suspects[0])
    kept: list[int] = list(range(max(rows.start, at - memory), at))
    while at < rows.stop:
        if at - last_bad > memory or last_bad < 0:  # the lookback is the one of the vectors: skip to the next suspect
            following = suspects[suspects >= at]
            if not len(following):
                return
            if following[0] > at:
                at = int(following[0])
                kept = list(range(max(rows.start, at - memory), at))
        wrong = _wrong(bars, at, kept, thresholds) if bars.fresh[at] and kept else None
        if wrong and wrong[0] not in pardons.get(at, ()):
            check, detail = wrong
            stays = _stays(bars, at, bars.close[kept[-1]], rows.stop, pardons)
            confirmed = check == "spike" and 0 < thresholds.confirm_bars <= len(stays)
            if confirmed:
                text = f"{detail}; the next {thresholds.confirm_bars} bars confirm it as a price, its cause is unknown"
                yield at, check, "halted", text
                kept = [*kept[-memory + 1 :], at]
            else:
                open_end = at + len(stays) + 1 == rows.stop
                follow = stays if check != "spike" or open_end else range(0)
                outcome: Outcome = "held" if open_end else "quarantined"
                yield at, check, outcome, detail
                same = f"at the level of the bar of {np.datetime64(int(bars.ts[at]), 'us')}"
                yield from ((row, check, outcome, f"{same}: {detail}") for row in follow)
                at += len(follow)
            last_bad = at
        else:
            kept = [*kept[-memory + 1 :], at]
        at += 1


def _stays(bars: _Columns, at: int, before: float, stop: int, pardons: Pardons) -> range:
    """The new bars after a jump that stay where it led: each is nearer to the bar before it than to ``before``."""
    row = at + 1
    while row < stop and row not in pardons and bars.fresh[row]:
        close, last = bars.close[row], bars.close[row - 1]
        if bars.positive[row]:
            close, last, old = np.log(close), np.log(last), np.log(before)
        else:
            old = before
        if abs(close - last) > abs(close - old):
            break
        row += 1
    return range(at + 1, row)


def _change(before: Any, after: Any, elapsed: Any, width: Any, positive: Any) -> Any:
    """
    The absolute change from one close to the next, as a share of the first (in points where prices may be negative).

    Scaled by the square root of the time, since a random walk goes further over a night without bars.
    """
    bars = np.clip(elapsed, width, BREAK) / width
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs(after - before) / np.sqrt(bars) / np.where(positive, before, 1)


def _wrong(bars: _Columns, at: int, kept: list[int], thresholds: Quality) -> tuple[str, str] | None:
    close, previous, partner = bars.close[at], bars.close[kept[-1]], bars.partner[at]
    if previous and partner * (close - previous) > 0 and abs(partner) >= abs(close / previous - 1) / 2:
        return None  # the other market moved too
    level = float(np.median(bars.close[kept[-LEVEL:]]))
    if len(kept) >= FEWEST_LEVELS and bars.positive[at] and _near(close / level, SCALES, thresholds.scale):
        times = SCALES[int(np.abs(np.log(SCALES) - np.log(close / level)).argmin())]
        usual = f"the usual {price_text(level)}; expected the same scale"
        return "wrong scale", f"close {price_text(close)} is {times:g} times {usual}"
    begins = close if np.isnan(bars.open[at]) else bars.open[at]
    if bars.positive[at] and bars.spot[at] and _near(begins / previous, SPLITS, thresholds.split):
        ratio = f"{begins / previous:.3g}"
        return "split", f"it starts at {ratio} times the previous close, {price_text(previous)}; an unadjusted split?"
    rows = np.array([*kept[-thresholds.window - 1 :], at])
    from_, to = rows[:-1], rows[1:]
    changes = _change(
        bars.close[from_], bars.close[to], bars.ts[to] - bars.ts[from_], bars.width[to], bars.positive[to]
    )
    if thresholds.spike_z and len(changes) > FEWEST:
        floor = max(bars.floor[at] / previous, CALM) if bars.positive[at] else bars.floor[at]
        z = float(changes[-1] / (NORMAL * max(float(np.median(changes[:-1])), floor)))
        if z > thresholds.spike_z:
            change = f"{price_text(previous)} to {price_text(close)}"
            ratios = np.array([begins, close]) / previous
            if bars.positive[at] and bars.spot[at] and _near(ratios, WHOLE, WIDE * thresholds.split).any():
                return "split", f"{change}, {close / previous:.3g} times as much; an unadjusted split?"
            return "spike", f"{change} is a robust z-score of {z:.0f}, allowed {thresholds.spike_z:g}"
    return None


def _partner_changes(part: pd.DataFrame) -> Floats:
    """For each bar the return of the symbol's other market over the same time; NaN where unknown."""
    changes = np.full(len(part), np.nan)
    if part["market"].nunique() < 2:
        return changes
    bars = part[[*SERIES, "ts", "close"]].reset_index(names="row")
    bars["start"] = bars.groupby(SERIES)["ts"].shift()
    for interval, same in bars.groupby("interval"):
        for market, other in (("spot", "futures"), ("futures", "spot")):
            own_bars = same[(same["market"] == market) & same["start"].notna()].sort_values("ts")
            partner_bars = same.loc[same["market"] == other, ["symbol", "contract", "ts", "close"]].sort_values("ts")
            if own_bars.empty or partner_bars.empty:
                continue
            merge: dict[str, Any] = {
                "by": "symbol",
                "direction": "nearest",
                "tolerance": bar_ends.width(str(interval)) / 2,
            }
            after = pd.merge_asof(own_bars, partner_bars, on="ts", suffixes=("", "_after"), **merge)
            after = after.sort_values("start")
            partner_bars = partner_bars.rename(columns={"ts": "start"})
            whole = pd.merge_asof(after, partner_bars, on="start", suffixes=("", "_before"), **merge)
            change = whole["close_after"] / whole["close_before"] - 1
            changes[whole["row"]] = change.where(whole["contract_after"] == whole["contract_before"])
    return changes
