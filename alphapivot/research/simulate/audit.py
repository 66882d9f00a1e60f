"""
The trading engine over parts of a backtest that was traded in memory: both must do the same, row by row.

A part begins with the book as it was then, written under another name; the engine trades it there, bar by bar, with its
own reads of bars and scores, as live. All of it is one transaction, rolled back at the end. If the two differ, both
books of these instants stay to be looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sqlalchemy import text

from alphapivot.execution.book import ledger, orders
from alphapivot.hub.pinned import Pinned
from alphapivot.hub.tables import backtests
from alphapivot.research.backtest import driver
from alphapivot.research.backtest.market import BarRange
from alphapivot.research.simulate.account import PaperAccount, Stored
from alphapivot.research.simulate.ledger import Ledger
from alphapivot.research.simulate.live import Disagreement
from alphapivot.research.simulate.write import write

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.execution.book.ledger import Row
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef

WINDOWS, INSTANTS = 4, 10  # sampled parts, and the instants of each
SHARE = 100  # at least one instant in so many is audited
USED = "SELECT count(*) FROM trading.lease WHERE book = :book OR starts_with(book, :book || '-')"


class Until(NamedTuple):
    """What a book had at one instant: its closed trades, and how many decisions and marks."""

    closed: frozenset[int]
    decisions: int
    marks: int

    @classmethod
    def now(cls, book: Ledger, *, closed: bool) -> Until:
        """``closed``: closed trades count as open, as pauses after losses look back at them."""
        trades = (t["trade_id"] for t in book.rows["trade"] if t["state"] == "CLOSED" and not closed)
        return cls(frozenset(trades), len(book.rows["decision"]), len(book.rows["mark"]))


@dataclass
class Photo:
    """A copy of what matters of a book at one instant."""

    rows: Mapping[str, Sequence[Row]]
    account: Stored

    @classmethod
    def of(cls, book: Ledger, account: PaperAccount, since: Until) -> Photo:
        """The rows of the trades that were open at ``since`` or came later, and the book's own."""
        return cls(book.rows, account.stored()).part(since).copied()

    def copied(self) -> Photo:
        """The same, whose rows do not change any more."""
        account = self.account
        copied = Stored(
            dict(account.row),
            [dict(row) for row in account.positions],
            {i: dict(row) for i, row in account.orders.items()},
            [dict(row) for row in account.actions],
        )
        return Photo({table: [dict(row) for row in rows] for table, rows in self.rows.items()}, copied)

    def part(self, since: Until) -> Photo:
        """Without what had ended at ``since``."""
        trades = [t for t in self.rows.get("trade", ()) if t["trade_id"] not in since.closed]
        kept = {t["trade_id"] for t in trades}
        decisions = self.rows.get("decision", ())
        old = {d["decision_id"] for d in decisions[: since.decisions]}
        used = {t["intent_id"] for t in trades}
        orders_ = [o for o in self.rows.get("orders", ()) if o["trade_id"] in kept]
        used |= {o["intent_id"] for o in orders_}
        ids = {o["client_order_id"] for o in orders_}
        intents = [i for i in self.rows.get("intent", ()) if i["intent_id"] in used or i["decision_id"] not in old]
        decided = {i["decision_id"] for i in intents}
        by_order = {
            name: [r for r in self.rows.get(name, ()) if r["client_order_id"] in ids]
            for name in ("order_event", "fill")
        }
        rows: dict[str, Sequence[Row]] = {
            "decision": [d for d in decisions if d["decision_id"] in decided or d["decision_id"] not in old],
            "intent": intents,
            "trade": trades,
            "orders": orders_,
            **by_order,
            "adjustment": [a for a in self.rows.get("adjustment", ()) if a["trade_id"] in kept],
            "mark": self.rows.get("mark", ())[since.marks :],
            **{name: self.rows.get(name, ()) for name in ("risk_day", "risk_trip", "control")},
        }
        account = Stored(
            self.account.row,
            [p for p in self.account.positions if p["qty"] or any(_rests(o, p) for o in self.account.orders.values())],
            {i: o for i, o in self.account.orders.items() if i in ids},
            list(self.account.actions),
        )
        return Photo(rows, account)

    def named(self, book: str, strategy: str, fence: int) -> Photo:
        """The same as the book ``book``, with the ids that its orders would have there."""
        ids = {
            o["client_order_id"]: orders.order_id(
                book, strategy, o["symbol"], o["as_of"], o["leg"], version=o["version"]
            )
            for o in self.rows["orders"]
        }

        def renamed(row: Row) -> Row:
            changed = dict(row)
            for name in ("client_order_id", "bracket"):
                if changed.get(name) is not None:
                    changed[name] = ids[changed[name]]
            for name in ("book", "scope"):
                if name in changed:
                    changed[name] = book
            return changed | ({"fence": fence} if "fence" in changed else {})

        account = Stored(
            renamed(self.account.row),
            [renamed(p) for p in self.account.positions],
            {ids[i]: renamed(o) for i, o in self.account.orders.items()},
            [renamed(a) for a in self.account.actions],
        )
        return Photo({table: [renamed(r) for r in rows] for table, rows in self.rows.items()}, account)


