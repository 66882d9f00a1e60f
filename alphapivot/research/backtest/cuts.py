"""
Scores computed again from bars cut off at many instants, many at a time: the bars of a symbol up to a cut are scored
under a name of their own, beside those up to other cuts. So no score finds a later bar under its own name, and a pillar
needs one call where it needed hundreds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.errors import DataError
from alphapivot.frames import Signals
from alphapivot.scoring import inputs
from pillars.base import Panel
from pillars.kit import windows

if TYPE_CHECKING:
    from alphapivot.calendar.schedule import Calendar
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef
    from pillars.base import Pillar

AT_ONCE = 200  # symbols x cuts
LAST = 5  # bars compared before each cut: a pillar that looks ahead differs in the last ones
Cut = tuple[str, datetime]  # a symbol, and the instant after which its bars are cut off
Rows = npt.NDArray[np.int64]
Scoring = Callable[[str], AbstractContextManager[None]]  # pillar -> what its calls are watched with


def batches(cuts: Sequence[tuple[datetime, Collection[str]]], *, alone: bool) -> Iterator[list[Cut]]:
    """``cuts`` (sorted) as lists of a size that is scored at once, the oldest first; ``alone``: each cut by itself."""
    if alone:
        yield from ([(symbol, cut) for symbol in sorted(symbols)] for cut, symbols in cuts)
        return
    pairs = [(symbol, cut) for cut, symbols in cuts for symbol in sorted(symbols)]
    for begin in range(0, len(pairs), AT_ONCE):
        yield pairs[begin : begin + AT_ONCE]


def since(cut: datetime, interval: str, hours: Calendar | None = None) -> datetime:
    """The instant after which scores are compared that end by ``cut``: LAST bars of ``hours``, or at least as many."""
    early = cut - LAST * bar_ends.width(interval) - timedelta(days=4)
    ends = bar_ends.bar_ends(hours, interval, early, cut) if hours is not None else pd.DatetimeIndex([])
    return early if len(ends) <= LAST else ends[-LAST - 1].to_pydatetime()


def compare(
    hub: Hub,
    run: RunRef,
    settings: Settings,
    pillars: Mapping[str, Pillar],
    interval: str,
    cuts: Sequence[Cut],
    scoring: Scoring,
    tag: str,
    shared: Mapping[str, pd.DataFrame],
) -> int:
    """
    How many stored scores of each symbol just before its cut are those of the bars up to it; raises DataError unless
    all are. ``pillars``: all ``together``, or none; each scores within ``scoring`` of its name. ``tag``: another one in
    each call, so that nothing that a pillar remembers by name is found again. ``shared``: pillar -> what symbols have
    in common.
    """
    symbols = sorted({symbol for symbol, _ in cuts})
    instruments = [settings.instruments[s] for s in symbols]
    after = [since(cut, interval, settings.instruments[symbol].signal_hours) for symbol, cut in cuts]
    first, last = min(after), max(cut for _, cut in cuts)
    # bars before a pillar's window do not change its scores
    begin = [_begin(pillars, a, interval) for a in after]
    beside = sorted({column for pillar in pillars.values() for column in pillar.inputs})
    bars = inputs.signal_bars(hub, instruments, interval, min(begin), last, run.known_at, inputs=beside)
    rows, names = _cut_off(bars, cuts, begin, tag)
    cut_off = bars.take(rows).assign(symbol=names)
    keys = {"scope": run.scope, "pillar": list(pillars), "symbol": symbols, "interval": interval}
    stored = hub.scores(Signals, keys, after=first, until=last)
    agreed = 0
    for name, pillar in pillars.items():
        seen = cut_off.drop(columns=[column for column in beside if column not in pillar.inputs])
        with scoring(name):
            recomputed = windows.score(pillar, seen, interval, after=first, common=shared.get(name))
        recomputed = _late(recomputed, after)
        mine = stored[stored["pillar"] == name]
        rows, names = _cut_off(mine, cuts, after, tag)
        _check_equal(mine.take(rows).assign(symbol=names), recomputed, name, interval, cuts)
        agreed += len(rows)
    return agreed


def compare_common(
    hub: Hub,
    run: RunRef,
    settings: Settings,
    pillar: Pillar,
    interval: str,
    cuts: Sequence[datetime],
    scoring: Scoring,
) -> pd.DataFrame:
    """
    What all symbols have in common at the instants before ``cuts`` (sorted) and between them: the columns of
    ``Pillar.common``. Raises DataError unless it is the same from the closes up to each cut.
    """
    universe, waiting, found = (
        list(settings.instruments.values()),
        deque(cuts),
        [windows.common_of(pillar, (), interval)],
    )
    begin = windows.common_after(pillar, since(cuts[0], interval), interval)
    for first, after, end in windows.common_windows(pillar, interval, begin or windows.ORIGIN, cuts[-1]):
        closes = Panel.of(inputs.closes(hub, universe, interval, first, end, run.known_at), ("close",))
        cut_off = list[tuple[datetime, pd.DataFrame]]()
        with scoring(pillar.name):
            while waiting and waiting[0] <= end:  # the oldest first: what it remembers of later closes is not there
                cut = waiting.popleft()
                cut_off.append((cut, windows.common(pillar, closes.until(bar_ends.naive(cut)), interval, after)))
            whole = windows.common(pillar, closes, interval, after)
        for cut, known in cut_off:
            here = whole[whole["ts"] <= cut]
            if not here.reset_index(drop=True).equals(known):
                raise DataError(
                    f"lookahead: pillar {pillar.name!r} finds something else in common to all symbols on {interval} up"
                    f" to {cut:%Y-%m-%d %H:%M} UTC when it knows the bars after it: fix the pillar (`alphapivot pillars"
                    " test FILE` finds where); this backtest has no result"
                )
        found.append(whole)
    return pd.concat(found, ignore_index=True)


def _begin(pillars: Mapping[str, Pillar], after: datetime, interval: str) -> datetime:
    """The instant after which a symbol's own bars are needed to score those after ``after``."""
    starts = (
        windows.begin(p, after, interval) if p.together else windows.window_start(after, p.history, interval)
        for p in pillars.values()
    )
    return min(start for start in starts if start is not None)


