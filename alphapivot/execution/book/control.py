"""
What an operator orders, with who and why: the kill switch, and exits from single trades.

The newest entry for a book counts; ``*`` applies to all books but backtests (``bt-...``), which trade no money and must
be reproducible.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from sqlalchemy import Connection, text

from alphapivot.errors import DataError
from alphapivot.execution.book import ledger

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.hub import Hub

ControlState = Literal["ACTIVE", "REDUCE_ONLY", "HALTED"]
NEWEST = """
    SELECT state, reason, by, at, flatten FROM (
        SELECT DISTINCT ON (scope) state, reason, by, at, flatten FROM trading.control
        WHERE scope = :book OR (scope = '*' AND NOT starts_with(:book, 'bt-')) ORDER BY scope, control_id DESC
    ) newest
    ORDER BY array_position(ARRAY['HALTED', 'REDUCE_ONLY', 'ACTIVE'], state), flatten DESC, at DESC LIMIT 1
"""

OUTSTANDING = """
    SELECT r.trade_id, 'close ' || r.request_id AS reason, r.qty, r.by, r.at, r.reason AS why
    FROM trading.close_request r JOIN trading.trade t USING (trade_id)
    WHERE t.book = :book AND t.state <> 'CLOSED' AND NOT EXISTS (
        SELECT FROM trading.orders o JOIN trading.order_event v USING (client_order_id)
        WHERE o.trade_id = r.trade_id AND o.leg = 'EXIT' AND v.reason = 'close ' || r.request_id)
    ORDER BY r.trade_id, r.request_id
"""


@dataclass(frozen=True)
class Control:
    """
    The state of trading. ACTIVE: everything is allowed; REDUCE_ONLY and HALTED: nothing that adds exposure, but exits
    and protection. ``flatten``: every open trade exits at market.
    """

    state: ControlState
    reason: str
    by: str
    at: datetime | None
    flatten: bool = False


def state(conn: Connection | psycopg.Connection, book: str) -> Control:
    """The stricter of the newest entries for ``book`` and for all books; ACTIVE if there is none."""
    parameters = {"book": book}
    row: Any
    if isinstance(conn, psycopg.Connection):
        row = conn.execute(NEWEST.replace(":book", "%(book)s"), parameters).fetchone()
    else:
        row = conn.execute(text(NEWEST), parameters).one_or_none()
    return Control("ACTIVE", "never halted", "nobody", None) if row is None else Control(*row)


def halt(hub: Hub, book: str, reason: str, by: str, *, reduce_only: bool = False, flatten: bool = False) -> Control:
    """
    Blocks entries in ``book`` (``*``: in all) until someone resumes; the next run cancels resting entries. Stops stay
    in place; with ``flatten`` the next run exits every trade at market. A run in progress obeys too.
    """
    return _set(hub, book, "REDUCE_ONLY" if reduce_only else "HALTED", reason, by, flatten=flatten)


def resume(hub: Hub, book: str, reason: str, by: str) -> Control:
    """Allows entries again. A halt of all books (``*``) is lifted only by resuming ``*``."""
    return _set(hub, book, "ACTIVE", reason, by)


def _set(hub: Hub, book: str, new: ControlState, reason: str, by: str, *, flatten: bool = False) -> Control:
    _signed(reason, by)
    with hub.engine.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO trading.control (scope, state, reason, by, flatten)"
                " VALUES (:book, :state, :reason, :by, :flatten)"
            ),
            {"book": book, "state": new, "reason": reason, "by": by, "flatten": flatten},
        )
        return state(conn, book)


@dataclass(frozen=True)
class Exit:
    """An exit that an operator asked for. ``reason``: of the exit order; ``qty``: None for the whole trade."""

    reason: str
    qty: Decimal | None = None


def exits(conn: Connection, book: str) -> dict[int, Exit]:
    """trade_id -> its oldest request without an exit order; once there is one, its states tell the rest."""
    rows = conn.execute(text(OUTSTANDING), {"book": book})
    found: dict[int, Exit] = {}
    for row in rows:
        found.setdefault(row.trade_id, Exit(row.reason, row.qty))
    return found


def close(hub: Hub, book: str, symbol: str, qty: Decimal | None, terms: Instrument, reason: str, by: str) -> str:
    """
    Asks the next run to close the open trade in ``symbol`` at market: ``qty`` of it, a multiple of its lot by
    ``terms``, or all of it. A trade that has not entered loses its entry. Returns what was asked.

    Raises DataError if there is no such trade, or not that much of it, or if a request for it waits already: one of a
    part may still be followed by one of all.
    """
    _signed(reason, by)
    with hub.engine.begin() as conn:
        trades = [t for t in ledger.open_trades(conn, book) if t["symbol"] == symbol and not t["rolled"]]
        if not trades:
            symbols = ", ".join(sorted({t["symbol"] for t in ledger.open_trades(conn, book)}))
            raise DataError(f"book {book!r} has no open trade in {symbol!r}; open trades: {symbols or 'none'}")
        (trade,) = trades
        held, lot = trade["entry_qty"] - trade["exit_qty"], terms.of(trade["contract"], trade["as_of"]).lot
        if qty is not None and not (qty.is_finite() and 0 < qty <= held and qty % lot == 0):
            raise DataError(f"{symbol}: --qty must be a multiple of {lot:f} up to {held:f}, which is open; got {qty}")
        part = None if qty == held else qty
        waiting = [r for r in conn.execute(text(OUTSTANDING), {"book": book}) if r.trade_id == trade["trade_id"]]
        if waiting and (waiting[-1].qty is None or part is not None):
            last = waiting[-1]
            raise DataError(
                f"{symbol}: a close of {'all' if last.qty is None else f'{last.qty:f}'} waits for the next run already,"
                f" asked by {last.by} at {last.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {last.why}"
            )
        query = """
            INSERT INTO trading.close_request (trade_id, qty, reason, by) VALUES (:trade_id, :qty, :reason, :by)
        """
        conn.execute(text(query), {"trade_id": trade["trade_id"], "qty": part, "reason": reason, "by": by})
        if not held:
            return f"the entry of trade {trade['trade_id']} in {symbol}, which has not filled, is to be cancelled"
        return f"{held if part is None else part:f} of trade {trade['trade_id']} in {symbol} are to be closed at market"


def _signed(reason: str, by: str) -> None:
    if not reason.strip() or not by.strip():
        raise ValueError(f"an operator's order needs a reason and a name, got reason {reason!r} by {by!r}")
