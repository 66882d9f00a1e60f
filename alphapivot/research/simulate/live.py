"""An open trade of a book in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from alphapivot.errors import DataError
from alphapivot.execution.book.states import TERMINAL

if TYPE_CHECKING:
    from alphapivot.brokers.base import Key
    from alphapivot.execution.book.ledger import Row

ZERO = Decimal(0)


class Disagreement(DataError):  # noqa: N818 - what it is
    """The screening kernel and the trading engine disagree about a trade."""


@dataclass
class Live:
    """A trade that is not closed: its row in ``trading.trade``, and the newest order of each leg."""

    row: Row
    key: Key
    rows: Sequence[int]  # of its contract's bars, oldest first
    as_of: datetime
    distance: Decimal
    first_stop: Decimal
    legs: dict[str, Row]  # ENTRY, STOP, TARGET, and EXIT and ADD (an addition) once there is one
    number: int  # of the kernel's trade
    first_qty: Decimal | None = None  # of a roll: what was entered at first
    cash: Decimal = ZERO  # of its fills, after fees
    bought: Decimal = ZERO  # quantity x price of the entries' fills
    added: Decimal = ZERO  # quantity of the additions' fills
    added_cost: Decimal = ZERO  # x price
    sold: Decimal = ZERO  # of the exits' fills

    @property
    def bracket(self) -> str:
        return str(self.legs["ENTRY"]["client_order_id"])

    @property
    def held(self) -> Decimal:
        return Decimal(self.row["entry_qty"] - self.row["exit_qty"])

    @property
    def exiting(self) -> bool:
        return "EXIT" in self.legs and self.legs["EXIT"]["state"] not in TERMINAL

    @property
    def adding(self) -> bool:
        return "ADD" in self.legs and self.legs["ADD"]["state"] not in TERMINAL

    def facts(self) -> Row:
        """The row as ``ledger.open_trades`` has it."""
        entry, newest = self.legs["ENTRY"], self.legs.get("ADD", self.legs["ENTRY"])
        return {
            **self.row,
            "as_of": self.as_of,
            "distance": self.distance / self.row["ratio"],
            "first_stop": self.first_stop,
            "first_qty": (entry["cum_qty"] if self.first_qty is None else self.first_qty) * self.row["ratio"],
            "added": self.added,
            "added_cost": self.added_cost,
            "coming": newest["qty"] - newest["cum_qty"] if newest["state"] not in TERMINAL else ZERO,
            "entering": newest["state"] not in TERMINAL,
            "entries": newest["version"],
            "exits": self.legs["EXIT"]["version"] if "EXIT" in self.legs else 0,
            "exiting": self.exiting,
        }
