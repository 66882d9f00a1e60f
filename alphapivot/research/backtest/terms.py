"""
The terms behind each decision: those of scores that may trigger a trade are computed for a whole bar range at once,
those of held symbols on demand, several scores ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from alphapivot.scoring import blend

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.research.backtest.market import BarRange
    from alphapivot.runs import RunRef

Records = list[dict[str, Any]]
AT_ONCE = 1_000  # rows converted to records together
AHEAD = 200  # scores of a held symbol computed together
TOO_OLD = timedelta(days=10)  # older composites are never acted on


class Terms:
    """The terms of the composites ``asking`` (symbol, ts) after ``after`` - TOO_OLD, and of others on demand."""

    def __init__(
        self, hub: Hub, run: RunRef, settings: Settings, asking: pd.DataFrame, *, after: datetime, until: datetime
    ) -> None:
        self._inputs = hub, settings, run
        self._asking = _Sheet(self._blend(asking, after=after - TOO_OLD, until=until))
        self._held: dict[tuple[str, datetime], _Sheet] = {}

    def asked(self, symbol: str, ts: datetime) -> Records:
        """The terms of a score of ``asking``."""
        return self._asking.get(symbol, ts)

    def at(self, bars: BarRange) -> Mapping[str, Any]:
        """symbol -> the terms of its newest score, computed on first access."""
        return _LazyTerms(self, bars)

    def of(self, bars: BarRange) -> dict[str, Records]:
        """symbol -> the terms of its newest score, for the symbols that ``bars`` attends to."""
        terms: dict[str, Records] = {}
        missing: list[str] = []
        for score in bars.scores(bars.attending, 1):
            if score.ts <= bars.as_of - TOO_OLD:
                continue
            key = score.symbol, score.ts
            sheet = self._asking if key in self._asking else self._held.get(key)
            if sheet is None:
                missing.append(score.symbol)
            else:
                terms[score.symbol] = sheet.get(*key)
        if missing:
            coming = bars.coming(bars.attending, AHEAD)  # of all attended symbols: any may soon be held
            self._compute(coming[coming["ts"] > bars.as_of - TOO_OLD])
            terms |= {s.symbol: self._held[s.symbol, s.ts].get(s.symbol, s.ts) for s in bars.scores(missing, 1)}
        return terms

    def _compute(self, scores: pd.DataFrame) -> None:
        earliest: datetime = scores["ts"].min()
        self._held = {key: sheet for key, sheet in self._held.items() if key[1] >= earliest}
        keys = [(str(symbol), ts.to_pydatetime()) for symbol, ts in scores.itertuples(index=False)]
        new = [key not in self._held for key in keys]
        scores = scores[new]
        sheet = _Sheet(
            self._blend(scores, after=scores["ts"].min() - timedelta(microseconds=1), until=scores["ts"].max())
        )
        self._held |= {key: sheet for key, fresh in zip(keys, new, strict=True) if fresh}

    def _blend(self, only: pd.DataFrame, *, after: datetime, until: datetime) -> pd.DataFrame:
        hub, settings, run = self._inputs
        instruments = [settings.instruments[s] for s in sorted(only["symbol"].unique())]
        if not instruments:
            return pd.DataFrame({"symbol": [], "ts": []})
        return blend.blend(hub, settings, run, instruments, after=after, until=until, only=only)[1]


class _Sheet:
    """Terms by symbol and instant; converted to records many at once, since callers go forward in time."""

    def __init__(self, terms: pd.DataFrame) -> None:
        self._terms = terms.sort_values("ts", kind="stable", ignore_index=True)
        keys = self._terms["symbol"].tolist(), [ts.to_pydatetime() for ts in self._terms["ts"]]
        self._rows: dict[tuple[str, datetime], list[int]] = {}
        for row, key in enumerate(zip(*keys, strict=True)):
            self._rows.setdefault(key, []).append(row)
        self._ready: Sequence[dict[str, Any]] = ()
        self._begin = 0

    def __contains__(self, key: tuple[str, datetime]) -> bool:
        return key in self._rows

    def get(self, symbol: str, ts: datetime) -> Records:
        return [self._record(row) for row in self._rows.get((symbol, ts), ())]

    def _record(self, row: int) -> dict[str, Any]:
        if not self._begin <= row < self._begin + len(self._ready):
            self._begin = row // AT_ONCE * AT_ONCE
            self._ready = blend.records(self._terms.iloc[self._begin : self._begin + AT_ONCE])
        return self._ready[row - self._begin]


class _LazyTerms(dict[str, Any]):
    """symbol -> the terms of its newest score, computed on first access."""

    def __init__(self, terms: Terms, bars: BarRange) -> None:
        super().__init__()
        self._terms, self._bars, self._loaded = terms, bars, False

    def get(self, symbol: str, default: Any = None) -> Any:
        if not self._loaded:
            self._loaded = True
            self.update(self._terms.of(self._bars))
        return super().get(symbol, default)
