"""What the parts of one executor run share: where they work, with which fence, and what they tell a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy import Connection

from alphapivot.brokers.base import Account, Broker
from alphapivot.errors import Unavailable
from alphapivot.execution import control, ledger
from alphapivot.execution.decide import Decision

if TYPE_CHECKING:
    from alphapivot.clock import Clock
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef
    from alphapivot.settings import Instrument, Settings

IN_FLIGHT = ("CREATED", "PENDING_NEW", "UNKNOWN")  # the broker may or may not have such an order


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
    lock: psycopg.Connection
    fence: int
    report: TradeReport
    rates: Mapping[str, Decimal] = field(default_factory=dict)

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
        return self.run.as_of.astimezone(UTC).date()

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

    def block(self, conn: Connection, reasons: Mapping[str, str]) -> None:
        """Locks symbols until a person clears them: symbol -> why."""
        fresh = ledger.lock(conn, self.book, reasons, self.clock.now()) if reasons else []
        self.note(conn, [("locked", symbol, None, reasons[symbol]) for symbol in fresh])
        self.report.notes += [f"{symbol} is locked: {reasons[symbol]}" for symbol in fresh]

    def note(self, conn: Connection, lines: Sequence[tuple[str, str | None, str | None, str]]) -> None:
        """Journal lines: (kind, symbol, client_order_id, message)."""
        ledger.note(conn, lines, book=self.book, run_id=self.run.run_id, as_of=self.run.as_of, now=self.clock.now())
