"""What losses are measured against, and the halt when one reaches its limit: rows of a book in memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from alphapivot.execution.decide import limits
from alphapivot.execution.decide.facts import Standing
from alphapivot.research.backtest.driver import RESUMED

if TYPE_CHECKING:
    from alphapivot.brokers.base import Account
    from alphapivot.config.sections.trading import RiskSettings
    from alphapivot.research.simulate.ledger import Ledger

ZERO = Decimal(0)


@dataclass
class RiskDay:
    """The risk day of a book, as ``execution.book.day`` and ``positions_now`` keep it."""

    settings: RiskSettings
    ledger: Ledger
    day: date | None = None
    start: Decimal = ZERO  # equity
    equity: Decimal = ZERO  # the newest
    before: Decimal = ZERO  # the highest equity that a day before ended with, since the last halt
    tripped: date | None = None
    halted: bool = False  # until the next risk day

    @property
    def peak(self) -> Decimal:
        return max(self.before, self.equity)

    def begin(self, as_of: datetime) -> None:
        """A loss halts a book until an operator resumes it; here it resumes on the next risk day."""
        if self.halted and self.tripped is not None and limits.risk_day(as_of, self.settings) > self.tripped:
            self._control("ACTIVE", RESUMED, "backtest")
            self.halted = False

    def see(self, as_of: datetime, account: Account) -> None:
        """The account as seen at ``as_of``: opens a risk day or brings its row up to date."""
        day, rows = limits.risk_day(as_of, self.settings), self.ledger.rows["risk_day"]
        seen = rows[-1] if rows else None
        now = {"equity": account.equity, "cash": account.cash}
        if day != self.day:
            if self.day is None or self.day != self.tripped:
                self.before = max(self.before, self.equity)
            self.day, self.start = day, account.equity if seen is None else seen["equity"]
            opened = {"book": self.ledger.book, "day": day, "currency": account.currency, "messages": 0}
            opened |= {"start_equity": self.start, "start_at": as_of if seen is None else seen["seen_at"]}
            rows.append(opened | now | {"seen_at": as_of})
        elif seen is not None and {name: seen[name] for name in now} != now:
            seen |= now | {"seen_at": as_of}
        self.equity = account.equity

    def standing(self, account: Account) -> Standing:
        state = "REDUCE_ONLY" if self.halted else "ACTIVE"
        return Standing(account, self.start, state, peak_equity=self.peak)  # type: ignore[arg-type]

    def breached(self, account: Account) -> tuple[str, str] | None:
        return limits.breached(self.standing(account), self.settings)

    def trip(self, as_of: datetime, account: Account, breach: tuple[str, str]) -> None:
        """Halts the book; losses are measured from here on."""
        gate, message = breach
        row = {"book": self.ledger.book, "as_of": as_of, "day": self.day, "gate": gate, "equity": account.equity}
        self.ledger.rows["risk_trip"].append(row | {"message": message, "run_id": self.ledger.run_id})
        if not self.halted:
            self._control("REDUCE_ONLY", f"{gate}: {message}", "risk limits")
        remedy = "entries are blocked until someone runs `alphapivot resume --reason TEXT`"
        self.ledger.note(as_of, "halted", None, None, f"{gate}: {message}; {remedy}")
        self.start, self.tripped, self.halted, self.before = account.equity, self.day, True, ZERO

    def _control(self, state: str, reason: str, by: str) -> None:
        self.ledger.rows["control"].append({"scope": self.ledger.book, "state": state, "reason": reason, "by": by})