def _rests(order: Row, position: Row) -> bool:
    return order["state"] in ("HELD", "WORKING") and all(
        order[name] == position[name] for name in ("symbol", "market", "contract")
    )


def windows(instants: int) -> list[tuple[int, int]]:
    """Sampled parts of a backtest, as ranges of its instants: always the same for the same number; apart."""
    length = max(INSTANTS, instants // (SHARE * WINDOWS))
    if instants <= WINDOWS * length:
        return [(0, instants)]
    edges = np.linspace(0, instants, WINDOWS + 1).astype(int)
    rng = np.random.default_rng(instants)
    return [
        (begin, begin + length)
        for a, b in itertools.pairwise(edges)
        for begin in [int(rng.integers(a, b - length + 1))]
    ]


def compare(
    hub: Hub, run: RunRef, settings: Settings, instants: Sequence[datetime], before: Photo, after: Photo
) -> None:
    """
    Trades ``instants`` with the engine from the book ``before`` on; raises Disagreement unless it ends as ``after``,
    which has what came since.
    """
    strategy, name = settings.execution.strategy, f"{settings.execution.book}-engine"
    with Pinned(hub.url) as desk:
        with desk.engine.begin() as conn:
            name += str(conn.execute(text(USED), {"book": name}).scalar_one() or "")
            desk.driver.execute("SAVEPOINT expected")
            expected = _stored(desk, after, f"{name}-expected", strategy)
            desk.driver.execute("ROLLBACK TO SAVEPOINT expected")
            fence = ledger.raise_fence(conn, name)
            write(desk.driver, *_parts(before.named(name, strategy, fence)))
        trading = settings.execution.model_copy(update={"book": name})
        book = driver.Book(desk, run, settings.model_copy(update={"execution": trading}))
        since = book.held_since()
        bars = BarRange(hub, run, settings, after=instants[0], until=instants[-1], held_since=since)
        for as_of in instants:
            bars.at(as_of)
            book.decide(bars, None, as_of)
        book.write_marks()
        found = _rows(desk, name)
        difference = first_difference(expected, found)
        if difference is not None:
            _stored(desk, after, f"{name}-kernel", strategy)
            desk.commit()
            raise Disagreement(
                f"the trading engine does not do what the backtest did from {instants[0]:%Y-%m-%d %H:%M} to"
                f" {instants[-1]:%Y-%m-%d %H:%M} UTC: {difference}. This backtest has no result: `--engine live` trades"
                f" it with the engine. Its book of these instants is {name}, the kernel's {name}-kernel: please report"
            )


def _parts(photo: Photo) -> tuple[Mapping[str, Sequence[Row]], Stored]:
    return photo.rows, photo.account


def _stored(desk: Pinned, photo: Photo, name: str, strategy: str) -> dict[str, list[Row]]:
    """The rows of a book as the database has them."""
    with desk.engine.begin() as conn:
        fence = ledger.raise_fence(conn, name)
        write(desk.driver, *_parts(photo.named(name, strategy, fence)))
    return _rows(desk, name)


def _rows(desk: Pinned, book: str) -> dict[str, list[Row]]:
    with desk.engine.begin() as conn:
        found = {
            name: [dict(row) for row in conn.execute(text(query), {"book": book}).mappings()]
            for name, query in backtests.RESULTS.items()
        }
    for row in found["decision"]:
        del row["terms"]  # of what the pillars said; the engine is not asked for them here
    return found


def first_difference(expected: Mapping[str, Sequence[Row]], found: Mapping[str, Sequence[Row]]) -> str | None:
    """The first row that differs, of the trades first; None if all are the same."""
    for name in ("trade", "fill", "order", "decision", "mark"):
        for one, other in itertools.zip_longest(expected[name], found[name]):
            if one == other:
                continue
            row: dict[str, Any] = one or other or {}
            columns = [c for c in row if one is None or other is None or one[c] != other[c]]
            where = ", ".join(str(row[c]) for c in ("as_of", "ts", "symbol", "leg") if c in row)
            what = "; ".join(
                f"{c} {None if one is None else one[c]}, the engine {None if other is None else other[c]}"
                for c in columns[:4]
            )
            return f"{name} of {where}: {what}"
    return None
