"""
What one run is told of the market and its scores: from the hub, or, in a backtest, from what was read beforehand.

Both answer alike to the last bit; tests/research/test_backtest_market.py holds them to it.
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
    SELECT c.* FROM unnest(CAST(:symbols AS text[])) AS wanted(name) CROSS JOIN LATERAL
        (SELECT symbol, ts, score, raw, gate, veto, batch_id FROM signals.composite
         WHERE scope = :scope AND symbol = wanted.name AND ts <= :as_of ORDER BY ts DESC LIMIT :most) c
    ORDER BY symbol, ts DESC
"""


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
class Asked:
    """The terms of a quote, as ``quotes.quotes`` has them."""

    front: Mapping[str, str]
    after: datetime
    volatility_bars: int = 0
    a_year: Mapping[str, int] | None = None


class Source(Protocol):
    """What is known at the run's as_of, and nothing later."""

    def attended(self, holding: Collection[str]) -> Sequence[str]:
        """The symbols about which there is something to decide, those of ``holding`` among them."""
        ...

    def scores(self, symbols: Collection[str], most: int) -> Sequence[Composite]:
        """The ``most`` newest composites of each symbol, sorted by symbol, the newest first."""
        ...

    def bars(self, wanted: Mapping[str, Collection[str]], after: datetime) -> pd.DataFrame:
        """Bars (market -> symbols) later than ``after`` with their ``start``, sorted by symbol, contract and ts."""
        ...

    def quotes(self, symbols: Collection[str], asked: Asked, rolled: pd.DataFrame, events: pd.DataFrame) -> Quotes:
        """What ``quotes.quotes`` makes of the traded markets' bars later than ``asked.after``."""
        ...

    def rolls(self, symbols: Collection[str]) -> pd.DataFrame: ...

    def actions(self, symbols: Collection[str], since: datetime) -> pd.DataFrame:
        """Splits and dividends from ``since`` on: a frame of Actions."""
        ...

    def halts(self, conn: Connection) -> dict[str, str]:
        """symbol -> why its data take no entry."""
        ...


class Stored:
    """From the hub, as it was known at the run's known_at."""

    def __init__(self, hub: Hub, run: RunRef, settings: Settings) -> None:
        self._hub, self._run, self._settings = hub, run, settings

    def attended(self, holding: Collection[str]) -> Sequence[str]:  # noqa: ARG002 - the port's signature
        """All: a decision not to trade is one too, and is kept."""
        return list(self._settings.instruments)

    def scores(self, symbols: Collection[str], most: int) -> Sequence[Composite]:
        asked = {"symbols": sorted(symbols), "scope": self._run.scope, "as_of": self._run.as_of, "most": most}
        with self._hub.engine.connect() as conn:
            return [Composite(*row) for row in conn.execute(text(NEWEST), asked)]

    def bars(self, wanted: Mapping[str, Collection[str]], after: datetime) -> pd.DataFrame:
        read = read_bars(self._hub, self._run, self._settings, wanted, after=after, until=self._run.as_of)
        return quotes.opened(read, self._settings.timeframes.base, self._settings.instruments)

    def quotes(self, symbols: Collection[str], asked: Asked, rolled: pd.DataFrame, events: pd.DataFrame) -> Quotes:
        wanted: dict[str, set[str]] = {"spot": set(), "futures": set()}
        for symbol in symbols:
            wanted[self._settings.instruments[symbol].trade_market].add(symbol)
        read = read_bars(self._hub, self._run, self._settings, wanted, after=asked.after, until=self._run.as_of)
        return quotes.quotes(read, rolled, events, **terms_of(asked, self._settings, self._run, self._run.as_of))

    def rolls(self, symbols: Collection[str]) -> pd.DataFrame:
        # a roll that was decided at as_of holds for the next bar
        return stored.rolls(self._hub, sorted(symbols), until=self._run.as_of, known_at=self._run.known_at)

    def actions(self, symbols: Collection[str], since: datetime) -> pd.DataFrame:
        until, known_at = self._run.as_of, self._run.known_at
        return stored.actions(self._hub, sorted(symbols), since=since, until=until, known_at=known_at)

    def halts(self, conn: Connection) -> dict[str, str]:
        return issues.reasons(issues.halted(conn, self._run.known_at))


def terms_of(asked: Asked, settings: Settings, run: RunRef, as_of: datetime) -> dict[str, Any]:
    """The further arguments of ``quotes.quotes``."""
    return {
        "front": asked.front,
        "instruments": settings.instruments,
        "interval": settings.timeframes.base,
        "atr": settings.execution.atr,
        "as_of": as_of,
        "known_at": run.known_at,
        "volatility_bars": asked.volatility_bars,
        "a_year": asked.a_year,
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
    """Bars of the base timeframe, market by market, in (after, until]."""
    base = settings.timeframes.base
    read = [
        stored.window(hub, sorted(symbols), market, base, after=after, until=until, known_at=run.known_at)
        for market, symbols in wanted.items()
        if symbols
    ]
    found = [frame for frame in read if len(frame)]
    return pd.concat(found, ignore_index=True) if found else Bars.empty()
