"""
Trades a whole backtest in memory: the screening kernel says at which instants something happens, and there the code
that trades live decides and fills, in Decimal.

Entries, exits and moved stops are decided by ``execution.decide``, fills by the rules of the paper broker, from the
same facts; what is recorded is what the engine would have recorded, except decisions that do nothing (HOLD, NONE,
DENIED). Raises Disagreement where kernel and engine differ. docs/backtests.md describes the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import takewhile
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from alphapivot.clock import SimulatedClock
from alphapivot.data import horizon
from alphapivot.data.series import life
from alphapivot.execution.book import mark
from alphapivot.execution.book.record import record
from alphapivot.execution.decide.decide import decide
from alphapivot.execution.decide.facts import Decision, Facts, Quote, Standing
from alphapivot.execution.market import market as markets
from alphapivot.execution.market import quotes
from alphapivot.execution.run import ended
from alphapivot.execution.run.choose import times_of
from alphapivot.execution.run.gather import facts_of, scores_of
from alphapivot.execution.run.session import Session, TradeReport
from alphapivot.research.screen import kernel as k
from alphapivot.research.simulate.account import PaperAccount
from alphapivot.research.simulate.desk import Desk, closed_by
from alphapivot.research.simulate.ledger import Ledger
from alphapivot.research.simulate.live import Disagreement, Live
from alphapivot.research.simulate.risk import RiskDay
from alphapivot.research.simulate.tape import Tape

if TYPE_CHECKING:
    from alphapivot.brokers.base import Account
    from alphapivot.config.sections.brokers import PaperBroker
    from alphapivot.config.settings import Settings
    from alphapivot.execution.book.ledger import Row
    from alphapivot.research.backtest.market import BarRange
    from alphapivot.research.screen.engine import Result
    from alphapivot.runs import RunRef

ZERO = Decimal(0)
# (symbol, its score's ts, as_of) -> the terms of the score
TermsOf = Callable[[str, datetime, datetime], list[dict[str, Any]] | None]
Lines = Sequence[tuple[int, int, int]]  # of the kernel's log, at one instant: trade, what, detail


class Trader:
    """A book from the first instant to the last; ``run`` fills ``ledger`` and ``account``."""

    def __init__(
        self, run: RunRef, settings: Settings, source: BarRange, result: Result, terms: TermsOf, fence: int
    ) -> None:
        self._run, self._settings, self._source, self._terms = run, settings, source, terms
        self._result, self._instruments = result, settings.instruments
        broker = cast("PaperBroker", settings.brokers[settings.execution.broker])
        self.ledger = Ledger(settings.execution.book, run.run_id, fence)
        self.account = PaperAccount(settings.execution.book, broker, settings.instruments)
        self._desk = Desk(self.ledger, self.account, settings.instruments, settings.execution.strategy)
        self._risk = RiskDay(settings.risk, self.ledger)
        self._tape = Tape(result.market, settings.instruments, broker.currency)
        self._asked: dict[int, list[str]] = {}  # instant -> symbols whose refused entries need a reason
        for symbol, (_, first) in result.refused.items():
            self._asked.setdefault(first, []).append(symbol)
        self.refused: dict[str, tuple[int, str]] = {}  # symbols never entered -> how many entries were refused, and why
        self._number = {symbol: n for n, symbol in enumerate(result.market.symbols)}
        self.begins: datetime | None = None
        self.instants = 0  # decided at

    def run(self, instants: Sequence[datetime], done: Callable[[int, datetime], None] = lambda *_: None) -> None:
        """Trades ``instants``; calls ``done`` with the number of those that are traded and the last, from 0 on."""
        done(0, instants[0])
        log = self._result.log
        edges = np.searchsorted(log[:, 0], np.arange(len(instants) + 1)).tolist()
        for t, as_of in enumerate(instants):
            if self.begins is None:
                self._source.at(as_of)
                self.begins = as_of if self._source.known else None
            if self.begins is not None:
                self.instants += 1
                lines = [(line[1], line[2], line[3]) for line in log[edges[t] : edges[t + 1]].tolist()]
                self._instant(t, as_of, lines)
            done(t + 1, as_of)

    def _instant(self, t: int, as_of: datetime, lines: Lines) -> None:
        """One instant, in the order of ``execution.run.engine.go``."""
        needed = lines or self._desk.live or t in self._asked
        risk, rates = self._risk, self._tape.rates(t) if needed else {}
        risk.begin(as_of)
        self._market(t, as_of, lines, rates)
        account = self.account.account()
        risk.see(as_of, account)
        breach = risk.breached(account)
        if (breach is not None) != any(what == k.TRIPPED for _, what, _ in lines):
            raise Disagreement(f"{as_of:%Y-%m-%d %H:%M} UTC: only one of kernel and engine finds a loss at its limit")
        acting = [line for line in lines if line[1] in (k.ENTERED, k.STEPPED)]
        if acting or t in self._asked:
            self._decide(t, as_of, account, rates, acting)
        self._close(t, as_of, account, rates, breach)

    def _close(
        self, t: int, as_of: datetime, account: Account, rates: dict[str, Decimal], breach: tuple[str, str] | None
    ) -> None:
        """What comes after the decisions. ``breach``: the loss that has reached its limit."""
        if breach is not None:
            self._risk.trip(as_of, account, breach)
            for live in self._desk.open:
                self._desk.stand_down(live, "reduce_only", as_of)
        self._desk.count()
        self._mark(t, as_of, account, rates)

    def _market(self, t: int, as_of: datetime, lines: Lines, rates: dict[str, Decimal]) -> None:
        """What the new bars and events do to the account, and to the book."""
        by_number = self._desk.by_number
        for live in self._desk.live.values():
            if (rate := rates.get(live.row["currency"])) is not None:
                self.account.convert(live.key, rate)
        for number, what, detail in lines:
            if what == k.ON_BAR:
                self.account.meet(by_number[number].key, self._tape.bar(detail))
            elif what == k.ON_EVENT:
                self._book(by_number[number], detail)
        for live in self._desk.live.values():
            self._see(live, self._tape.newest(live.rows, t))
        for number, reason in [(number, detail) for number, what, detail in lines if what == k.ON_END]:
            live = by_number[number]
            found = self._end(live, as_of, rates)
            if found != k.REASONS[reason]:
                what_ = f"{live.key[0]} {live.key[2]}".rstrip()
                raise Disagreement(f"{what_} at {as_of:%Y-%m-%d %H:%M} UTC: {k.REASONS[reason]}, or {found}")
        if lines:
            self._follow(lines, as_of)

    def _follow(self, lines: Lines, as_of: datetime) -> None:
        """Books what has changed, moves what follows a split, and cancels entries that were sized before one."""
        for live in self._desk.reconcile(as_of):
            self._desk.follow(live, as_of)
        for number, event in [(number, detail) for number, what, detail in lines if what == k.OUTGROWN]:
            self._desk.withdraw(self._desk.by_number[number], k.REASONS[event], as_of)

    def _see(self, live: Live, row: int) -> None:
        """The close of a bar on which no order of the trade does anything."""
        if row >= 0:
            self.account.see(live.key, self._tape.close(row), self._tape.at(row))

    def _book(self, live: Live, number: int) -> None:
        """A split, dividend or distribution, after the last bar before it."""
        event = self._tape.event(live.key, number)
        self._see(live, self._tape.before(live.rows, event.ts))
        self.account.book(event)

    def _end(self, live: Live, as_of: datetime, rates: dict[str, Decimal]) -> str | None:
        """Closes a position in a market that has ended; returns how it ended, None if it has not."""
        symbol, market, contract = live.key
        last = self.account.positions[live.key].seen_until
        self._source.at(as_of)
        session = self._session(as_of, [symbol], rates)
        session.rolls, session.bars = self._source.rolls([symbol]), self._source.bars({market: {symbol}}, last)
        found = ended.end_of(session, live.key, last)
        if found is None:
            return None
        price = self.account.close_out(live.key, found[0], as_of)
        if price is not None:
            what = f"{symbol} {contract}".rstrip()
            message = f"{what} {found[1]}: its position was {found[0]} at {price:f}"
            self.ledger.note(as_of, "ended", symbol, None, message)
        return found[0]

    def _decide(self, t: int, as_of: datetime, account: Account, rates: dict[str, Decimal], acting: Lines) -> None:
        whole, market = self._result.whole, self._result.market
        expected = {market.symbols[whole[line[0], k.SYMBOL]]: line for line in acting}
        self._source.at(as_of)
        asked = self._asked.get(t, [])
        session = self._session(as_of, sorted({*self._desk.live, *expected, *asked}), rates)
        facts, rows = self._facts(t, session, account)
        decisions = decide(facts, [*expected, *asked])
        self.refused |= {
            d.symbol: (self._result.refused[d.symbol][0], d.reasons[0]) for d in decisions if d.symbol in asked
        }
        decisions = [d for d in decisions if d.symbol in expected]
        for d in decisions:
            self._compare(as_of, d, expected[d.symbol])
        self._act(t, session, decisions, rows, {symbol: line[0] for symbol, line in expected.items()})

    def _facts(self, t: int, session: Session, account: Account) -> tuple[Facts, list[Row]]:
        """The facts of a decision about the symbols that the session attends to, and the open trades."""
        fronts, priced = self._priced(t, session)
        rows = [live.facts() for live in self._desk.open]
        standing = self._standing(session, account)
        return facts_of(session, priced, fronts, scores_of(session), standing, rows), rows

    def _act(
        self,
        t: int,
        session: Session,
        decisions: Sequence[Decision],
        rows: Sequence[Row],
        numbers: Mapping[str, int],
    ) -> None:
        """Records what is decided, and carries it out. ``numbers``: symbol -> the number of the trade that begins."""
        as_of, earlier = session.run.as_of, len(self.ledger.rows["orders"])
        record(
            self.ledger.insert,
            decisions,
            book=self.ledger.book,
            strategy=self._settings.execution.strategy,
            run_id=self.ledger.run_id,
            as_of=as_of,
            fence=self.ledger.fence,
            instruments=self._instruments,
            terms={d.symbol: self._terms(d.symbol, d.score.ts, as_of) for d in decisions if d.score is not None},
            now=as_of,
            times=times_of(session, [d.symbol for d in decisions]),
            held={row["trade_id"]: row for row in rows},
        )
        new: dict[str, dict[str, Row]] = {d.symbol: {} for d in decisions}
        for order in self.ledger.rows["orders"][earlier:]:
            new[order["symbol"]][order["leg"]] = order
        for d in decisions:
            self.ledger.note(as_of, "decided", d.symbol, None, f"{d.action}: {', '.join(d.reasons)}")
            self._carry_out(d, new[d.symbol], as_of)
        for d in sorted(decisions, key=lambda d: d.symbol):
            if d.plan is None:
                continue
            if d.action == "ADD":
                self._desk.add(self._desk.live[d.symbol], new[d.symbol]["ENTRY"], as_of)
                continue
            legs = {leg: order for leg, order in new[d.symbol].items() if leg != "EXIT"}  # which is that of a roll
            line = int(self._result.market.seen.front[t, self._number[d.symbol]])
            trade = self.ledger.rows["trade"][new[d.symbol]["ENTRY"]["trade_id"] - 1]
            key = (trade["symbol"], trade["market"], trade["contract"])
            sized, first = (d.plan.distance, d.plan.stop), d.plan.first_qty
            live = Live(trade, key, self._tape.rows(line), as_of, *sized, legs, numbers[d.symbol], first)
            if session.tripped:  # the next contract of a roll: exits pass, entries do not
                self._desk.deny(live, "reduce_only", as_of)
            else:
                self._desk.enter(live, session.rates[trade["currency"]], as_of)

    def _carry_out(self, d: Decision, new: dict[str, Row], as_of: datetime) -> None:
        """Moves the stop of a trade, or leaves it. ``new``: leg -> order."""
        live = self._desk.live.get(d.symbol)
        if live is None:
            return
        if live.row["state"] == "PENDING":
            self._desk.withdraw(live, d.reasons[0], as_of)
            return
        leaves = d.action in ("EXIT", "REDUCE", "ROLL")
        if leaves:
            self._desk.drop(live, "leaving", as_of)
        if d.stop is not None:  # it moves alone, with a part that leaves, or with an addition
            live.row["stop"] = d.stop
            self._desk.move(live, "STOP", d.stop, as_of)
        if d.action == "ROLL":
            self._desk.roll(live, new["EXIT"], as_of)
        elif leaves:
            self._desk.leave(live, new["EXIT"], as_of)

    def _session(self, as_of: datetime, involved: list[str], rates: dict[str, Decimal]) -> Session:
        """What the functions of a run read of it; nothing here reaches a database or a broker."""
        nothing: Any = None
        session = Session(
            hub=nothing,
            run=replace(self._run, as_of=as_of),
            settings=self._settings,
            clock=SimulatedClock(as_of),
            broker=nothing,
            lock=nothing,
            fence=self.ledger.fence,
            report=TradeReport(self.ledger.run_id, self.ledger.book, as_of),
            source=self._source,
            rates=rates,
            attended=involved,
        )
        session.__dict__["instruments"] = {s: self._instruments[s] for s in involved}  # terms without dates
        return session

    def _priced(self, t: int, session: Session) -> tuple[dict[str, str], dict[str, Quote]]:
        """symbol -> its front contract, and symbol -> its quote: ``market.priced``, of fronts that the kernel knows."""
        market, involved = self._result.market, session.attended
        lines = {s: int(market.seen.front[t, self._number[s]]) for s in involved}
        fronts = {s: market.lines[line][1] for s, line in lines.items() if line >= 0}
        if len(fronts) < len(involved):  # of a market, or a front contract, without any bar
            fronts = quotes.fronts(self._source.rolls(involved), session.instruments, session.run.as_of)
        terms = markets.quote_terms(session, fronts)
        events = self._source.actions(involved, terms.after)
        rolled = self._source.rolls(involved) if len(events) else self._source.all_rolls
        return fronts, self._source.quotes(involved, terms, rolled, events)

    def _standing(self, session: Session, account: Account) -> Standing:
        """The state of the book, as ``gather.standing_of`` reads it."""
        pauses, interval, as_of = self._settings.protections, self._settings.timeframes.base, session.run.as_of
        involved, closed = session.instruments, [row for row in self._desk.ended if row["close_reason"] != "roll"]
        locked = self._source.halted_now() | horizon.closed(involved, as_of) | life.closed(involved, as_of, interval)
        standing = replace(self._risk.standing(account), locked=locked)
        if pauses.cooldown:
            lost = {r["symbol"]: r["exit_at"] for r in reversed(closed_by(closed)) if r["realised"] < 0}
            lost = {s: at for s, at in lost.items() if s in involved}
            standing = replace(standing, lost=quotes.ages(lost, as_of, interval, self._instruments))
        if pauses.stops_in_a_row is not None:
            newest = closed_by(closed)[: pauses.stops_in_a_row]
            stops = list(takewhile(lambda row: row["close_reason"] == "stop", newest))
            age = quotes.ages({r["symbol"]: r["exit_at"] for r in stops[:1]}, as_of, interval, self._instruments)
            standing = replace(standing, stops=len(stops), last_stop=next(iter(age.values()), 0))
        return standing

    def _compare(self, as_of: datetime, d: Decision, line: tuple[int, int, int]) -> None:
        """Raises Disagreement unless the decision is the kernel's."""
        number, what, detail = line
        whole, plan = self._result.whole[number], d.plan
        kernel: tuple[Any, ...] = ("EXIT" if detail else "AMEND",)
        engine: tuple[Any, ...] = (d.action,)
        if what == k.STEPPED and detail >= k.PART:
            kernel = ("REDUCE", detail // k.PART * self._instruments[d.symbol].lot)
            engine = engine if d.qty is None else (d.action, d.qty)
        if what == k.ENTERED:
            tick = self._tape.ticks[whole[k.SYMBOL]]
            stop = int(whole[k.FIRST_STOP]) * tick
            target = None if whole[k.FIRST_TARGET] == k.NEVER else int(whole[k.FIRST_TARGET]) * tick
            kernel = ("LONG" if whole[k.SIDE] > 0 else "SHORT", stop, target)
            if self._result.money[number, k.RATIO] == 1:  # else the quantity is one after a split
                kernel = (*kernel, int(whole[k.LOTS]) * self._instruments[d.symbol].lot)
            engine = engine if plan is None else (plan.side, plan.stop, plan.target, plan.qty)[: len(kernel)]
        if kernel != engine:
            raise Disagreement(
                f"{d.symbol} at {as_of:%Y-%m-%d %H:%M} UTC: the kernel decides {', '.join(map(str, kernel))},"
                f" the engine {', '.join(map(str, engine))} ({', '.join(d.reasons)})"
            )

    def _mark(self, t: int, as_of: datetime, account: Account, rates: dict[str, Decimal]) -> None:
        """The point of the equity curve, as ``execution.book.mark`` writes it."""
        values: list[Decimal | None] = []
        sizes: list[Decimal] = []
        # as the ledger lists them: in another order a sum of 28 digits may end in another one
        for live in self._desk.open:
            if not live.held:
                continue
            rate, row = rates.get(live.row["currency"]), self._tape.newest(live.rows, t)
            value = None
            if rate is not None and row >= 0:
                held = live.held * (1 if live.row["side"] == "LONG" else -1)
                value = held * self._tape.stored_close(row) * live.row["multiplier"] * live.row["quote_unit"] * rate
                sizes.append(mark.size(value, live.row, self._settings, rates))
            values.append(value)
        known = [v for v in values if v is not None]
        gross, net = (sum(sizes, ZERO), sum(known, ZERO)) if len(known) == len(values) else (None, None)
        point = mark.row(self.ledger.book, self.ledger.run_id, as_of, account, gross, net, len(values))
        self.ledger.rows["mark"].append(point)
