"""What the parts of one executor run share: where they work, with which fence, and what they tell a person."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import psycopg
from sqlalchemy import Connection

from alphapivot.brokers.base import Account, Broker, Key
from alphapivot.errors import Unavailable
from alphapivot.execution.book import control, day, ledger
from alphapivot.execution.decide import limits
from alphapivot.execution.decide.facts import Decision

if TYPE_CHECKING:
    from alphapivot.brokers.base import Event
    from alphapivot.clock import Clock
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.execution.decide.facts import Quote
    from alphapivot.execution.market.source import Source
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef


@dataclass
class TradeReport:
    """What a run did, for a person and for the caller."""

    run_id: str
    book: str
    as_of: datetime
    busy: bool = False  # another executor has the book; nothing was done
    stale: bool = False  # the book has decided for a later instant; nothing was done
    decisions: list[Decision] = field(default_factory=list)  # those made now: none when they stood already
    sent: list[str] = field(default_factory=list)  # client_order_ids that the broker accepted
    fills: int = 0
    closed: int = 0
    account: Account | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Session:
    """One run that holds its book's lock on ``lock``, a connection of its own. ``rates``: currency -> the account's."""

    hub: Hub
    run: RunRef
    settings: Settings
    clock: Clock
    broker: Broker
    lock: psycopg.Connection | Connection
    fence: int
    report: TradeReport
    source: Source
    rates: Mapping[str, Decimal] = field(default_factory=dict)
    pause: Callable[[float], None] = time.sleep
    home: str = ""  # the account's currency
    skew: str | None = None  # why the broker's clock and ours cannot both be right
    attended: Sequence[str] = ()  # the symbols about which there is something to decide
    bars: pd.DataFrame | None = None  # of the run's window, each with its ``start``
    rolls: pd.DataFrame | None = None
    actions: pd.DataFrame | None = None  # splits and dividends of the window
    events: Sequence[Event] = ()  # the same, of what is held
    priced: tuple[Mapping[str, str], Mapping[str, Quote]] | None = None  # fronts and quotes, once they were made
    apart: set[str] = field(default_factory=set)  # symbols in which nothing is sent: the broker follows a split yet
    uncounted: int = 0  # messages of this run that wait for the risk day to be opened
    _hours: dict[Key, bool] = field(default_factory=dict)

    @property
    def book(self) -> str:
        return self.settings.execution.book

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        return self.settings.instruments

    @property
    def interval(self) -> str:
        return self.settings.timeframes.base

    @property
    def day(self) -> date:
        """The risk day of this run."""
        return limits.risk_day(self.run.as_of, self.settings.risk)

    def control(self) -> control.Control:
        """
        The kill switch as it stands now, asked on the connection that holds the lock: where that is lost somebody else
        may be at work, and the run ends with Unavailable before its next send.
        """
        try:
            return control.state(self.lock, self.book)
        except psycopg.OperationalError as error:
            raise Unavailable(
                f"the connection that holds the lock of book {self.book!r} was lost: the run ends before its next send"
            ) from error

    def alive(self) -> None:
        """Raises Unavailable where the lock is lost; asked before each message to the broker."""
        self.control()

    def refusal(self, leg: str) -> str | None:
        """Why an order may not be sent now, as a reason code; asked before each. Exits and protection always may."""
        word = self.control().state
        if leg != "ENTRY":
            return None
        if word != "ACTIVE":
            return word.lower()
        return "clock_skew" if self.skew is not None else None

    def is_open(self, key: Key) -> bool:
        """Does its market take orders now, or the broker in its place?"""
        if key not in self._hours:
            self._hours[key] = self.broker.caps.queues_for_open or self.broker.session(key).open
        return self._hours[key]

    def touched(self, trade: Mapping[Any, Any]) -> bool:
        """Has a bar that opened after the entry reached the target?"""
        if trade["entry_at"] is None or self.bars is None:
            return False
        bars = self.bars
        key = (trade["symbol"], trade["market"], trade["contract"])
        mine = (bars["symbol"] == key[0]) & (bars["market"] == key[1]) & (bars["contract"] == key[2])
        since = bars[mine & (bars["start"] >= max(trade["entry_at"], trade["adjusted_at"] or trade["entry_at"]))]
        target = float(trade["target"])
        return bool((since["high"] >= target).any() if trade["side"] == "LONG" else (since["low"] <= target).any())

    def block(self, conn: Connection, reasons: Mapping[str, str]) -> None:
        """Locks symbols until a person clears them: symbol -> why."""
        fresh = ledger.lock(conn, self.book, reasons, self.clock.now()) if reasons else []
        self.note(conn, [("locked", symbol, None, reasons[symbol]) for symbol in fresh])
        self.report.notes += [f"{symbol} is locked: {reasons[symbol]}" for symbol in fresh]

    def count(self, conn: Connection, messages: int = 0) -> None:
        """Messages to the broker, orders, replacements and cancels alike, are kept with the risk day."""
        self.uncounted += messages
        if self.uncounted and day.count_messages(conn, self.book, self.day, self.uncounted):
            self.uncounted = 0

    def note(self, conn: Connection, lines: Sequence[tuple[str, str | None, str | None, str]]) -> None:
        """Journal lines: (kind, symbol, client_order_id, message)."""
        ledger.note(conn, lines, book=self.book, run_id=self.run.run_id, as_of=self.run.as_of, now=self.clock.now())