def _cut_off(frame: pd.DataFrame, cuts: Sequence[Cut], after: Sequence[datetime], tag: str) -> tuple[Rows, pd.Series]:
    """The rows of ``frame`` in (after, cut] of each cut's symbol, and the name of the cut for each."""
    order = frame.reset_index(drop=True).sort_values(["symbol", "ts"], kind="stable").index.to_numpy()
    ts = bar_ends.naive(frame["ts"])[order]
    symbols = frame["symbol"].to_numpy(dtype=object)[order]
    edges = {s: (a, b) for s, a, b in _runs(symbols)}
    taken: list[Rows] = [np.empty(0, np.int64)]
    counts = []
    for (symbol, cut), begin in zip(cuts, after, strict=True):
        a, b = edges.get(symbol, (0, 0))
        lo, hi = (a + int(np.searchsorted(ts[a:b], bar_ends.naive(at), "right")) for at in (begin, cut))
        taken.append(order[lo:hi])
        counts.append(hi - lo)
    names = pd.array([f"{tag}-{n}" for n in range(len(cuts))], dtype="str")
    return np.concatenate(taken), names.take(np.repeat(np.arange(len(cuts)), counts))  # type: ignore[return-value]


def _runs(symbols: npt.NDArray[Any]) -> Iterator[tuple[str, int, int]]:
    if len(symbols):
        edges = np.flatnonzero(np.append(True, symbols[1:] != symbols[:-1]))
        for a, b in zip(edges, np.append(edges[1:], len(symbols)), strict=True):
            yield str(symbols[a]), int(a), int(b)


def _numbers(symbols: pd.Series) -> Rows:
    """The number of the cut of each name."""
    codes, names = pd.factorize(symbols)
    return np.array([int(name.rpartition("-")[2]) for name in names], np.int64)[codes]


def _late(signals: pd.DataFrame, after: Sequence[datetime]) -> pd.DataFrame:
    """Those of each cut that are later than its ``after``."""
    begins = bar_ends.naive(pd.DatetimeIndex(list(after)))[_numbers(signals["symbol"])]
    late: pd.DataFrame = signals[bar_ends.naive(signals["ts"]) > begins]
    return late


def _check_equal(stored: pd.DataFrame, recomputed: pd.DataFrame, name: str, interval: str, cuts: Sequence[Cut]) -> None:
    """Raises DataError for the first score that differs. ``symbol`` ends with the number of the cut."""
    both = stored.merge(recomputed, on=["symbol", "ts"], how="outer", suffixes=("", "_again"), indicator=True)
    same = both["_merge"] == "both"
    for column in ("score", "gate"):
        a, b = (both[c].to_numpy(np.float32) for c in (column, f"{column}_again"))
        same &= (a == b) | (np.isnan(a) & np.isnan(b))
    same &= both["veto"].fillna("") == both["veto_again"].fillna("")
    if same.all():
        return
    first = both[~same].sort_values(["ts", "symbol"]).iloc[0]
    symbol, cut = cuts[int(first.symbol.rpartition("-")[2])]
    raise DataError(
        f"lookahead: pillar {name!r} scores {symbol} {interval} at {first.ts:%Y-%m-%d %H:%M} UTC as "
        f"{_describe(first, '')} over the whole history, and as {_describe(first, '_again')} over the bars up to "
        f"{cut:%Y-%m-%d %H:%M} only. A score that depends on later bars could not have been traded: "
        f"fix the pillar (`alphapivot pillars test FILE` finds where); this backtest has no result"
    )


def _describe(row: pd.Series, suffix: str) -> str:
    score, gate, veto = (row[f"{name}{suffix}"] for name in ("score", "gate", "veto"))
    parts = [] if pd.isna(score) else [f"score {score:g}"]
    parts += [] if pd.isna(gate) else [f"gate {gate:g}"]
    parts += [] if pd.isna(veto) else [f"veto {veto}"]
    return ", ".join(parts) or "unknown"
