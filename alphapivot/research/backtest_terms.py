"""Why it traded: what the scores that may ask for a trade are made of, for a stretch of history at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alphapivot import scoring

if TYPE_CHECKING:
    from alphapivot.hub import Hub
    from alphapivot.research.backtest_market import Stretch
    from alphapivot.runs import RunRef
    from alphapivot.settings import Settings


class Terms:
    """The terms of the composites ``asking`` (symbol, ts) later than ``after`` less ten days."""

    def __init__(
        self, hub: Hub, run: RunRef, settings: Settings, asking: pd.DataFrame, *, after: datetime, until: datetime
    ) -> None:
        back = after - timedelta(days=10)  # an older composite is too old to act on
        instruments = [settings.instruments[s] for s in sorted(asking["symbol"].unique())]
        self._found = pd.DataFrame()
        self._rows: Mapping[Any, Any] = {}
        if instruments:
            _, self._found = scoring.blend(hub, settings, run, instruments, after=back, until=until, only=asking)
            self._rows = self._found.groupby(["symbol", "ts"]).indices

    def at(self, stretch: Stretch) -> Mapping[str, Any]:
        return _At(self, stretch)

    def of(self, newest: Mapping[str, datetime]) -> dict[str, list[dict[str, Any]]]:
        """symbol -> the terms of its score of that instant, where it may ask for a trade."""
        parts = [self._rows.get((symbol, pd.Timestamp(ts))) for symbol, ts in newest.items()]
        rows = [part for part in parts if part is not None]
        made: dict[str, list[dict[str, Any]]] = {}
        for record in scoring.records(self._found.take(np.concatenate(rows))) if rows else []:
            made.setdefault(record["symbol"], []).append(record)
        return made


class _At(dict[str, Any]):
    """symbol -> the terms of its newest score, made when somebody asks for the first time."""

    def __init__(self, terms: Terms, stretch: Stretch) -> None:
        super().__init__()
        self._terms, self._stretch, self._asked = terms, stretch, False

    def get(self, symbol: str, default: Any = None) -> Any:
        if not self._asked:
            self._asked = True
            newest = {row.symbol: row.ts for row in self._stretch.scores(self._stretch.attended(()), 1)}
            self.update(self._terms.of(newest))
        return super().get(symbol, default)
