"""
Why it traded: what the scores that may ask for a trade are made of, for a span of history at once; and of those that
are looked at because something is held, from the first that is asked for on.
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
AT_ONCE = 1_000  # rows of terms that are made ready together
AHEAD = 200  # scores of what is held that are looked at together
TOO_OLD = timedelta(days=10)  # a composite to act on is newer


class Terms:
    """The terms of the composites ``asking`` (symbol, ts) later than ``after`` less TOO_OLD, and of others as asked."""

    def __init__(
        self, hub: Hub, run: RunRef, settings: Settings, asking: pd.DataFrame, *, after: datetime, until: datetime
    ) -> None:
        self._asked = hub, settings, run
        self._asking = _Sheet(self._blend(asking, after=after - TOO_OLD, until=until))
        self._others: dict[tuple[str, datetime], _Sheet] = {}

    def at(self, bars: BarRange) -> Mapping[str, Any]:
        return _At(self, bars)

    def of(self, bars: BarRange) -> dict[str, Records]:
        """symbol -> the terms of its newest score, of those that the stretch attends to."""
        found: dict[str, Records] = {}
        lacking: list[str] = []
        for score in bars.scores(bars.attending, 1):
            if score.ts <= bars.as_of - TOO_OLD:
                continue
            key = score.symbol, score.ts
            sheet = self._asking if key in self._asking else self._others.get(key)
            if sheet is None:
                lacking.append(score.symbol)
            else:
                found[score.symbol] = sheet.get(*key)
        if lacking:
            coming = bars.coming(bars.attending, AHEAD)  # of all: each may be held, and be asked about, soon
            self._look(coming[coming["ts"] > bars.as_of - TOO_OLD])
            found |= {s.symbol: self._others[s.symbol, s.ts].get(s.symbol, s.ts) for s in bars.scores(lacking, 1)}
        return found

    def _look(self, scores: pd.DataFrame) -> None:
        earliest: datetime = scores["ts"].min()
        self._others = {key: sheet for key, sheet in self._others.items() if key[1] >= earliest}
        keys = [(str(symbol), ts.to_pydatetime()) for symbol, ts in scores.itertuples(index=False)]
        new = [key not in self._others for key in keys]
        scores = scores[new]
        sheet = _Sheet(
            self._blend(scores, after=scores["ts"].min() - timedelta(microseconds=1), until=scores["ts"].max())
        )
        self._others |= {key: sheet for key, fresh in zip(keys, new, strict=True) if fresh}

    def _blend(self, only: pd.DataFrame, *, after: datetime, until: datetime) -> pd.DataFrame:
        hub, settings, run = self._asked
        instruments = [settings.instruments[s] for s in sorted(only["symbol"].unique())]
        if not instruments:
            return pd.DataFrame({"symbol": [], "ts": []})
        return blend.blend(hub, settings, run, instruments, after=after, until=until, only=only)[1]


class _Sheet:
    """Terms by symbol and instant; made into records for many instants at once, for these follow each other."""

    def __init__(self, found: pd.DataFrame) -> None:
        self._found = found.sort_values("ts", kind="stable", ignore_index=True)
        keys = self._found["symbol"].tolist(), [ts.to_pydatetime() for ts in self._found["ts"]]
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
            self._ready = blend.records(self._found.iloc[self._begin : self._begin + AT_ONCE])
        return self._ready[row - self._begin]


class _At(dict[str, Any]):
    """symbol -> the terms of its newest score, made when somebody asks for the first time."""

    def __init__(self, terms: Terms, bars: BarRange) -> None:
        super().__init__()
        self._terms, self._bars, self._asked = terms, bars, False

    def get(self, symbol: str, default: Any = None) -> Any:
        if not self._asked:
            self._asked = True
            self.update(self._terms.of(self._bars))
        return super().get(symbol, default)
