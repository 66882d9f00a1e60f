"""
The market data and scores of one run: from the hub or, in a backtest, from data read beforehand.

Both return the same values to the last bit; tests/research/test_backtest_engine.py checks that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pandas as pd
from sqlalchemy import Connection, text

from alphapivot.execution.market import quotes
from alphapivot.frames import Bars
from alphapivot.hub.tables import bars as stored
from alphapivot.hub.tables import issues

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.execution.decide.facts import Quote
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef

    Quotes = dict[str, Quote]

NEWEST = """
    SELECT s.symbol, c.* FROM signals.composite_series AS s
    CROSS JOIN LATERAL signals.composites_until(s.series_id, :as_of, :most) AS c
    WHERE s.scope = :scope AND s.symbol = ANY(:symbols) ORDER BY s.symbol, c.ts DESC
"""
TRADED = tuple(name for name in Bars.columns() if name not in ("open_interest", "source"))


class Composite(NamedTuple):
    """One stored composite score."""

    symbol: str
    ts: datetime
    score: float | None
    raw: float | None
    gate: float | None
    veto: str | None
    batch_id: int


@dataclass(frozen=True)
class QuoteTerms:
    """The arguments of ``quotes.quotes`` that vary by run, and ``after``: bars later than this are used."""

    front: Mapping[str, str]
    after: datetime
    volatility_bars: int = 0
    a_year: Mapping[str, int] | None = None


class Source(Protocol):
    """Data known at the run's as_of, and nothing later."""

    def attended(self, holding: Collection[str]) -> Sequence[str]:
        """The symbols with something to decide, including those of ``holding``."""
        ...

    def scores(self, symbols: Collection[str], most: int) -> Sequence[Composite]:
        """The ``most`` newest composites of each symbol, sorted by symbol, newest first."""
        ...

    def bars(self, wanted: Mapping[str, Collection[str]], after: datetime) -> pd.DataFrame:
        """Bars of ``wanted`` (market -> symbols) after ``after``, with ``start``, by symbol, contract and ts."""
        ...

    def quotes(self, symbols: Collection[str], terms: QuoteTerms, rolled: pd.DataFrame, events: pd.DataFrame) -> Quotes:
        """``quotes.quotes`` of the traded markets' bars after ``terms.after``."""
        ...

    def rolls(self, symbols: Collection[str]) -> pd.DataFrame: ...

    def actions(self, symbols: Collection[str], since: datetime) -> pd.DataFrame:
        """Splits and dividends from ``since`` on, as frame Actions."""
        ...

    def halts(self, conn: Connection) -> dict[str, str]:
        """symbol -> why its data block entries."""
        ...


class Stored:
    """Reads the hub as known at the run's known_at."""

    def __init__(self, hub: Hub, run: RunRef, settings: Settings) -> None:
        self._hub, self._run, self._settings = hub, run, settings

    def attended(self, holding: Collection[str]) -> Sequence[str]:  # noqa: ARG002 - the port's signature
        """All: decisions not to trade are recorded too."""
        return list(self._settings.instruments)

    def scores(self, symbols: Collection[str], most: int) -> Sequence[Composite]:
        parameters = {"symbols": sorted(symbols), "scope": self._run.scope, "as_of": self._run.as_of, "most": most}
        with self._hub.engine.connect() as conn:
            return [Composite(*row) for row in conn.execute(text(NEWEST), parameters)]

    def bars(self, wanted: Mapping[str, Collection[str]], after: datetime) -> pd.DataFrame:
        bars = read_bars(self._hub, self._run, self._settings, wanted, after=after, until=self._run.as_of)
        return quotes.opened(bars, self._settings.timeframes.base, self._settings.instruments)

    def quotes(self, symbols: Collection[str], terms: QuoteTerms, rolled: pd.DataFrame, events: pd.DataFrame) -> Quotes:
        wanted: dict[str, set[str]] = {"spot": set(), "futures": set()}
        for symbol in symbols:
            wanted[self._settings.instruments[symbol].trade_market].add(symbol)
        bars = read_bars(self._hub, self._run, self._settings, wanted, after=terms.after, until=self._run.as_of)
        return quotes.quotes(bars, rolled, events, **terms_of(terms, self._settings, self._run, self._run.as_of))

    def rolls(self, symbols: Collection[str]) -> pd.DataFrame:
        # a roll decided at as_of applies to the next bar
        return stored.rolls(self._hub, sorted(symbols), until=self._run.as_of, known_at=self._run.known_at)

    def actions(self, symbols: Collection[str], since: datetime) -> pd.DataFrame:
        until, known_at = self._run.as_of, self._run.known_at
        return stored.actions(self._hub, sorted(symbols), since=since, until=until, known_at=known_at)

    def halts(self, conn: Connection) -> dict[str, str]:
        halts = issues.halted(conn, self._run.known_at, self._settings.spreads)
        return issues.reasons(halts, self._run.as_of)


def terms_of(terms: QuoteTerms, settings: Settings, run: RunRef, as_of: datetime) -> dict[str, Any]:
    """The keyword arguments of ``quotes.quotes``."""
    return {
        "front": terms.front,
        "instruments": settings.instruments,
        "interval": settings.timeframes.base,
        "atr": settings.execution.atr,
        "as_of": as_of,
        "known_at": run.known_at,
        "volatility_bars": terms.volatility_bars,
        "a_year": terms.a_year,
        "gap_quantile": settings.sizing.gap_quantile,
        "gap_bars": settings.sizing.gap_bars,
        "history_bars": quotes.history(settings.risk),
    }


def read_bars(
    hub: Hub,
    run: RunRef,
    settings: Settings,
    wanted: Mapping[str, Collection[str]],
    *,
    after: datetime,
    until: datetime,
) -> pd.DataFrame:
    """The columns TRADED of the bars of ``wanted`` (market -> symbols) in the base timeframe, in (after, until]."""
    span: dict[str, Any] = {"after": after, "until": until, "known_at": run.known_at, "columns": TRADED}
    frames = [
        stored.window(hub, sorted(symbols), market, settings.timeframes.base, **span)
        for market, symbols in wanted.items()
        if symbols
    ]
    frames = [frame for frame in frames if len(frame)]
    if len(frames) == 1:  # not copied: those of a backtest fill much of the memory
        return frames[0]
    return pd.concat(frames, ignore_index=True) if frames else Bars.empty()[list(TRADED)]
