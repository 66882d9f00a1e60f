"""The bars, events and exchange rates of the kernel's market, as exact numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from alphapivot.brokers.base import Event, EventKind, Key
from alphapivot.brokers.fills import Bar

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.research.screen.engine import Market

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Tape:
    """``home``: the account's currency. A row is one of ``market.bars``."""

    def __init__(self, market: Market, instruments: Mapping[str, Instrument], home: str) -> None:
        self._market, self._home = market, home
        self.ticks: list[Decimal] = [instruments[s].tick for s in market.symbols]
        self._currencies = sorted({i.currency for i in instruments.values()})
        self._order = np.argsort(market.bars.line, kind="stable")
        self._edges = np.searchsorted(market.bars.line[self._order], np.arange(len(market.lines) + 1))
        self._rows: dict[int, list[int]] = {}

    def rows(self, line: int) -> list[int]:
        """Of a line's bars, oldest first."""
        if line not in self._rows:
            self._rows[line] = np.sort(self._order[self._edges[line] : self._edges[line + 1]]).tolist()
        return self._rows[line]

    def newest(self, rows: Sequence[int], t: int) -> int:
        """The last of ``rows`` that is known at instant ``t``; -1 without one."""
        at = bisect_left(rows, int(self._market.seen.bounds[t + 1])) - 1
        return rows[at] if at >= 0 else -1

    def before(self, rows: Sequence[int], ts: datetime) -> int:
        """The last of ``rows`` whose bar ends by ``ts``; -1 without one."""
        upto = (ts - EPOCH) // timedelta(microseconds=1)
        at = int(np.searchsorted(self._market.bars.ts[rows], upto, "right")) - 1
        return rows[at] if at >= 0 else -1

    def at(self, row: int) -> datetime:
        return EPOCH + timedelta(microseconds=int(self._market.bars.ts[row]))

    def close(self, row: int) -> Decimal:
        """On the tick."""
        bars = self._market.bars
        close: Decimal = self.ticks[bars.symbol[row]] * int(bars.close[row])
        return close

    def stored_close(self, row: int) -> Decimal:
        return Decimal(repr(float(self._market.closes[row])))

    def bar(self, row: int) -> Bar:
        bars, tick = self._market.bars, self.ticks[self._market.bars.symbol[row]]
        opened, high, low, close = (int(column[row]) * tick for column in (bars.open, bars.high, bars.low, bars.close))
        volume = None if np.isnan(bars.volume[row]) else Decimal(repr(float(bars.volume[row])))
        start = EPOCH + timedelta(microseconds=int(bars.start[row]))
        return Bar(start=start, ts=self.at(row), open=opened, high=high, low=low, close=close, volume=volume)

    def event(self, key: Key, number: int) -> Event:
        """A split, dividend or distribution of ``market.events``."""
        events = self._market.events
        kind: EventKind = "split" if events.split[number] else "distribution" if events.moves[number] else "dividend"
        ts, value = EPOCH + timedelta(microseconds=int(events.ts[number])), Decimal(repr(float(events.value[number])))
        return Event(key, kind, ts, value)

    def rates(self, t: int) -> dict[str, Decimal]:
        """currency -> account currency per unit, of those that are known at instant ``t``."""
        rates = {self._home: Decimal(1)}
        for currency, pair in zip(self._currencies, self._market.pairs[t].tolist(), strict=True):
            if currency != self._home and not np.isnan(pair):
                rates[currency] = Decimal(repr(pair)) if pair > 0 else 1 / Decimal(repr(-pair))
        return rates
