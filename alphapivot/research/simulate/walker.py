"""
Trades a whole backtest in memory, at every instant: for configs that the screening kernel leaves out.

The code that trades live decides about every symbol that it would attend to, and every bar of a trade meets its orders;
only the database is left out. What is recorded is what ``trader`` records.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.data import market_ends
from alphapivot.execution.book.record import ACTING
from alphapivot.execution.decide.decide import decide
from alphapivot.execution.decide.lifecycle import patience
from alphapivot.execution.market import quotes
from alphapivot.research.screen import kernel as k
from alphapivot.research.screen.engine import LeftOut
from alphapivot.research.simulate.trader import Lines, TermsOf, Trader

if TYPE_CHECKING:
    from alphapivot.brokers.base import Account
    from alphapivot.config.settings import Settings
    from alphapivot.research.backtest.market import BarRange
    from alphapivot.research.screen.engine import Market, Result
    from alphapivot.research.simulate.live import Live
    from alphapivot.runs import RunRef

REFUSED = ("lot_zero", "max_notional", "max_gap_loss", "stop_not_a_price", "target_not_a_price")  # never an entry
RECORDED = (*ACTING, "AMEND")
KNOWN = (
    "[execution] form = positions",
    "[entry] windows",
    "[exit] session_end",
    "[exit] roll",
    "[sizing] max_gap_loss",
    "[risk] max_volatility",
)


def refuse(left_out: Sequence[str], settings: Settings, market: Market) -> None:
    """Raises LeftOut if the config or the data need what only the engine does. ``left_out``: by the kernel."""
    missing = [name for name in left_out if name not in KNOWN]
    parts = settings.execution.form == "positions" or settings.exit.scales
    if parts and (market.events.split | market.events.moves).any():
        missing.append("parts of shares that split")
    if missing:
        raise LeftOut(f"the screening engine leaves out {', '.join(missing)}: use --engine full")


class Walker(Trader):
    """A Trader without a schedule: of its Result it reads the market only."""

    def __init__(
        self, run: RunRef, settings: Settings, source: BarRange, result: Result, terms: TermsOf, fence: int
    ) -> None:
        super().__init__(run, settings, source, result, terms, fence)
        self._next = itertools.count()
        self._small: Counter[tuple[str, str]] = Counter()  # refused entries by symbol and reason
        self._waits = patience(settings.execution, settings.entry)

    def run(self, instants: Sequence[datetime], done: Callable[[int, datetime], None] = lambda *_: None) -> None:
        super().run(instants, done)
        entered = {row["symbol"] for row in self.ledger.rows["trade"] if row["entry_at"] is not None}
        seldom_first = sorted(self._small.items(), key=lambda item: item[1])
        self.refused = {symbol: (n, why) for (symbol, why), n in seldom_first if symbol not in entered}

    def explain(self, terms_of: Callable[[pd.DataFrame], TermsOf]) -> None:
        """Records the terms of the scores behind the decisions. ``terms_of``: of scores (symbol, ts)."""
        decided = [row for row in self.ledger.rows["decision"] if row["score_ts"] is not None]
        asking = pd.DataFrame([(row["symbol"], row["score_ts"]) for row in decided], columns=["symbol", "ts"])
        if not decided:
            return
        known = terms_of(asking.drop_duplicates(ignore_index=True))
        for row in decided:
            row["terms"] = known(row["symbol"], row["score_ts"], row["as_of"])

    def _instant(self, t: int, as_of: datetime, lines: Lines) -> None:  # noqa: ARG002 - nothing is scheduled
        risk, rates = self._risk, self._tape.rates(t)
        self._source.at(as_of)
        risk.begin(as_of)
        self._replay(t, as_of, rates)
        account = self.account.account()
        risk.see(as_of, account)
        attended = list(self._source.attended(self._desk.live))
        if attended:
            self._choose(t, as_of, account, rates, attended)
        self._close(t, as_of, account, rates, risk.breached(account))

    def _replay(self, t: int, as_of: datetime, rates: dict[str, Decimal]) -> None:
        """What the new bars and events do to the account, and to the book."""
        for live in self._desk.open:
            if (rate := rates.get(live.row["currency"])) is not None:
                self.account.convert(live.key, rate)
        for together in self._bars(t):
            for live, row in together:
                for event in self._before(live, row):
                    self._book(live, event)
            # exits first: they free cash for entries at the same open
            for live, row in sorted(together, key=lambda pair: not pair[0].exiting):
                self._meet(live, row)
        for live in self._desk.open:
            if self._may_have_ended(t, live):
                self._end(live, as_of, rates)
        self._desk.reconcile(as_of)
        self._desk.shift(as_of)
        for live in self._desk.open:
            self._desk.follow(live, as_of)
        self._cancel(t, as_of)

    def _bars(self, t: int) -> list[list[tuple[Live, int]]]:
        """The new bars of open trades, in the order of their ends; those that end together in one list, by symbol."""
        seen, ts = self._result.market.seen, self._result.market.bars.ts
        begin, end = int(seen.bounds[t]), int(seen.bounds[t + 1])
        found = [
            (int(ts[row]), live.key, live, row)
            for live in self._desk.open
            for row in live.rows[bisect_left(live.rows, begin) : bisect_left(live.rows, end)]
        ]
        found.sort(key=lambda item: item[:2])
        return [
            [(live, row) for *_, live, row in together]
            for _, together in itertools.groupby(found, key=lambda item: item[0])
        ]

    def _meet(self, live: Live, row: int) -> None:
        bars, tick = self._result.market.bars, self._tape.ticks[self._number[live.key[0]]]
        if self.account.reached(live.key, int(bars.low[row]) * tick, int(bars.high[row]) * tick):
            self.account.meet(live.key, self._tape.bar(row))
        else:
            self.account.see(live.key, self._tape.close(row), self._tape.at(row))

    def _before(self, live: Live, row: int) -> Sequence[int]:
        """The splits and dividends of a trade that take effect before a bar, and after the bar before it."""
        bars, events = self._result.market.bars, self._result.market.events
        found = range(int(bars.event[row]), int(bars.event_end[row]))
        return [e for e in found if events.ts[e] >= bar_ends.naive(live.as_of).astype(np.int64)] if found else ()

    def _left_behind(self, t: int, live: Live) -> bool:
        """True if the next contract of a trade is the one to trade."""
        return bool(
            self._result.market.seen.front[t, self._number[live.key[0]]] != self._result.market.bars.line[live.rows[0]]
        )

    def _may_have_ended(self, t: int, live: Live) -> bool:
        """True if the market of a trade has no new bar, or a next contract, or has had its last session."""
        market, s = self._result.market, self._number[live.key[0]]
        row = self._tape.newest(live.rows, t)
        if row < 0:
            return True
        now = int(market.seen.now[t, market.specs.calendar[s]])
        silent = bool(market.specs.ends[s]) and now - int(market.bars.number[row]) >= market_ends.BARS
        futures = not market.specs.spot[s]
        return silent or (futures and (self._left_behind(t, live) or bool(market.bars.final[row])))

    def _cancel(self, t: int, as_of: datetime) -> None:
        """Cancels entries that were sized before a split or distribution, and additions that have waited too long."""
        seen = self._result.market.seen
        for symbol, live in list(self._desk.live.items()):
            s = self._number[symbol]
            if live.row["state"] == "PENDING":
                if seen.moved[t, s] >= bar_ends.naive(live.as_of).astype(np.int64):
                    self._desk.withdraw(live, k.REASONS[int(seen.moved_by[t, s])], as_of)
            elif live.adding:
                sent = {symbol: live.legs["ADD"]["as_of"]}
                waited = quotes.ages(sent, as_of, self._settings.timeframes.base, self._instruments)[symbol]
                if waited > self._waits:
                    self._desk.drop(live, "entry_expired", as_of)

    def _choose(
        self, t: int, as_of: datetime, account: Account, rates: dict[str, Decimal], attended: Sequence[str]
    ) -> None:
        session = self._session(as_of, list(self._instruments), rates)
        session.attended, session.tripped = attended, self._risk.breached(account) is not None
        if any(self._left_behind(t, live) for live in self._desk.live.values()):
            session.rolls = self._source.rolls(attended)
        facts, rows = self._facts(t, session, account)
        decisions = decide(facts, attended)
        small = [d for d in decisions if d.action == "DENIED" and d.reasons[0] in REFUSED]
        self._small.update((d.symbol, d.reasons[0]) for d in small)
        acting = [d for d in decisions if d.action in RECORDED]
        if acting:
            numbers = {d.symbol: next(self._next) for d in acting if d.plan is not None}
            self._act(t, session, acting, rows, numbers)
