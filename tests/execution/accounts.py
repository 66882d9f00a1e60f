"""Several books on one account: each a strategy of its own, at one broker that nets their positions."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.brokers.fake import Fake
from tests.execution.book import BROKERS, Book
from tests.execution.conftest import at, make_settings
from tests.execution.faults import Points

numbers = itertools.count(1)


@dataclass
class Strategy(Book):
    """A book that shares its account: what it holds is what its ledger says."""

    def held(self, symbol: str = "A") -> Decimal:
        rows = self.sql("SELECT qty FROM trading.position WHERE (book, symbol) = (:b, :s)", b=self.scope, s=symbol)
        return sum((r["qty"] for r in rows), Decimal(0))

    def equity(self) -> Decimal:
        (row,) = self.sql(
            "SELECT equity FROM trading.mark WHERE book = :b ORDER BY as_of DESC, mark_id DESC LIMIT 1", b=self.scope
        )
        return row["equity"]


def account(kind: str, folder: Any) -> Fake:
    """A broker's account with a number."""
    number = f"Fake {os.getpid()}x{next(numbers)}"
    return Fake(folder / number.replace(" ", "-"), at(20), BROKERS[kind], number)


def strategy(
    hub: Any, remote: Any, kind: str, folder: Any, share: str, instruments=("A",), **sections: Any
) -> Strategy:
    execution = {"share": share} | sections.pop("execution", {})
    settings = make_settings({s: {} for s in instruments}, execution=execution, **sections)
    return Strategy(hub, settings, kind, folder, at, remote=remote)


def sums(books: list[Strategy], symbol: str = "A") -> tuple[Decimal, Decimal]:
    """What the books' ledgers add up to, and what the broker holds."""
    theirs = books[0].remote.positions().get((symbol, "spot", ""), Decimal(0))
    return sum((b.held(symbol) for b in books), Decimal(0)), theirs


def beside(first: Strategy, share: str, **execution: Any) -> Strategy:
    """Another book on the account of ``first``, in the same instruments."""
    changed = first.settings.execution.model_copy(update={n: Decimal(v) for n, v in execution.items()})
    changed = changed.model_copy(update={"share": Decimal(share)})
    settings = first.settings.model_copy(update={"execution": changed})
    return Strategy(first.hub, settings, first.kind, first.folder, first.at, remote=first.remote, timeout=first.timeout)


class Killed(BaseException):
    """The process of a run ends."""


POINTS = ("before submit", "after submit", "before cancel", "after cancel")


class Dying(Points):
    """Ends the process at the n-th point of a name."""

    def __init__(self, name: str, nth: int) -> None:
        super().__init__()
        self.name, self.left = name, nth

    def pass_(self, name: str, conn: Any = None) -> None:
        super().pass_(name, conn)
        self.left -= name == self.name
        if not self.left:
            raise Killed


def struck(book: Strategy, day: int, name: str, nth: int = 1, *, surely: bool = True) -> None:
    """Runs until the n-th point of this name, such as "after submit", where the process ends."""
    points = Dying(name, nth)
    with suppress(Killed):
        book.run(day, points=points)
    assert points.left == 0 or not surely
