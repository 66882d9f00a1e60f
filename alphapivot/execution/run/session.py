"""The state that the parts of one executor run share, and its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
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
    """What a run did, for the operator and for the caller."""

    run_id: str
    book: str
    as_of: datetime
    busy: bool = False  # another executor has the book; nothing was done
    stale: bool = False  # the book has decided for a later instant; nothing was done
    decisions: list[Decision] = field(default_factory=list)  # made by this run; empty if they existed already
    sent: list[str] = field(default_factory=list)  # client_order_ids that the broker accepted
    fills: int = 0
    closed: int = 0
    account: Account | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Session:
    """One run that holds its book's lock on connection ``lock``. ``rates``: currency -> account currency per unit."""

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
    number: str | None = None  # the account's number; None: it belongs to this book by nature
    skew: str | None = None  # message if the broker's clock and ours differ too much
    ahead: str | None = None  # message if the book has decided for an instant that has not come
    attended: Sequence[str] = ()  # symbols with something to decide
    bars: pd.DataFrame | None = None  # of the run's window, each with its ``start``
    rolls: pd.DataFrame | None = None
    actions: pd.DataFrame | None = None  # splits and dividends of the window
    events: Sequence[Event] = ()  # the same, of held symbols only
    priced: tuple[Mapping[str, str], Mapping[str, Quote]] | None = None  # fronts and quotes, once computed
    apart: set[str] = field(default_factory=set)  # symbols blocked until the broker has booked a split
    tripped: bool = False  # a loss has reached its limit in this run
    uncounted: int = 0  # messages sent before the risk day was opened
    refused: set[str] = field(default_factory=set)  # client_order_ids that the broker rejected in this run
    _hours: dict[Key, bool] = field(default_factory=dict)

    @property
    def book(self) -> str:
        return self.settings.execution.book

    @cached_property
    def instruments(self) -> Mapping[str, Instrument]:
        """symbol -> its terms for orders that are sent in this run."""
        return {symbol: i.trading(self.run.as_of) for symbol, i in self.settings.instruments.items()}

    @property
    def interval(self) -> str:
        return self.settings.timeframes.base

    @property
    def day(self) -> date:
        """The risk day of this run."""
        return limits.risk_day(self.run.as_of, self.settings.risk)

    def control(self) -> control.Control:
        """
        The current kill switch, read on the connection that holds the lock. Raises Unavailable if that connection is
        lost: another executor may have started, so the run ends before its next send.
        """
        try:
            return control.state(self.lock, self.book)
        except psycopg.OperationalError as error:
            raise Unavailable(
                f"the connection that holds the lock of book {self.book!r} was lost: the run ends before its next send"
            ) from error

    def alive(self) -> None:
        """Raises Unavailable if the lock is lost; called before each message to the broker."""
        self.control()

    def refusal(self, leg: str) -> str | None:
        """The reason code that blocks an order now, or None; called before each send. Exits and protection pass."""
        state = self.control().state
        if leg != "ENTRY":
            return None
        if state != "ACTIVE":
            return state.lower()
        return None if self.ahead is None else "decided_ahead"

    def is_open(self, key: Key) -> bool:
        """True if the market takes orders now, or the broker queues them."""
        if key not in self._hours:
            self._hours[key] = self.broker.caps.queues_for_open or self.broker.session(key).open
        return self._hours[key]

    def touched(self, trade: Mapping[Any, Any]) -> bool:
        """True if a bar that opened after the entry reached the target."""
        if trade["entry_at"] is None or self.bars is None:
            return False
        bars = self.bars
        key = (trade["symbol"], trade["market"], trade["contract"])
        of_contract = (bars["symbol"] == key[0]) & (bars["market"] == key[1]) & (bars["contract"] == key[2])
        since = bars[of_contract & (bars["start"] >= max(trade["entry_at"], trade["adjusted_at"] or trade["entry_at"]))]
        target = float(trade["target"])
        return bool((since["high"] >= target).any() if trade["side"] == "LONG" else (since["low"] <= target).any())

    def block(self, conn: Connection, reasons: Mapping[str, str]) -> None:
        """Locks symbols (symbol -> reason) until someone runs `alphapivot unlock`."""
        fresh = ledger.lock(conn, self.book, reasons, self.clock.now()) if reasons else {}
        self.note(conn, [("locked", symbol, None, reason) for symbol, reason in fresh.items()])
        self.tell(*(f"{symbol} is locked: {reason}" for symbol, reason in fresh.items()))

    def tell(self, *notes: str) -> None:
        """Adds what the report does not say yet."""
        self.report.notes += [n for n in dict.fromkeys(notes) if n not in self.report.notes]

    def count(self, conn: Connection, messages: int = 0) -> None:
        """Adds messages to the broker (orders, replaces, cancels) to the risk day's count."""
        self.uncounted += messages
        if self.uncounted and day.count_messages(conn, self.book, self.day, self.uncounted):
            self.uncounted = 0

    def note(self, conn: Connection, lines: Sequence[tuple[str, str | None, str | None, str]]) -> None:
        """Writes journal lines: (kind, symbol, client_order_id, message)."""
        ledger.note(conn, lines, book=self.book, run_id=self.run.run_id, as_of=self.run.as_of, now=self.clock.now())
